"""One instance into spool and catalogue. When `store` returns, it is durable: only then may Success be said (C2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dicom_node.catalog.database import Recorder, Transaction
from dicom_node.catalog.intake import bytes_of_series, record_instance
from dicom_node.reasons import INSTANCE_TOO_LARGE, SERIES_TOO_LARGE, RefusalError
from dicom_node.receive.spool import Spool
from dicom_node.settings import ListenSettings
from dicom_node.values.received import InstanceIdentity, SpooledFile, StoreOutcome

MEGABYTE = 1 << 20


def no_association(_tx: Transaction) -> int | None:
    """What came without a network has no association."""
    return None


@dataclass(frozen=True)
class InstanceStore:
    """Stores instances. recorder: the catalogue, as the process that stores them. limits: how large they may be."""

    recorder: Recorder
    spool: Spool
    limits: ListenSettings | None = None

    def store(
        self,
        content: bytes,
        identity: InstanceIdentity,
        calling_ae: str,
        association_in: Callable[[Transaction], int | None] = no_association,
    ) -> StoreOutcome:
        """Make the bytes durable, then the row.

        association_in: gives the id of the association's row within the transaction. Raises OSError or
        CatalogUnavailableError; then nothing of it counts as stored, and the same bytes may come again. Raises
        RefusalError(INSTANCE_TOO_LARGE, SERIES_TOO_LARGE) before anything is written.
        """
        if self.limits is not None:
            self.check_size(len(content))
            self._check_series(identity, self.limits)
        file = self.spool.keep(content)
        with self.recorder.write() as tx:
            return record_instance(tx, identity, file, calling_ae, association_in(tx))

    def check_size(self, size: int) -> None:
        """Raises RefusalError(INSTANCE_TOO_LARGE) for more bytes than one image may have."""
        if self.limits is not None and size > self.limits.max_instance_mb * MEGABYTE:
            max_mb = self.limits.max_instance_mb
            raise RefusalError(INSTANCE_TOO_LARGE, size_mb=size // MEGABYTE, most_mb=max_mb)

    def record_all(self, files: Sequence[tuple[InstanceIdentity, SpooledFile]], calling_ae: str) -> list[StoreOutcome]:
        """The rows of files that lie in the spool, all of them or none. Raises CatalogUnavailableError."""
        with self.recorder.write() as tx:
            return [record_instance(tx, identity, file, calling_ae) for identity, file in files]

    def _check_series(self, identity: InstanceIdentity, limits: ListenSettings) -> None:
        """A series that is over its limit takes no more; what it has tells assembling to refuse it as a whole."""
        with self.recorder.read() as view:
            size = bytes_of_series(view, identity.series_instance_uid)
        if size > limits.max_series_mb * MEGABYTE:
            raise RefusalError(SERIES_TOO_LARGE, size_mb=size // MEGABYTE, most_mb=limits.max_series_mb)
