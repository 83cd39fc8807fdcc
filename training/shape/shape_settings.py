"""Settings of the surface and shape stages: smoke (a test), small (the shipped bundle), paper (appendix A)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt

from dissm_engine.shape.decoder import DecoderArchitecture


class ShapePreset(BaseModel):
    """Everything that decides how surfaces become a shape model (D4; paper A.1, A.2, Table 4)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # surfaces
    liver_labels: tuple[int, ...] = (6,)
    max_shapes: PositiveInt | None = None
    max_validation: PositiveInt | None = None
    max_held_out: PositiveInt | None = None
    taubin_iterations: int = 10
    simplified_share: PositiveFloat = 0.2

    # livers of rare shapes
    deformed_per_liver: NonNegativeInt = 0
    """Each a training liver changed into one of the known variants. In every epoch as many of them are learned from as
    of the real ones, so that the real ones count as much as all deformed ones together."""

    # alignment by coherent point drift
    align_to: Literal["mean", "anchor"] = "mean"
    align_rounds: PositiveInt = 3
    extremely_simplified_share: PositiveFloat = 0.01
    margin: PositiveFloat = 1.05

    # samples
    samples_per_shape: PositiveInt = 150_000
    uniform_share: PositiveFloat = 0.2
    sphere_radius: PositiveFloat = 1.1
    jitter: tuple[float, float] = (0.1, 0.01)

    # decoder
    layers: PositiveInt = 6
    width: PositiveInt = 192
    latent_size: PositiveInt = 64
    inject_at: PositiveInt = 3
    activation: Literal["relu", "silu", "softplus", "sine"] = "sine"
    fourier_bands: int = 0
    weight_norm: bool = False
    dropout: float = 0.0
    bounded_output: bool = False

    # auto-decoder training
    code_start: PositiveFloat = 0.1
    """Norm of the random codes at the start; small ones let the shapes, not chance, decide where codes go."""
    epochs: PositiveInt = 2500
    batch_size: PositiveInt = 20
    samples_per_step: PositiveInt = 256
    decoder_learning_rate: PositiveFloat = 1e-3
    code_learning_rate: PositiveFloat = 2e-3
    weight_decay: float = 0.0
    schedule: Literal["cosine", "step"] = "cosine"
    prior_weight: float = 1e-4
    """Of the mean |z|^2 over a batch's shapes beside the mean |error|; Eq. 3 over N samples gives 1 / (sigma^2 N)."""
    eikonal_weight: float = 0.0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """bfloat16 is used only where the processor or GPU multiplies it natively."""
    checkpoint_every: PositiveInt = 100

    # latent space
    components: PositiveInt | None = None
    """How many principal components the model keeps; None keeps every one that carries variance."""

    @property
    def architecture(self) -> DecoderArchitecture:
        """The decoder these settings ask for."""
        return DecoderArchitecture(
            layers=self.layers,
            width=self.width,
            latent_size=self.latent_size,
            inject_at=self.inject_at,
            activation=self.activation,
            fourier_bands=self.fourier_bands,
            weight_norm=self.weight_norm,
            dropout=self.dropout,
            bounded_output=self.bounded_output,
        )

    @classmethod
    def smoke(cls) -> ShapePreset:
        """Seconds: a few livers, a tiny decoder; the chain works, the shapes are blobs."""
        return cls(
            max_shapes=8,
            max_validation=2,
            max_held_out=2,
            deformed_per_liver=1,
            align_rounds=1,
            samples_per_shape=8_000,
            layers=4,
            width=64,
            latent_size=16,
            inject_at=2,
            epochs=60,
            batch_size=8,
            samples_per_step=512,
            checkpoint_every=30,
            components=6,
        )

    @classmethod
    def small(cls) -> ShapePreset:
        """The shipped bundle's."""
        return cls(deformed_per_liver=4)

    @classmethod
    def paper(cls) -> ShapePreset:
        """Appendix A.1 and Table 4 to the letter, the network of Park et al. 2019."""
        return cls(
            taubin_iterations=0,
            simplified_share=0.1,
            align_to="anchor",
            align_rounds=1,
            margin=1.0,
            samples_per_shape=1_000_000,
            sphere_radius=1.0,
            layers=8,
            width=512,
            latent_size=256,
            inject_at=4,
            activation="relu",
            weight_norm=True,
            dropout=0.2,
            bounded_output=True,
            code_start=1.0,
            epochs=2000,
            batch_size=6,
            samples_per_step=30_000,
            decoder_learning_rate=5e-4,
            code_learning_rate=1e-3,
            weight_decay=1e-4,
            schedule="step",
            prior_weight=1.0 / (100.0**2 * 30_000),
            precision="float32",
            components=28,
        )
