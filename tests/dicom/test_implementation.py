"""Peers are told the node's own implementation, not its library's (PS3.7 D.3.3.2)."""

from __future__ import annotations

import threading
from pathlib import Path

import pydicom
from pynetdicom import AE, evt

from dicom_node.dicom.association_client import RemoteEntity, associate_for_echo
from dicom_node.values.equipment import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, SOFTWARE_VERSION
from tests.builders.ct_series import abdomen
from tests.builders.intake import Intake, running_listener
from tests.builders.result_case import case_in_memory

VERIFICATION = "1.2.840.10008.1.1"


def test_the_names_are_valid_and_say_the_version() -> None:
    assert pydicom.uid.UID(IMPLEMENTATION_CLASS_UID).is_valid
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16
    assert IMPLEMENTATION_VERSION_NAME.startswith("DISSM_")
    assert f"DISSM_{SOFTWARE_VERSION}".startswith(IMPLEMENTATION_VERSION_NAME)


def test_the_listener_answers_an_association_under_its_own_implementation(tmp_path: Path) -> None:
    intake = Intake(tmp_path / "node")
    with running_listener(intake.settings, intake.catalog):
        entity = AE("SENDER")
        entity.add_requested_context(VERIFICATION)
        association = entity.associate("127.0.0.1", intake.settings.listen.port, ae_title="DISSM")
        said = association.acceptor
        assert (said.implementation_class_uid, said.implementation_version_name) == (
            IMPLEMENTATION_CLASS_UID,
            IMPLEMENTATION_VERSION_NAME,
        )
        association.release()
    intake.close()


def test_the_client_asks_for_an_association_under_its_own_implementation() -> None:
    heard: list[tuple[str, str | None]] = []
    asked = threading.Event()

    def hear(event: evt.Event) -> None:
        said = event.assoc.requestor
        heard.append((str(said.implementation_class_uid), said.implementation_version_name))
        asked.set()

    entity = AE("ARCHIVE")
    entity.add_supported_context(VERIFICATION)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_ACCEPTED, hear)])
    try:
        peer = RemoteEntity("127.0.0.1", server.server_address[1], "ARCHIVE", "DISSM", 5.0)
        with associate_for_echo(peer) as association:
            assert association.established
        assert asked.wait(5)
    finally:
        server.shutdown()
    assert heard == [(IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)]


def test_both_objects_name_the_implementation_in_their_file_meta_information(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, abdomen((24, 24, 26), (12.0, 12.0, 6.0)))
    for item in case.written:
        meta = pydicom.dcmread(item.path).file_meta
        assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
        assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
