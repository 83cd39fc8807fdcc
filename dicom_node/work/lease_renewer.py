"""Keeps a lease while the engine computes, and takes the engine's progress to the catalogue."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from types import TracebackType

import structlog

from dicom_node.catalog.database import Recorder
from dicom_node.catalog.leases import LeaseLost, renew_lease
from dicom_node.reasons import LEASE_LOST, CatalogUnavailableError
from dicom_node.values.lease import Lease
from dissm_engine.errors import DelineationCancelled
from dissm_engine.progress import Cancellation

_BEAT_SECONDS = 1.0
_log = structlog.get_logger()


class LeaseRenewer:
    """A thread that renews one lease; use as a context manager around the work.

    seconds: for how long each renewal holds. Renews at a third of it, and writes changed progress once a second.
    stalled_seconds: after so long without any change of progress the lease is renewed no more, and `on_stall` is called
    once, in the renewer's thread: the work itself hangs and hears nothing.
    cancellation: requested when the lease is lost; work that it ends leaves the context manager as LeaseLost.
    """

    def __init__(
        self,
        recorder: Recorder,
        lease: Lease,
        seconds: float,
        stalled_seconds: float = math.inf,
        on_stall: Callable[[], None] | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        self._recorder, self._lease, self._seconds = recorder, lease, seconds
        self._stalled_seconds, self._on_stall = stalled_seconds, on_stall
        self._cancellation = cancellation or Cancellation()
        self._lost, self._over = threading.Event(), threading.Event()
        self._progress: tuple[str | None, float] = (None, 0.0)
        self._thread = threading.Thread(target=self._renew_until_over, name="lease", daemon=True)

    def __enter__(self) -> LeaseRenewer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if isinstance(value, DelineationCancelled) and self._lost.is_set():
            raise LeaseLost(LEASE_LOST, case=self._lease.case_id) from value

    def progress(self, stage: str, done: float) -> None:
        """Called by the engine (`dissm_engine.progress.Progress`)."""
        self._progress = (stage[:32], float(done))

    def _renew_until_over(self) -> None:
        written, until = self._progress, time.monotonic() + self._seconds
        seen, seen_at = self._progress, time.monotonic()
        while not self._over.wait(min(_BEAT_SECONDS, self._seconds / 4)):
            now, progress = time.monotonic(), self._progress
            if progress != seen:
                seen, seen_at = progress, now
            elif now - seen_at > self._stalled_seconds:
                self._stall(progress)
                return
            if progress == written and until - now > self._seconds * 2 / 3:
                continue
            try:
                if not renew_lease(self._recorder, self._lease, self._seconds, *progress):
                    self._lose()
                    return
                written, until = progress, now + self._seconds
            except CatalogUnavailableError as problem:
                # A full disk or a lock held for long may pass before the lease runs out.
                _log.warning("lease not renewed", case=self._lease.case_id, problem=str(problem))
                if now > until:
                    self._lose()
                    return

    def _lose(self) -> None:
        self._lost.set()
        self._cancellation.request()

    def _stall(self, progress: tuple[str | None, float]) -> None:
        _log.error("no progress", case=self._lease.case_id, stage=progress[0], seconds=self._stalled_seconds)
        self._lose()
        if self._on_stall is not None:
            self._on_stall()
