"""What must be known to build the pose agent again from its tensors: plain values for the bundle's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dissm_engine.pose.correction import StageName
from dissm_engine.pose.encoder import EncoderArchitecture
from dissm_engine.pose.observation import ObservationSpec


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How poses are searched for in a whole volume.

    Attributes:
        start_spacing_mm: Cell of the lattice of first positions.
        carried: So many of the most promising trajectories go past the translation stage.
        tolerance_mm: A stage ends when no trajectory moves further than this in a step.
    """

    start_spacing_mm: float = 180.0
    carried: int = 3
    tolerance_mm: float = 1.0


@dataclass(frozen=True, slots=True)
class StageArchitecture:
    """One stage of the agent.

    Attributes:
        name: Which of the four stages it is.
        steps: Maximum number of corrections in inference.
        observation: What the stage is shown.
        encoder: Of the network that turns an observation into a correction.
    """

    name: StageName
    steps: int
    observation: ObservationSpec
    encoder: EncoderArchitecture

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> StageArchitecture:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError where a value is missing or wrong."""
        seen, encoder = dict(content["observation"]), dict(content["encoder"])
        seen["shape"] = tuple(seen["shape"])
        encoder |= {"widths": tuple(encoder["widths"]), "grid": tuple(encoder["grid"])}
        return StageArchitecture(
            StageName(content["name"]), int(content["steps"]), ObservationSpec(**seen), EncoderArchitecture(**encoder)
        )

    def to_json(self) -> dict[str, Any]:
        """The architecture as plain JSON values."""
        observation = asdict(self.observation) | {"shape": list(self.observation.shape)}
        encoder = asdict(self.encoder) | {"widths": list(self.encoder.widths), "grid": list(self.encoder.grid)}
        return {"name": self.name.value, "steps": self.steps, "observation": observation, "encoder": encoder}


@dataclass(frozen=True, slots=True)
class AgentArchitecture:
    """The whole agent.

    Attributes:
        half_width_mm: The shape canvas covers plus and minus this along each axis of the reference frame.
        search: How poses are searched for in a whole volume.
        stages: In the order in which they run.
    """

    half_width_mm: float
    search: SearchSettings
    stages: tuple[StageArchitecture, ...]

    def to_json(self) -> dict[str, Any]:
        """The architecture as plain JSON values, for a bundle's manifest."""
        return {
            "half_width_mm": self.half_width_mm,
            "search": asdict(self.search),
            "stages": [stage.to_json() for stage in self.stages],
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> AgentArchitecture:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError where a value is missing or wrong."""
        stages = tuple(StageArchitecture.from_json(stage) for stage in content["stages"])
        return AgentArchitecture(float(content["half_width_mm"]), SearchSettings(**content["search"]), stages)
