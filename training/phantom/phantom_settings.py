"""Settings of the anatomy stage."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt


class PhantomPreset(BaseModel):
    """How many bodies are drawn around the training livers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bodies_per_liver: PositiveInt
    """Each with a seed, a deformation and a placement of its own."""

    @classmethod
    def smoke(cls) -> PhantomPreset:
        """One body a liver."""
        return cls(bodies_per_liver=1)

    @classmethod
    def small(cls) -> PhantomPreset:
        """Four bodies a liver: eight minutes on one core."""
        return cls(bodies_per_liver=4)

    @classmethod
    def paper(cls) -> PhantomPreset:
        """As many as a GPU can be kept busy with."""
        return cls(bodies_per_liver=12)
