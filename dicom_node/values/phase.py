"""The contrast phase of a CT and what speaks for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Contrast phases. OTHER: surely not venous, but which one is not said (delayed, excretory)."""

    VENOUS = "venous"
    ARTERIAL = "arterial"
    UNENHANCED = "unenhanced"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PhaseVerdict:
    """A phase and what speaks for it, without patient data."""

    phase: Phase
    evidence: str

    @property
    def needs_review(self) -> bool:
        """Anything but a venous phase is outside what the engine was made for."""
        return self.phase is not Phase.VENOUS
