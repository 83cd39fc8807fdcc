"""The pose agent: translation, scale, rotation, non-rigid, each iterated until its corrections fade (paper 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from dissm_engine.errors import FOREIGN_SHAPE_MODEL, BundleError
from dissm_engine.pose.architecture import AgentArchitecture, SearchSettings, StageArchitecture
from dissm_engine.pose.correction import RIGID_OUTPUTS, AgentState, StageName, take_step
from dissm_engine.pose.encoder import EncoderArchitecture, ResidualEncoder
from dissm_engine.pose.observation import CoarseImage, ImplicitShape, ObservationSpec, ShapeCanvas, observe
from dissm_engine.pose.similarity import Pose
from dissm_engine.progress import UNMONITORED, Monitor
from dissm_engine.volume import Volume

_SAME_SHAPE_MM = 1.0
_CHECKED_POINTS = 64
_STARTS_AT_ONCE = 8


@dataclass(frozen=True)
class StageNetwork:
    """One stage of the agent with its network.

    Attributes:
        name: Which of the four stages it is.
        observation: What it is shown.
        steps: Maximum number of corrections in inference.
        encoder: Turns an observation into a correction.
    """

    name: StageName
    observation: ObservationSpec
    steps: int
    encoder: ResidualEncoder

    @property
    def accumulates_loadings(self) -> bool:
        """Whether corrections of the loadings add up; they can only where the encoder is shown the loadings."""
        return self.observation.show_loadings


@dataclass(frozen=True)
class PosePath:
    """Every correction of the chosen trajectory, and its result.

    Attributes:
        steps, stages, step_loadings: One entry for each correction; the start is not among them. The loadings are
            float32 [C] in standard deviations.
        pose, loadings: After the last correction.
        expected_error_mm: Mean absolute distance error that the agent expects of the result.
        spread_mm: Mean distance of the other carried trajectories' poses to the chosen one; 0 where there is none.
    """

    steps: tuple[Pose, ...]
    stages: tuple[StageName, ...]
    step_loadings: tuple[npt.NDArray[np.float32], ...]
    pose: Pose
    loadings: npt.NDArray[np.float32]
    expected_error_mm: float
    spread_mm: float


def stage_poses(path: PosePath) -> dict[StageName, tuple[Pose, npt.NDArray[np.float32]]]:
    """Pose and loadings as each stage left them, in the order of the stages."""
    return {
        stage: (pose, loadings)
        for stage, pose, loadings in zip(path.stages, path.steps, path.step_loadings, strict=True)
    }


@dataclass(frozen=True)
class StageResult:
    """Every state of one stage in order, and the expected error in mm [B] of the last."""

    stage: StageName
    states: tuple[AgentState, ...]
    expected_error_mm: torch.Tensor

    def __getitem__(self, chosen: torch.Tensor) -> StageResult:
        return StageResult(self.stage, tuple(state[chosen] for state in self.states), self.expected_error_mm[chosen])


class PoseAgent:
    """Four stages that share one canvas of the shape model (paper 3.2)."""

    def __init__(
        self, stages: Sequence[StageNetwork], canvas: ShapeCanvas, search: SearchSettings | None = None
    ) -> None:
        self.stages = tuple(stages)
        self.canvas = canvas
        self.search = search or SearchSettings()
        for stage in self.stages:
            stage.encoder.eval()

    @property
    def components(self) -> int:
        """How many loadings the agent gives."""
        return len(self.canvas.basis_mm)

    def find_pose(self, volume: Volume, shape: ImplicitShape, monitor: Monitor = UNMONITORED) -> PosePath:
        """Pose and loadings of the shape in a CT that holds it somewhere.

        Args:
            volume: The CT.
            shape: The model that this agent was trained with.
            monitor: Told how many of the stages are done; looked at before every correction.

        Raises:
            BundleError: `shape` is another model.
            DelineationCancelled: The end of the work was asked for.
        """
        self._require_same_shape(shape)
        image = CoarseImage.from_volume(volume)
        starts = lattice_of_starts(image.box_lps(), self.search.start_spacing_mm)
        return self.run_stages(image, AgentState.at(starts, self.components), monitor)

    def run_stages(self, image: CoarseImage, state: AgentState, monitor: Monitor = UNMONITORED) -> PosePath:
        """Run all stages from these states; only the most promising go past translation."""
        results: list[StageResult] = []
        for number, stage in enumerate(self.stages):
            monitor.report("pose", number / len(self.stages))
            results.append(self.run_stage(stage, image, state, monitor))
            if stage.name is StageName.TRANSLATION:
                best = results[-1].expected_error_mm.argsort()[: self.search.carried]
                results = [part[best] for part in results]
            state = results[-1].states[-1]
        monitor.report("pose", 1.0)
        return _chosen_path(results)

    def run_stage(
        self, stage: StageNetwork, image: CoarseImage, state: AgentState, monitor: Monitor = UNMONITORED
    ) -> StageResult:
        """Correct until no trajectory moves further than the tolerance, or the stage's steps are used up.

        Returns:
            The states after each correction, and the error that is expected of the last.
        """
        centers = state.poses.translation
        if stage.name is StageName.TRANSLATION:
            centers = image.box_lps().mean(dim=0).expand(len(state), 3)
        states: list[AgentState] = []
        errors = torch.zeros(len(state))
        for _ in range(stage.steps):
            monitor.check()
            state, errors, moved_mm = self._correct(stage, image, state, centers)
            states.append(state)
            if float(moved_mm.max()) < self.search.tolerance_mm:
                break
        return StageResult(stage.name, tuple(states), errors)

    @torch.no_grad()
    def _correct(
        self, stage: StageNetwork, image: CoarseImage, state: AgentState, centers: torch.Tensor
    ) -> tuple[AgentState, torch.Tensor, torch.Tensor]:
        """One correction of every trajectory, a few at a time to bound memory."""
        raws = []
        for part in torch.split(torch.arange(len(state)), _STARTS_AT_ONCE):
            some = state[part]
            seen = observe(
                stage.observation, [image] * len(part), some.poses, some.loadings, self.canvas, centers[part]
            )
            raws.append(stage.encoder(seen))
        step = take_step(stage.name, state, torch.cat(raws), stage.accumulates_loadings)
        return step.state, step.log_error.exp(), step.state.poses.distance_mm(state.poses)

    def _require_same_shape(self, shape: ImplicitShape) -> None:
        """The stored canvas must be what this decoder draws."""
        lattice = self.canvas.mean_mm
        index = np.linspace(0, lattice.numel() - 1, _CHECKED_POINTS).astype(int)
        kji = torch.from_numpy(np.stack(np.unravel_index(index, tuple(lattice.shape)), axis=-1))
        half_width = self.canvas.half_width_mm / shape.mm_per_unit
        points = (2.0 * kji.flip(-1).float() / (len(lattice) - 1) - 1) * half_width
        with torch.no_grad():
            drawn = shape.canonical_sdf(points[None], shape.latent(torch.zeros(1, max(self.components, 1))))[0]
        difference = float((drawn * shape.mm_per_unit - lattice.flatten()[torch.from_numpy(index)]).abs().mean())
        if not difference <= _SAME_SHAPE_MM:
            raise BundleError(FOREIGN_SHAPE_MODEL, difference_mm=difference)

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Every weight and the canvas, by name, for safetensors."""
        tensors = {"canvas.mean_mm": self.canvas.mean_mm, "canvas.basis_mm": self.canvas.basis_mm}
        for stage in self.stages:
            tensors |= {f"{stage.name}.{name}": value for name, value in stage.encoder.state_dict().items()}
        return {name: value.detach().contiguous() for name, value in tensors.items()}

    def architecture(self) -> AgentArchitecture:
        """What `from_tensors` needs beside the tensors."""
        stages = tuple(
            StageArchitecture(stage.name, stage.steps, stage.observation, stage.encoder.architecture)
            for stage in self.stages
        )
        return AgentArchitecture(self.canvas.half_width_mm, self.search, stages)

    @staticmethod
    def from_tensors(tensors: Mapping[str, torch.Tensor], architecture: AgentArchitecture) -> PoseAgent:
        """The agent of `state_tensors` and `architecture`. Raises KeyError or RuntimeError if the two disagree."""
        canvas = ShapeCanvas(
            tensors["canvas.mean_mm"].float(), tensors["canvas.basis_mm"].float(), architecture.half_width_mm
        )
        return PoseAgent([_stage(tensors, stage) for stage in architecture.stages], canvas, architecture.search)


def encoder_for(observation: ObservationSpec, components: int, template: EncoderArchitecture) -> ResidualEncoder:
    """A fresh encoder whose inputs and outputs fit this observation and so many loadings."""
    return ResidualEncoder(
        replace(template, channels=observation.channels, grid=observation.shape, outputs=RIGID_OUTPUTS + components)
    )


def lattice_of_starts(box_lps: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """[N, 3] LPS mm: the middles of equal cells of about `spacing_mm` that fill the box [2, 3]."""
    low, extent = box_lps[0], box_lps[1] - box_lps[0]
    axes = []
    for axis in range(3):
        count = max(1, round(float(extent[axis]) / spacing_mm))
        axes.append(low[axis] + extent[axis] * (torch.arange(count) + 0.5) / count)
    return torch.cartesian_prod(*axes)


def _stage(tensors: Mapping[str, torch.Tensor], architecture: StageArchitecture) -> StageNetwork:
    """One stage with its own part of the agent's tensors."""
    network = ResidualEncoder(architecture.encoder)
    prefix = f"{architecture.name.value}."
    network.load_state_dict(
        {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    )
    return StageNetwork(architecture.name, architecture.observation, architecture.steps, network)


def _chosen_path(results: list[StageResult]) -> PosePath:
    """The trajectory with the smallest expected error at the end, and how far the others are from it."""
    errors, final = results[-1].expected_error_mm, results[-1].states[-1]
    chosen = int(errors.argmin())
    others = [index for index in range(len(final)) if index != chosen]
    spread = final.poses[others].distance_mm(final.poses[[chosen] * len(others)]).mean() if others else 0.0
    states = [(part.stage, state) for part in results for state in part.states]
    steps = tuple(state.poses.pose(chosen) for _, state in states)
    loadings = tuple(state.loadings[chosen].numpy().astype(np.float32) for _, state in states)
    return PosePath(
        steps,
        tuple(stage for stage, _ in states),
        loadings,
        steps[-1],
        loadings[-1],
        float(errors[chosen]),
        float(spread),
    )
