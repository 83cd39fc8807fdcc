"""Delivery by DICOMweb: every answer has its event, nothing counts as stored that was not listed, no secret is told."""

from __future__ import annotations

import base64
import time
from io import BytesIO
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom import Dataset, dcmread
from pydicom.uid import SurfaceSegmentationStorage

from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import CaseState, DeliveryEvent
from dicom_node.cli.check import check_all
from dicom_node.deliver.outgoing import OutgoingObject
from dicom_node.deliver.probe import probe
from dicom_node.deliver.store_status import result_of_status, result_of_web_answer
from dicom_node.deliver.stow_client import send_by_web
from dicom_node.dicom.web_client import WebAnswer
from dicom_node.reasons import SettingsError
from dicom_node.settings import load_settings
from tests.builders.ct_series import abdomen
from tests.builders.result_case import case_on_disk
from tests.deliver.destinations import (
    audit_events,
    case_state,
    deliver_round,
    deliveries,
    end_backoff,
    free_port,
    proven_case,
    settings_for,
)
from tests.deliver.web_services import Answer, listing, stored, web_destination, web_service
from tests.end_to_end.orthanc import Orthanc


def test_a_case_is_delivered_object_by_object_as_it_was_proven(catalog: Catalog, tmp_path: Path) -> None:
    with web_service() as pacs:
        settings = settings_for(tmp_path, web_destination(pacs.url))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings) == {DeliveryEvent.DELIVERED: 2}
    assert case_state(catalog, case) == CaseState.DELIVERED
    files = [dcmread(settings.node.spool / "results" / case / f"{kind}.dcm") for kind in ("seg", "surface")]
    assert pacs.received == files
    assert [one.file_meta.TransferSyntaxUID for one in pacs.received] == [
        one.file_meta.TransferSyntaxUID for one in files
    ]
    assert [row.event for row in audit_events(catalog, case)] == ["DELIVERED", "DELIVERED"]
    host = {each["Host"] for each in pacs.headers}
    assert host == {pacs.url.split("/")[2]}, "with its port, which dicomweb-client leaves out"


def test_an_answer_with_parameters_in_its_media_type_or_in_xml_is_read(catalog: Catalog, tmp_path: Path) -> None:
    def in_xml(dataset: Dataset) -> Answer:
        names = (("00081150", "ReferencedSOPClassUID"), ("00081155", "ReferencedSOPInstanceUID"))
        values = (dataset.SOPClassUID, dataset.SOPInstanceUID)
        item = "".join(
            f'<DicomAttribute tag="{tag}" vr="UI" keyword="{name}"><Value number="1">{value}</Value></DicomAttribute>'
            for (tag, name), value in zip(names, values, strict=True)
        )
        start = '<DicomAttribute tag="00081199" vr="SQ" keyword="ReferencedSOPSequence"><Item number="1">'
        body = f"<NativeDicomModel>{start}{item}</Item></DicomAttribute></NativeDicomModel>"
        return Answer(200, body.encode(), "application/dicom+xml")

    def by_turns(dataset: Dataset) -> Answer:
        if dataset.SOPClassUID == SurfaceSegmentationStorage:
            return in_xml(dataset)
        return Answer(200, listing(dataset), "application/dicom+json; charset=utf-8")

    with web_service(by_turns) as pacs:
        settings = settings_for(tmp_path, web_destination(pacs.url))
        proven_case(catalog, settings)
        assert deliver_round(catalog, settings) == {DeliveryEvent.DELIVERED: 2}


def test_of_a_partial_acceptance_each_object_has_its_own_end(catalog: Catalog, tmp_path: Path) -> None:
    def only_seg(dataset: Dataset) -> Answer:
        unknown = dataset.SOPClassUID == SurfaceSegmentationStorage
        return Answer(409, listing(dataset, failure=0x0122)) if unknown else stored(dataset)

    with web_service(only_seg) as pacs:
        settings = settings_for(tmp_path, web_destination(pacs.url))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings) == {DeliveryEvent.DELIVERED: 1, DeliveryEvent.NOT_ACCEPTED: 1}
    assert case_state(catalog, case) == CaseState.DELIVERED
    assert deliveries(catalog, case)[1].last_error == (
        "pacs does not accept Surface Segmentation Storage: SOP class not supported (0x0122)"
    )


@pytest.mark.parametrize("reason", [0x0110, 0x0117, 0x0122, 0x0124, 0xA700, 0xA900, 0xC000, 0xFE00])
def test_a_listed_failure_means_what_the_same_status_of_c_store_means(reason: int) -> None:
    for http_status in (200, 202, 409):
        assert result_of_web_answer(WebAnswer(http_status, failure=reason)) == result_of_status(reason)


@pytest.mark.parametrize("http_status", [*range(100, 600), 999, 0])
def test_nothing_that_was_not_listed_as_stored_is_delivered(http_status: int) -> None:
    delivered = {DeliveryEvent.DELIVERED, DeliveryEvent.DELIVERED_WITH_WARNING}
    assert result_of_web_answer(WebAnswer(http_status)).event not in delivered
    assert result_of_web_answer(WebAnswer(http_status, failure=0)).event not in delivered
    listed = result_of_web_answer(WebAnswer(http_status, stored=True)).event in delivered
    assert listed == (200 <= http_status <= 299)


@pytest.mark.parametrize(
    ("answer", "event", "reached"),
    [
        (Answer(200, b"<html>log in</html>", "text/html"), DeliveryEvent.TRY_AGAIN, True),
        (Answer(200, b"{broken", "application/dicom+json"), DeliveryEvent.TRY_AGAIN, True),
        (Answer(200, b'[{"00081199": 5}]', "application/dicom+json"), DeliveryEvent.TRY_AGAIN, True),
        (Answer(200, b"<broken", "application/dicom+xml"), DeliveryEvent.TRY_AGAIN, True),
        (Answer(200, b""), DeliveryEvent.TRY_AGAIN, True),
        (Answer(200, None), DeliveryEvent.TRY_AGAIN, True),
        (Answer(302, b"", headers=(("Location", "/login"),)), DeliveryEvent.TRY_AGAIN, False),
        (Answer(401), DeliveryEvent.TRY_AGAIN, False),
        (Answer(503), DeliveryEvent.TRY_AGAIN, False),
        (Answer(500), DeliveryEvent.TRY_AGAIN, True),
        (Answer(400), DeliveryEvent.REFUSED, True),
        (Answer(403), DeliveryEvent.REFUSED, True),
        (Answer(413), DeliveryEvent.REFUSED, True),
    ],
    ids=lambda value: f"{value.status} {value.body!r}"[:30] if isinstance(value, Answer) else str(value),
)
def test_an_answer_that_lists_nothing_is_judged_by_its_http_status(
    catalog: Catalog, tmp_path: Path, answer: Answer, event: DeliveryEvent, reached: bool
) -> None:
    with web_service(lambda _: answer) as pacs:
        settings = settings_for(tmp_path, web_destination(pacs.url))
        case = proven_case(catalog, settings, kinds=("seg",))
        assert deliver_round(catalog, settings) == {event: 1}
    assert len(pacs.received) == 1, "asked once: the outbox has the back-off"
    assert [row.reached for row in deliveries(catalog, case)] == [reached]


def test_a_service_that_is_not_available_is_tried_without_limit_and_once_a_round(
    catalog: Catalog, tmp_path: Path
) -> None:
    with web_service(lambda _: Answer(503)) as pacs:
        settings = settings_for(tmp_path, web_destination(pacs.url, max_failures=2))
        case = proven_case(catalog, settings)
        for _ in range(4):
            assert deliver_round(catalog, settings) == {DeliveryEvent.TRY_AGAIN: 2}
            end_backoff(catalog)
    assert len(pacs.received) == 4
    assert case_state(catalog, case) == CaseState.DELIVERING


def test_a_service_that_is_not_there_lets_everything_wait(catalog: Catalog, tmp_path: Path) -> None:
    for url, said in (
        (f"http://127.0.0.1:{free_port()}/dicom-web", "nothing answers there"),
        ("http://no-such-host.invalid/dicom-web", "cannot be resolved"),
    ):
        settings = settings_for(tmp_path, web_destination(url, name="x" + str(len(said))))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings)[DeliveryEvent.TRY_AGAIN] >= 2
        assert said in str(deliveries(catalog, case)[0].last_error)
        assert not deliveries(catalog, case)[0].reached


def test_a_service_that_does_not_answer_in_time_has_an_unknown_outcome(catalog: Catalog, tmp_path: Path) -> None:
    def slow(dataset: Dataset) -> Answer:
        time.sleep(1.0)
        return stored(dataset)

    with web_service(slow) as pacs:
        settings = settings_for(tmp_path, web_destination(pacs.url, timeout_seconds=0.2))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings) == {DeliveryEvent.TRY_AGAIN: 1}, "the other one is not to blame"
    assert [row.last_error for row in deliveries(catalog, case)] == ["no answer: outcome unknown", None]


def test_who_we_are_comes_from_files_that_are_read_before_every_sending(catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with web_service() as pacs:
        by_token = web_destination(pacs.url, "by-token", bearer_token_file=file)
        by_password = web_destination(pacs.url, "by-password", user="dissm", password_file=file)
        settings = settings_for(tmp_path, by_token, by_password)
        case = proven_case(catalog, settings, kinds=("seg",))
        assert deliver_round(catalog, settings) == {DeliveryEvent.TRY_AGAIN: 2}
        assert not pacs.received
        assert "cannot be read" in str(deliveries(catalog, case)[0].last_error)
        file.write_text("s3cret\n")
        end_backoff(catalog)
        assert deliver_round(catalog, settings) == {DeliveryEvent.DELIVERED: 2}
    basic = "Basic " + base64.b64encode(b"dissm:s3cret").decode()
    assert [each["Authorization"] for each in pacs.headers] == ["Bearer s3cret", basic]
    assert not [row for row in audit_events(catalog, case) if "s3cret" in str(row.facts)]


def test_a_token_that_no_header_can_hold_is_not_told(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret with a blank")
    settings = settings_for(tmp_path, web_destination("http://127.0.0.1:9", bearer_token_file=tmp_path / "secret"))
    case = proven_case(catalog, settings, kinds=("seg",))
    deliver_round(catalog, settings)
    said = str(deliveries(catalog, case)[0].last_error)
    assert "holds no token" in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"url": "ftp://pacs.example"}, "is no URL"),
        ({"url": "https://u:p@pacs.example/x"}, "password_file"),
        ({"url": "https://pacs.example/x?y=1"}, "end with the path"),
        ({"url": "http://pacs.example", "bearer_token_file": "t"}, "in the clear"),
        ({"url": "https://pacs.example", "user": "dissm"}, "belong together"),
        ({"url": "https://pacs.example", "user": "d", "password_file": "p", "bearer_token_file": "t"}, "one of them"),
    ],
)
def test_settings_that_cannot_work_or_would_tell_a_secret_are_errors(options: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        web_destination(**options)


def test_a_wrong_key_is_named_as_it_stands_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    for content, said in (
        ('name = "pacs"\nurl = "https://x.example"\nport = 1', "destinations.0.port is not a known key"),
        ('name = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 0', "destinations.0.port "),
    ):
        file.write_text(f"[[destinations]]\n{content}\n")
        with pytest.raises(SettingsError, match=said):
            load_settings(file)


def test_check_and_probe_ask_whether_the_service_answers_and_lets_us_in(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("token")
    secret.chmod(0o640)
    for answer, good in ((Answer(200, b"[]"), True), (Answer(204), True), (Answer(401), False), (Answer(404), False)):
        with web_service(lambda _, answer=answer: answer) as pacs:
            to = web_destination(pacs.url, bearer_token_file=secret)
            found = probe(to)
        assert (found.problem is None) == good, answer
        assert {one.accepted for one in found.kinds} <= {None}
        assert not pacs.received
    with web_service(lambda _: Answer(204)) as pacs:
        to = web_destination(pacs.url, bearer_token_file=secret)
        checked = {one.what: one for one in check_all(settings_for(tmp_path, to), echo=True)}
    assert checked["destination pacs"].good is True
    secret.chmod(0o644)
    checked = {one.what: one for one in check_all(settings_for(tmp_path, to), echo=False)}
    assert "can be read by every user" in checked["destination pacs"].said


@pytest.mark.slow
@pytest.mark.thirdparty("Orthanc")
def test_orthanc_stores_by_dicomweb_what_it_is_sent_and_the_same_again(tmp_path: Path) -> None:
    case = case_on_disk(tmp_path / "case", abdomen())
    outgoing = [OutgoingObject(number, file.read_bytes()) for number, file in enumerate((case.seg, case.surface))]
    with Orthanc(tmp_path / "orthanc", node_port=1, dicom_web=True) as pacs:
        to = web_destination(pacs.dicom_web_url, timeout_seconds=30)
        assert probe(to).problem is None
        first, again = ([record.event for _, record in send_by_web(to, outgoing)] for _ in range(2))
        kept = {dcmread(BytesIO(pacs.file(one))).SOPInstanceUID for one in pacs.get("/instances")}
    assert first == [DeliveryEvent.DELIVERED] * 2
    assert set(again) <= {DeliveryEvent.DELIVERED, DeliveryEvent.DELIVERED_WITH_WARNING}
    assert kept == {one.dataset().SOPInstanceUID for one in outgoing}


@pytest.mark.slow
@pytest.mark.thirdparty("Orthanc")
def test_orthanc_refuses_an_object_without_a_study_and_that_is_no_success(catalog: Catalog, tmp_path: Path) -> None:
    with Orthanc(tmp_path / "orthanc", node_port=1, dicom_web=True) as pacs:
        settings = settings_for(tmp_path, web_destination(pacs.dicom_web_url, timeout_seconds=30))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings) == {DeliveryEvent.REFUSED: 2}
        assert pacs.get("/instances") == []
    assert case_state(catalog, case) == CaseState.HELD
