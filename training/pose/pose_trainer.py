"""Trains one stage of the agent by episodes (paper 3.2.1, B.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dissm_engine.pose.agent import PoseAgent, StageNetwork
from dissm_engine.pose.correction import AgentState, StageName, take_step
from dissm_engine.pose.observation import CoarseImage, ImplicitShape, ShapeCanvas, observe
from dissm_engine.pose.similarity import PoseBatch
from dissm_engine.precision import native_bfloat16
from training.pose.episodes import Visit, visits, visits_in_epoch
from training.pose.perturbation import perturbed
from training.pose.pose_loss import LossTerms, agent_loss, distance_error_mm
from training.pose.pose_settings import WATCHED, PosePreset, StagePreset
from training.pose.scenes import Scene
from training.pose.target_states import surface_mm_per_loading, target_states
from training.stable_decay import FlatRule, Validation
from training.training_loop import LoopSettings, Metrics, StepLoss, mean_metrics

Starts = Callable[[int, CoarseImage, np.random.Generator], AgentState]
"""First state (a batch of one) of an episode of case n in this image."""

_MAX_GRADIENT_NORM = 1.0
_NOISE = 0.03


@dataclass
class _Episode:
    """Where one case stands between its visits."""

    image: CoarseImage
    state: AgentState
    center_lps: torch.Tensor


class StageTraining:
    """One stage of the agent as a task of the training loop. Every random draw comes from seed, stage and epoch.

    Args:
        network: The stage's network; its encoder is trained.
        shape: The frozen shape model.
        canvas: The shape model's canvas.
        preset: Settings of the agent.
        training: Scenes to learn from.
        validation: Scenes of other livers.
        starts: Where episodes start.
        seed: Of everything random.
    """

    def __init__(
        self,
        network: StageNetwork,
        shape: ImplicitShape,
        canvas: ShapeCanvas,
        preset: PosePreset,
        training: Sequence[Scene],
        validation: Sequence[Scene],
        starts: Starts,
        seed: int,
    ) -> None:
        self.network, self.shape, self.canvas, self.preset = network, shape, canvas, preset
        self.training, self.validation = training, validation
        self.starts, self.seed = starts, seed
        self.stage: StagePreset = preset.stage(network.name)
        self.targets, self.loading_mm = target_states(training, canvas), surface_mm_per_loading(canvas)
        self.model = network.encoder
        self.optimizer = torch.optim.Adam(
            network.encoder.parameters(), self.stage.learning_rate, weight_decay=preset.weight_decay
        )

    @property
    def loop_settings(self) -> LoopSettings:
        """A checkpoint after each epoch."""
        steps_per_epoch = visits_in_epoch(len(self.training), self.stage.steps, self.stage.batch_size)
        flat = FlatRule(self.preset.flat_gain_mm, self.preset.flat_epochs, falling=True)
        return LoopSettings(
            total_steps=self.stage.epochs * steps_per_epoch,
            schedule=self.preset.rate_schedule(self.network.name, steps_per_epoch),
            max_gradient_norm=_MAX_GRADIENT_NORM,
            validation=Validation(self._measure, steps_per_epoch, WATCHED, flat),
        )

    def steps(self, epoch: int) -> Iterator[StepLoss]:
        """One epoch of episodes."""
        rng = np.random.default_rng([self.seed, list(StageName).index(self.network.name), epoch])
        torch.manual_seed(int(rng.integers(2**31)))
        episodes: dict[int, _Episode] = {}
        cases = len(self.training)
        for visit in visits(self.preset.episodes, cases, self.stage.steps, self.stage.batch_size, rng):
            terms, states = self._visit(visit, episodes, rng)
            yield StepLoss(terms.total, {"training_mm": float(terms.distance_mm)})
            for index, case in enumerate(visit.cases):
                episodes[case].state = states[[index]]

    def metrics_of(self, steps: Sequence[Metrics]) -> Metrics:
        """Mean distance error in mm of the second half of the steps."""
        return mean_metrics(steps[len(steps) // 2 :])

    def _measure(self, _: nn.Module) -> Metrics:
        """Of the network itself: no average of its weights is kept."""
        return {WATCHED: self.validate(np.random.default_rng(self.seed))}

    def export(self, averaged: nn.Module) -> None:
        """Nothing: the agent is written when its stage is finished, with the stages before it."""

    def _visit(
        self, visit: Visit, episodes: dict[int, _Episode], rng: np.random.Generator
    ) -> tuple[LossTerms, AgentState]:
        """Perturb, look, correct, compare (Eq. 9, 10): the loss of one step, and the states after it."""
        for case, begins in zip(visit.cases, visit.begins, strict=True):
            if begins:
                episodes[case] = self._begin(case, rng)
        current = [episodes[case] for case in visit.cases]
        state = perturbed(_joined([episode.state for episode in current]), self.stage.standard, self.stage.fine, rng)
        seen = observe(
            self.network.observation,
            [episode.image for episode in current],
            state.poses,
            state.loadings,
            self.canvas,
            torch.stack([episode.center_lps for episode in current]),
        )
        noise = torch.from_numpy(rng.uniform(0, _NOISE, (len(seen), 1, 1, 1)).astype(np.float32))
        seen[:, 0] += noise * torch.randn_like(seen[:, 0])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.preset.bfloat16 and native_bfloat16()):
            raw = self.network.encoder(seen)
        step = take_step(self.network.name, state, raw, self.network.accumulates_loadings)
        scenes = [self.training[case] for case in visit.cases]
        samples = torch.from_numpy(np.stack([s.drawn_samples(self.preset.loss_points, rng) for s in scenes]))
        terms = agent_loss(
            self.shape,
            self.network.name,
            step,
            samples,
            self.targets[visit.cases],
            self.loading_mm,
            self.stage.supervision_weight,
            self.preset.latent_sigma,
        )
        return terms, step.state.detached()

    def _begin(self, case: int, rng: np.random.Generator) -> _Episode:
        image = self.training[case].image(rng, self.preset.fields_of_view)
        state = self.starts(case, image, rng)
        return _Episode(image, state, self._center(image, state))

    def _center(self, image: CoarseImage, state: AgentState) -> torch.Tensor:
        """Where the image frame's grid stands: the whole image for translation, the found place after it."""
        if self.network.name is StageName.TRANSLATION:
            return image.box_lps().mean(dim=0)
        return state.poses.translation[0]

    def validate(self, rng: np.random.Generator) -> float:
        """Mean distance error in mm on the validation scenes, played as in inference from one start each."""
        states = self._final_states(self.validation, len(self.training), rng)
        errors = [
            float(distance_error_mm(self.shape, state, _all_samples(scene, self.preset.loss_points)))
            for scene, state in zip(self.validation, states, strict=True)
        ]
        return float(np.mean(errors))

    def final_states(self, rng: np.random.Generator) -> AgentState:
        """The states in which this stage leaves all training and then all validation scenes (Table 1, last column)."""
        return _joined(list(self._final_states([*self.training, *self.validation], 0, rng)))

    def _final_states(self, scenes: Sequence[Scene], offset: int, rng: np.random.Generator) -> Iterator[AgentState]:
        agent = PoseAgent([self.network], self.canvas)
        for number, scene in enumerate(scenes):
            image = scene.image()
            with torch.no_grad():
                yield agent.run_stage(self.network, image, self.starts(offset + number, image, rng)).states[-1]


def _all_samples(scene: Scene, count: int) -> torch.Tensor:
    """Evenly spread samples [1, <= count, 4], always the same."""
    return torch.from_numpy(scene.samples[:: max(1, len(scene.samples) // count)])[None]


def _joined(states: Sequence[AgentState]) -> AgentState:
    """One batch of many."""
    poses = [state.poses for state in states]
    return AgentState(
        PoseBatch(
            torch.cat([part.translation for part in poses]),
            torch.cat([part.scale for part in poses]),
            torch.cat([part.rotation for part in poses]),
        ),
        torch.cat([state.loadings for state in states]),
    )
