"""Settings of the refinement stage: smoke, small (shipped), paper (appendix C, Table 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dissm_engine.refine.network import RefinementArchitecture
from dissm_phantom.variety import Trait, Variety
from training.refine.prior_errors import PriorErrors
from training.refine.refinement_loss import RefinementLossWeights, paper_weights
from training.stable_decay import FlatRule, StableThenDecay
from training.training_loop import cosine_factor

_FINAL_RATE = 0.02
_MAX_WARM_UP_STEPS = 100


class RefinementPreset(BaseModel):
    """One refinement training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: int = 2
    stride: int = Field(2, ge=1, le=2)
    rho_mm: float = 20.0
    """The paper's 12 mm leave the tips that the pose stage cut short out of reach; see ARCHITECTURE."""
    band_mm: float = 25.0
    tile: int = 80
    batch: int = 1
    steps: int = 8000
    """All steps, or with `schedule` "stable" those of the stable phase at the most."""
    schedule: Literal["cosine", "stable"] = "cosine"
    """Factor on the learning rate: a cosine over all steps; or constant for as long as the validation gains, then down
    to zero over `decay_steps`."""
    decay_steps: int = 0
    validation_steps: int = 1000
    """Steps between two measurements on bodies that are not learnt from."""
    validation_patches: int = 24
    flat_evaluations: int = 5
    flat_gain: float = 0.0005
    """The curve is flat when the best DSC of so many evaluations gained less than this over all before them."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    ema_decay: float = 0.998
    """Decay of the weights' exponential moving average, which is what is kept."""
    checkpoint_every: int = 100
    fit_share: float = 0.0
    """Share of samples whose prior is an actual result of the pose stage (appendix C) instead of a drawn error."""
    fits_per_anatomy: int = 2
    errors: PriorErrors = PriorErrors()
    loss: RefinementLossWeights = RefinementLossWeights()
    shares: dict[Trait, float] = {}
    """Probability of each trait that is drawn anew with every sample: lesions, looks, implants, motion."""
    bfloat16: bool = True
    """Used only where the processor or GPU multiplies it natively."""

    @property
    def architecture(self) -> RefinementArchitecture:
        """The network these settings ask for."""
        return RefinementArchitecture(
            widths=self.widths, blocks=self.blocks, rho_mm=self.rho_mm, band_mm=self.band_mm, stride=self.stride
        )

    @property
    def variety(self) -> Variety:
        """How often a sample has which trait."""
        return Variety(self.shares)

    @property
    def rate_schedule(self) -> Callable[[int], float] | StableThenDecay:
        """Factor on the learning rate by step."""
        if self.schedule == "stable":
            return StableThenDecay(_MAX_WARM_UP_STEPS, self.steps, self.decay_steps)
        return self._cosine

    def _cosine(self, step: int) -> float:
        """Short warm-up, then a cosine to two per cent."""
        warm_up = min(1.0, (step + 1) / min(_MAX_WARM_UP_STEPS, max(1.0, 0.05 * self.steps)))
        return warm_up * cosine_factor(step / max(1, self.steps), _FINAL_RATE)

    @property
    def flat_rule(self) -> FlatRule:
        """When the validation curve no longer grows."""
        return FlatRule(self.flat_gain, self.flat_evaluations)

    @classmethod
    def smoke(cls) -> RefinementPreset:
        """Seconds: that the chain works, not that it is good."""
        return cls(widths=(8, 16), tile=64, batch=1, schedule="stable", steps=12, checkpoint_every=6)

    @classmethod
    def small(cls) -> RefinementPreset:
        """The shipped bundle: some 20 hours of one core at the most, and no longer than the validation gains.

        The first training has no decay: the second goes on from its averaged weights. A step in bfloat16 took 1.3 times
        as long as one in float32 on the Xeon that trains it, which has instructions for both.
        """
        return cls(schedule="stable", steps=100_000, bfloat16=False, shares=dict(Variety.fourth_edition().shares))

    def finetuning(self, steps: int, fits_per_anatomy: int = 1, decay_steps: int = 0) -> RefinementPreset:
        """The same network, trained on from there with the pose stage's own results as priors."""
        changed = {"steps": steps, "decay_steps": decay_steps, "learning_rate": self.learning_rate / 3}
        return self.model_copy(update={**changed, "fit_share": 0.7, "fits_per_anatomy": fits_per_anatomy})

    @classmethod
    def paper(cls) -> RefinementPreset:
        """Appendix C and Table 9 on full-resolution features; needs a GPU."""
        return cls(
            widths=(32, 64, 128, 256),
            stride=1,
            rho_mm=12.0,
            tile=96,
            batch=2,
            steps=150 * 46,
            learning_rate=1e-3,
            weight_decay=1e-4,
            loss=paper_weights(),
            shares=dict(Variety.fourth_edition().shares),
        )
