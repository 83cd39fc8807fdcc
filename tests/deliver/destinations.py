"""Destinations and proven cases for the outbox's tests: real SCPs on loopback, real rows, real files."""

from __future__ import annotations

import hashlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
    SurfaceSegmentationStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from sqlalchemy import select

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.naming import new_case_id
from dicom_node.catalog.states import CaseState, SeriesState
from dicom_node.catalog.tables import AuditRow, Case, Delivery, ResultObject, Series, Stack
from dicom_node.deliver.outbox import deliver_to, queue_proven, withdraw_unwanted_deliveries
from dicom_node.deliver.store_status import DeliveryEvent
from dicom_node.settings import Destination, NodeSettings, Settings
from tests.builders.rows import changed_rows, rows

CLASSES = {"seg": SegmentationStorage, "surface": SurfaceSegmentationStorage}


@dataclass
class Scp:
    """A running Storage SCP that answers with what `answer` says."""

    port: int
    received: list[str] = field(default_factory=list)
    syntaxes: list[str] = field(default_factory=list)


@contextmanager
def storage_scp(
    answer: Callable[[evt.Event], int] = lambda event: 0x0000,
    *,
    classes: tuple[str, ...] = (SegmentationStorage, SurfaceSegmentationStorage),
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    ae_title: str = "PACS",
    port: int = 0,
    require_called: bool = False,
) -> Iterator[Scp]:
    scp = Scp(port)

    def store(event: evt.Event) -> int:
        status = answer(event)
        scp.received.append(str(event.request.AffectedSOPInstanceUID))
        scp.syntaxes.append(str(event.context.transfer_syntax))
        return status

    entity = AE(ae_title=ae_title)
    entity.require_called_aet = require_called
    for sop_class in classes:
        entity.add_supported_context(sop_class, list(syntaxes))
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    scp.port = server.server_address[1]
    try:
        yield scp
    finally:
        server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def destination(port: int, name: str = "pacs", **options: Any) -> Destination:
    chosen = {"ae_title": "PACS", "timeout_seconds": 5, "first_retry_seconds": 10, **options}
    return Destination(**{"name": name, "host": "127.0.0.1", "port": port, **chosen})


def settings_for(folder: Path, *destinations: Destination) -> Settings:
    return Settings(node=NodeSettings(data_folder=folder), destinations=destinations)


def proven_case(catalog: Catalog, settings: Settings, kinds: tuple[str, ...] = ("seg", "surface")) -> str:
    """A case whose objects were proven a moment ago. Returns its id."""
    case_id, now = new_case_id(), audit.utc_now()
    with changed_rows(catalog) as session:
        series = Series(
            series_instance_uid=generate_uid(),
            study_instance_uid=generate_uid(),
            state=SeriesState.ADMITTED,
            calling_ae="CT",
            first_received_at=now,
            last_received_at=now,
        )
        session.add(series)
        session.flush()
        stack = Stack(series_id=series.id, revision=1, label="only", admitted=True, input_digest="0" * 64)
        session.add(stack)
        session.flush()
        session.add(
            Case(
                id=case_id,
                stack_id=stack.id,
                state=CaseState.PROVEN,
                current=True,
                attempt=1,
                created_at=now,
                changed_at=now,
            )
        )
        session.flush()
        for kind in kinds:
            session.add(_object(settings, case_id, kind))
    return case_id


def _object(settings: Settings, case_id: str, kind: str) -> ResultObject:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CLASSES[kind], generate_uid()
    dataset.PatientID, dataset.Modality = "", "SEG"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    relative = Path("results") / case_id / f"{kind}.dcm"
    file = settings.node.spool / relative
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(file, enforce_file_format=True)
    return ResultObject(
        case_id=case_id,
        attempt=1,
        kind=kind,
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        path=str(relative),
        digest=hashlib.sha256(file.read_bytes()).hexdigest(),
        created_at=audit.utc_now(),
    )


def case_state(catalog: Catalog, case_id: str) -> CaseState:
    with rows(catalog) as session:
        return session.get_one(Case, case_id).state


def deliveries(catalog: Catalog, case_id: str) -> list[Delivery]:
    with rows(catalog) as session:
        found = select(Delivery).join(ResultObject).where(ResultObject.case_id == case_id).order_by(Delivery.id)
        return list(session.scalars(found))


def audit_events(catalog: Catalog, case_id: str, kind: str = "delivery") -> list[AuditRow]:
    with rows(catalog) as session:
        found = select(AuditRow).where(AuditRow.subject == case_id, AuditRow.subject_kind == kind)
        return list(session.scalars(found.order_by(AuditRow.id)))


def deliver_round(catalog: Catalog, settings: Settings) -> Counter[DeliveryEvent]:
    """What the control process does again and again, once: the outbox' job, then each destination's."""
    queue_proven(catalog.acting_as("test"), settings.destinations)
    withdraw_unwanted_deliveries(catalog.acting_as("test"), settings.destinations)
    outcomes: Counter[DeliveryEvent] = Counter()
    for each in settings.destinations:
        outcomes.update(deliver_to(catalog.acting_as("test"), each, settings.node.spool))
    return outcomes


def end_backoff(catalog: Catalog) -> None:
    """As if the back-off of every delivery were over."""
    with changed_rows(catalog) as session:
        for row in session.scalars(select(Delivery)):
            row.next_attempt_at -= timedelta(days=365)
