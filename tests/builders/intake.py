"""A catalogue and spool in a folder, and the way of images from bytes to decided stacks, without a network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from dicom_node.admit.admission import admit_stacks
from dicom_node.assemble.completeness import settle_quiet_series
from dicom_node.assemble.stacks import assemble_settled_series
from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog, open_catalog
from dicom_node.catalog.tables import AuditRow, Case, Series, Stack
from dicom_node.processes.control_process import stack_builder
from dicom_node.receive.importing import import_folder
from dicom_node.receive.storage_scp import StorageScp
from dicom_node.settings import Settings
from tests.builders.rows import rows


def settings_in(folder: Path, **tables: dict[str, Any]) -> Settings:
    """Settings whose data lie in `folder`; small stacks are accepted, the disk may be small."""
    assemble = {"quiet_seconds": 0.2, "study_quiet_seconds": 0.2, **tables.pop("assemble", {})}
    listen = {"port": free_port(), "disk_watermark_mb": 1, **tables.pop("listen", {})}
    node = {"data_folder": folder, **tables.pop("node", {})}
    return Settings.model_validate({"node": node, "listen": listen, "assemble": assemble, **tables})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_listener(settings: Settings, catalog: Catalog) -> Iterator[StorageScp]:
    listener = StorageScp(settings, catalog.acting_as("listener"))
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()


class Intake:
    """One node's intake. `take` stores folders or tars; `decide` settles, assembles and admits what is there."""

    def __init__(self, folder: Path, **tables: dict[str, Any]) -> None:
        self.settings = settings_in(folder, **tables)
        self.catalog = open_catalog(self.settings.node.catalog_url)

    def take(self, *sources: Path) -> None:
        for source in sources:
            import_folder(self.catalog.acting_as("import"), self.settings.node.spool, source, sync=False)

    def decide(self, *sources: Path) -> list[Stack]:
        self.take(*sources)
        later = audit.utc_now() + timedelta(seconds=self.settings.assemble.quiet_seconds + 1)
        settle_quiet_series(self.catalog.acting_as("test"), self.settings.assemble, now=later)
        assemble_settled_series(self.catalog.acting_as("test"), stack_builder(self.settings))
        admit_stacks(self.catalog.acting_as("test"), self.settings.admit, self.settings.node.spool)
        return self.stacks()

    def stacks(self) -> list[Stack]:
        """Of the present revision of every series, by label."""
        with rows(self.catalog) as session:
            found = session.scalars(
                select(Stack).join(Series).where(Stack.revision == Series.revision).options(selectinload(Stack.images))
            ).all()
            return sorted(found, key=lambda stack: (stack.series_id, stack.label))

    def cases(self) -> list[Case]:
        with rows(self.catalog) as session:
            return list(session.scalars(select(Case).order_by(Case.created_at)))

    def series(self) -> list[Series]:
        with rows(self.catalog) as session:
            return list(session.scalars(select(Series).order_by(Series.id)))

    def events(self, subject_kind: str) -> list[str]:
        with rows(self.catalog) as session:
            query = select(AuditRow.event).where(AuditRow.subject_kind == subject_kind).order_by(AuditRow.id)
            return list(session.scalars(query))

    def close(self) -> None:
        self.catalog.close()
