"""A reason as the catalogue keeps it: its code and the facts its sentence is filled with."""

from __future__ import annotations

from dataclasses import dataclass, field

from dicom_node.reasons import ALL_REASONS, plain_facts
from dicom_node.values.facts import Facts
from dissm_engine.errors import DissmError


@dataclass(frozen=True)
class RecordedReason:
    """Why a stack, series or case ended as it did.

    code: of a `Reason`; one that another release wrote may be unknown to this one. facts: what its sentence is filled
    with.
    """

    code: str
    facts: Facts = field(default_factory=dict)

    @staticmethod
    def of(problem: DissmError) -> RecordedReason:
        """The reason that an error carries, with its facts as JSON can hold them."""
        return RecordedReason(problem.reason.code, plain_facts(problem))

    def __str__(self) -> str:
        """The sentence and what to do about it; the bare facts where another release wrote them."""
        reason = ALL_REASONS.get(self.code)
        if reason is None:
            return self.code
        try:
            return f"{reason.say(**self.facts)}; {reason.cure}"
        except (KeyError, ValueError, IndexError):
            return f"{reason.code} {dict(self.facts)}; {reason.cure}"
