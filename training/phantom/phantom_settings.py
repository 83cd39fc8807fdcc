"""Settings of the anatomy stage."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt, field_validator

from dissm_phantom.variety import Trait, Variety

_OF_SMOKE = {Trait.RIEDEL_LOBE: 0.2, Trait.VERY_SMALL_LIVER: 0.1, Trait.CUT_BELOW: 0.1}


class PhantomPreset(BaseModel):
    """How many bodies are drawn around the livers, and what they have beyond the ordinary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bodies_per_liver: PositiveInt
    """Each with a seed, a deformation and a placement of its own."""

    validation_bodies_per_liver: PositiveInt
    """Of the livers set aside for validation and calibration."""

    shares: dict[Trait, float]
    """Probability of each trait, see `Variety`; without one of them its ablation is trained."""

    @field_validator("shares")
    @classmethod
    def _are_probabilities(cls, shares: dict[Trait, float]) -> dict[Trait, float]:
        Variety(shares)
        return shares

    @property
    def variety(self) -> Variety:
        """How often bodies have which trait."""
        return Variety(self.shares)

    @classmethod
    def smoke(cls) -> PhantomPreset:
        """One body a liver, few traits."""
        return cls(bodies_per_liver=1, validation_bodies_per_liver=1, shares=_OF_SMOKE)

    @classmethod
    def small(cls) -> PhantomPreset:
        """Eight bodies a liver, with the traits of the fourth edition."""
        shares = dict(Variety.fourth_edition().shares)
        return cls(bodies_per_liver=8, validation_bodies_per_liver=12, shares=shares)

    @classmethod
    def paper(cls) -> PhantomPreset:
        """As many as a GPU can be kept busy with."""
        shares = dict(Variety.fourth_edition().shares)
        return cls(bodies_per_liver=12, validation_bodies_per_liver=12, shares=shares)
