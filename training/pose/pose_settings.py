"""Presets of the pose agent's training (paper Tables 5-8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypedDict

from pydantic import BaseModel, ConfigDict

from dissm_engine.pose.correction import StageName
from dissm_engine.pose.encoder import EncoderArchitecture
from dissm_engine.pose.observation import ObservationSpec
from dissm_phantom.variety import Trait, Variety
from training.stable_decay import StableThenDecay
from training.training_loop import Plateau, cosine_factor

WATCHED = "validation_mm"
"""The figure that says whether a stage still learns: mean distance error on its validation scenes."""
_FINAL_RATE = 0.02
_PLATEAU_PATIENCE = 3
_WARM_UP_STEPS = 50

Episodes = Literal["inverted", "staggered", "plain"]


class _EncoderSizes(TypedDict):
    channels: int
    grid: tuple[int, int, int]
    outputs: int


_FITTED: Final[_EncoderSizes] = {"channels": 0, "grid": (0, 0, 0), "outputs": 0}
"""Sizes that `encoder_for` fills in for each stage's observation."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PerturbationRange(_Section):
    """Uniform ranges of one perturbation: mm along each axis, factors along each axis, degrees about each axis."""

    translation_mm: float
    scale: tuple[float, float] = (1.0, 1.0)
    rotation_deg: float = 0.0
    loadings: float = 0.0


class StagePreset(_Section):
    """How one stage is trained.

    epochs: all of them, or with the schedule `stable` those before the decay at the most; decay_epochs: of that decay.
    steps: T of an episode. standard, fine: perturbations, chosen with equal odds before each step.
    supervision_weight: weight of the distance to the target pose and loadings, over the loss through the decoder;
    0 switches it off.
    """

    epochs: int
    decay_epochs: int = 0
    steps: int
    batch_size: int
    learning_rate: float
    observation: ObservationSpec
    standard: PerturbationRange
    fine: PerturbationRange
    supervision_weight: float


class PosePreset(_Section):
    """How the agent is built and trained.

    start: an episode's first position: `random` anywhere in the field of view, or the training set's `mean` place.
    loss_points: samples a case and step. pool_points: samples prepared for each case.
    paints: appearances of each anatomy, at painted_spacing_mm.
    shares: probability of each trait that is drawn anew with every appearance: lesions, looks, implants, motion.
    latent_sigma: Eq. 12.
    schedule: of the learning rate. `plateau` divides it by ten when validation stalls (B.2). `stable` keeps it for as
    long as the best validation error of `flat_epochs` epochs gains `flat_gain_mm` over all before, then lets it fall.
    fields_of_view: cut training images at random.
    """

    components: int
    canvas_resolution: int
    encoder: EncoderArchitecture
    translation: StagePreset
    scale: StagePreset
    rotation: StagePreset
    non_rigid: StagePreset
    episodes: Episodes
    start: Literal["random", "mean"]
    schedule: Literal["cosine", "plateau", "stable"]
    flat_epochs: int = 5
    flat_gain_mm: float = 0.02
    loss_points: int
    pool_points: int
    paints: int
    painted_spacing_mm: float
    weight_decay: float
    latent_sigma: float
    shares: dict[Trait, float] = {}
    validation_livers: int
    fields_of_view: bool
    bfloat16: bool

    def rate_schedule(
        self, name: StageName, steps_per_epoch: int
    ) -> Callable[[int], float] | Plateau | StableThenDecay:
        """How the learning rate of one stage changes, by optimiser step."""
        stage = self.stage(name)
        if self.schedule == "plateau":
            return Plateau(WATCHED, _PLATEAU_PATIENCE)
        if self.schedule == "stable":
            return StableThenDecay(_WARM_UP_STEPS, stage.epochs * steps_per_epoch, stage.decay_epochs * steps_per_epoch)
        return lambda step: cosine_factor(step / (stage.epochs * steps_per_epoch), _FINAL_RATE)

    def stage(self, name: StageName) -> StagePreset:
        """The section of one stage."""
        stages = {
            StageName.TRANSLATION: self.translation,
            StageName.SCALE: self.scale,
            StageName.ROTATION: self.rotation,
            StageName.NON_RIGID: self.non_rigid,
        }
        return stages[name]

    @classmethod
    def paper(cls) -> PosePreset:
        """Tables 5-8: image frame, average pooling, 4 mm."""
        whole = ObservationSpec("image", (202, 128, 128), 4.0, contrast=False, show_loadings=False)
        cropped = ObservationSpec("image", (88, 108, 128), 4.0, contrast=False, show_loadings=False)

        def stage(epochs: int, standard: PerturbationRange, fine: PerturbationRange) -> StagePreset:
            first = epochs == 65
            return StagePreset(
                epochs=epochs,
                steps=7 if first else 15,
                batch_size=8 if first else 12,
                learning_rate=1e-3,
                observation=whole if first else cropped,
                standard=standard,
                fine=fine,
                supervision_weight=0.0,
            )

        wide = PerturbationRange(translation_mm=40.0)
        return cls(
            components=28,
            canvas_resolution=64,
            encoder=EncoderArchitecture(
                **_FITTED,
                widths=(64, 128, 256, 512),
                pooled=4,
                squeezed=0,
                stem_stride=1,
                hidden=512,
                pooling="average",
            ),
            translation=stage(65, wide, wide),
            scale=stage(
                80,
                PerturbationRange(translation_mm=16.0, scale=(0.7, 1.3)),
                PerturbationRange(translation_mm=8.0, scale=(0.9, 1.1)),
            ),
            rotation=stage(
                80,
                PerturbationRange(translation_mm=12.0, scale=(0.97, 1.03), rotation_deg=7.5),
                PerturbationRange(translation_mm=8.0, scale=(0.99, 1.01), rotation_deg=4.5),
            ),
            non_rigid=stage(
                120,
                PerturbationRange(translation_mm=8.0, scale=(0.99, 1.01), rotation_deg=4.5),
                PerturbationRange(translation_mm=4.0, scale=(0.995, 1.015), rotation_deg=2.5),
            ),
            episodes="inverted",
            start="mean",
            schedule="plateau",
            loss_points=150_000,
            pool_points=600_000,
            paints=1,
            painted_spacing_mm=4.0,
            weight_decay=1e-4,
            latent_sigma=100.0,
            shares=dict(Variety.fourth_edition().shares),
            validation_livers=6,
            fields_of_view=False,
            bfloat16=False,
        )

    @classmethod
    def small(cls) -> PosePreset:
        """Some hours of one core at the most: pose frame, places kept, loadings shown to the encoder."""
        wide = ObservationSpec("pose", (40, 40, 40), 9.0, contrast=True, show_loadings=False)
        near = ObservationSpec("pose", (40, 40, 40), 6.5, contrast=True, show_loadings=False)
        fed = ObservationSpec("pose", (40, 40, 40), 6.5, contrast=True, show_loadings=True)
        common = {"batch_size": 8, "learning_rate": 1e-3}
        return cls(
            components=28,
            canvas_resolution=36,
            encoder=EncoderArchitecture(
                **_FITTED, widths=(16, 32, 64, 96), pooled=2, squeezed=32, stem_stride=2, hidden=256, pooling="keep"
            ),
            translation=StagePreset(
                **common,
                epochs=45,
                decay_epochs=6,
                steps=4,
                observation=wide,
                standard=PerturbationRange(translation_mm=60.0),
                fine=PerturbationRange(translation_mm=20.0),
                supervision_weight=1.0,
            ),
            scale=StagePreset(
                **common,
                epochs=16,
                decay_epochs=3,
                steps=3,
                observation=near,
                standard=PerturbationRange(translation_mm=16.0, scale=(0.8, 1.25)),
                fine=PerturbationRange(translation_mm=8.0, scale=(0.9, 1.1)),
                supervision_weight=0.3,
            ),
            rotation=StagePreset(
                **common,
                epochs=16,
                decay_epochs=3,
                steps=3,
                observation=near,
                standard=PerturbationRange(translation_mm=12.0, scale=(0.95, 1.05), rotation_deg=10.0),
                fine=PerturbationRange(translation_mm=8.0, scale=(0.98, 1.02), rotation_deg=4.5),
                supervision_weight=0.3,
            ),
            non_rigid=StagePreset(
                **common,
                epochs=80,
                decay_epochs=12,
                steps=4,
                observation=fed,
                standard=PerturbationRange(translation_mm=8.0, scale=(0.97, 1.03), rotation_deg=4.5, loadings=0.5),
                fine=PerturbationRange(translation_mm=3.0, scale=(0.99, 1.01), rotation_deg=2.0, loadings=0.2),
                supervision_weight=0.3,
            ),
            episodes="inverted",
            start="random",
            schedule="stable",
            loss_points=384,
            pool_points=12_000,
            paints=6,
            painted_spacing_mm=4.0,
            weight_decay=1e-4,
            latent_sigma=30.0,
            shares=dict(Variety.fourth_edition().shares),
            validation_livers=6,
            fields_of_view=True,
            bfloat16=True,
        )

    @classmethod
    def smoke(cls) -> PosePreset:
        """Seconds: every line of the stage runs, nothing is learned."""
        small = cls.small()

        def shortened(stage: StagePreset) -> StagePreset:
            seen = stage.observation
            spec = ObservationSpec(seen.frame, (16, 16, 16), 16.0, seen.contrast, seen.show_loadings)
            sizes = {"epochs": 1, "decay_epochs": 1, "steps": 2, "batch_size": 2, "observation": spec}
            return stage.model_copy(update=sizes)

        return small.model_copy(
            update={
                "components": 2,
                "canvas_resolution": 12,
                "encoder": EncoderArchitecture(
                    **_FITTED, widths=(8, 8, 8, 8), pooled=2, squeezed=8, stem_stride=1, hidden=16, pooling="keep"
                ),
                "translation": shortened(small.translation),
                "scale": shortened(small.scale),
                "rotation": shortened(small.rotation),
                "non_rigid": shortened(small.non_rigid),
                "loss_points": 64,
                "pool_points": 400,
                "paints": 1,
                "painted_spacing_mm": 8.0,
                "validation_livers": 1,
                "bfloat16": False,
            }
        )
