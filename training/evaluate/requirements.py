"""What the fourth edition must reach on its test phantoms, held against what a bundle reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise

from dissm_engine.json_value import JsonObject
from dissm_engine.pose.correction import StageName
from training.evaluate.agreement_by_stage import REFINED, AgreementSummary
from training.evaluate.phantom_table import PhantomSet

_STAGES = (*(str(stage) for stage in StageName), REFINED)
_MIN_CATEGORY_DSC = 0.94
_MIN_POSE_DSC = 0.92
_LIMITS: Mapping[PhantomSet, tuple[tuple[str, float], ...]] = {
    PhantomSet.ORDINARY: (("dsc", 0.975), ("dsc_worst", 0.95), ("assd_mm", 0.9), ("hd95_mm", 3.0)),
    PhantomSet.ODD: (("dsc", 0.955), ("dsc_worst", 0.90)),
}
"""Of the refined surface, by the fields of `AgreementSummary`; a DSC must reach its limit, a distance stay within."""
_WORDS = {"dsc": "mean DSC", "dsc_worst": "worst DSC", "assd_mm": "mean ASSD mm", "hd95_mm": "mean HD95 mm"}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One number that a bundle must reach.

    Attributes:
        name: What it is of.
        limit: What must be reached.
        found: What is reached.
        is_minimum: Whether the limit must be reached from below; else it must not be exceeded.
    """

    name: str
    limit: float
    found: float
    is_minimum: bool

    @property
    def met(self) -> bool:
        """Whether the number is reached."""
        return self.found >= self.limit if self.is_minimum else self.found <= self.limit

    def to_json(self) -> JsonObject:
        """The fields by their names, and whether it is met."""
        return {**asdict(self), "met": self.met}


def requirements(
    by_set: Mapping[PhantomSet, Mapping[str, AgreementSummary]],
    by_category: Mapping[str, Mapping[str, AgreementSummary]],
) -> tuple[Requirement, ...]:
    """Every requirement whose phantoms were judged.

    Args:
        by_set: Summary of every stage over set A and over set B.
        by_category: The same over each category of set B.
    """
    found: list[Requirement] = []
    for which, summary in by_set.items():
        for field, limit in _LIMITS[which]:
            value = float(getattr(summary[REFINED], field))
            found.append(Requirement(f"{which}: {_WORDS[field]}", limit, value, is_minimum=field.startswith("dsc")))
        if which is PhantomSet.ORDINARY:
            pose = summary[str(StageName.NON_RIGID)].dsc
            found.append(Requirement(f"{which}: mean DSC after {StageName.NON_RIGID}", _MIN_POSE_DSC, pose, True))
        found += _gains(which, summary)
    if by_category:
        worst = min(by_category, key=lambda category: by_category[category][REFINED].dsc)
        name = f"{PhantomSet.ODD}: mean DSC of the worst category ({worst})"
        found.append(Requirement(name, _MIN_CATEGORY_DSC, by_category[worst][REFINED].dsc, is_minimum=True))
    return tuple(found)


def _gains(which: PhantomSet, summary: Mapping[str, AgreementSummary]) -> Iterator[Requirement]:
    """Each stage at least as good as the one before."""
    stages = [stage for stage in _STAGES if stage in summary]
    for before, after in pairwise(stages):
        name = f"{which}: mean DSC after {after}, against {before}"
        yield Requirement(name, summary[before].dsc, summary[after].dsc, is_minimum=True)
