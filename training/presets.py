"""The presets: smoke (a test), small (the shipped bundle), paper (section 3 and appendices A-C to the letter)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from training.phantom.phantom_settings import PhantomPreset
from training.pose.pose_settings import PosePreset
from training.refine.refinement_settings import RefinementPreset
from training.shape.shape_settings import ShapePreset

PresetName = Literal["smoke", "small", "paper"]


class Preset(BaseModel):
    """Settings of every stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PresetName
    shape: ShapePreset
    phantom: PhantomPreset
    pose: PosePreset
    refine: RefinementPreset
    finetune: RefinementPreset | None
    """None: the refinement is not trained on with the pose stage's own results."""
    trust_cases: int
    """Bodies on which the surface's bias is measured. As many scans are delineated well and badly to fit the estimate
    of the DSC, and half as many again to test it."""
    trust_starts: int | None = None
    """Of each of these scans; None: all that there are (`training.evaluate.wrong_starts`)."""

    @staticmethod
    def named(name: PresetName) -> Preset:
        """One of the presets."""
        sections = {"smoke": _smoke, "small": _small, "paper": _paper}
        return sections[name]()


def _smoke() -> Preset:
    return Preset(
        name="smoke",
        shape=ShapePreset.smoke(),
        phantom=PhantomPreset.smoke(),
        pose=PosePreset.smoke(),
        refine=RefinementPreset.smoke(),
        finetune=RefinementPreset.smoke().finetuning(4, decay_steps=2),
        trust_cases=1,
        trust_starts=2,
    )


def _small() -> Preset:
    return Preset(
        name="small",
        shape=ShapePreset.small(),
        phantom=PhantomPreset.small(),
        pose=PosePreset.small(),
        refine=RefinementPreset.small(),
        finetune=RefinementPreset.small().finetuning(40_000, decay_steps=8000),
        trust_cases=24,
    )


def _paper() -> Preset:
    refine = RefinementPreset.paper()
    return Preset(
        name="paper",
        shape=ShapePreset.paper(),
        phantom=PhantomPreset.paper(),
        pose=PosePreset.paper(),
        refine=refine,
        finetune=refine.finetuning(3450, fits_per_anatomy=10),
        trust_cases=40,
    )
