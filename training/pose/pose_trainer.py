"""Trains one stage of the agent by episodes (paper 3.2.1, B.2)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dissm_engine.pose.agent import PoseAgent, StageNetwork
from dissm_engine.pose.correction import AgentState, StageName, take_step
from dissm_engine.pose.observation import CoarseImage, ImplicitShape, ShapeCanvas, observe
from dissm_engine.pose.similarity import PoseBatch
from dissm_engine.precision import native_bfloat16
from training.pose.episodes import Visit, visits, visits_in_epoch
from training.pose.perturbation import perturbed
from training.pose.pose_loss import LossTerms, agent_loss, distance_error_mm
from training.pose.pose_settings import PosePreset, StagePreset
from training.pose.scenes import Scene
from training.pose.target_states import surface_mm_per_loading, target_states

log = logging.getLogger(__name__)

Starts = Callable[[int, CoarseImage, np.random.Generator], AgentState]
"""First state (a batch of one) of an episode of case n in this image."""

_GRADIENT_NORM = 1.0
_NOISE = 0.03
_PLATEAU_PATIENCE = 3


@dataclass
class _Episode:
    """Where one case stands between its visits."""

    image: CoarseImage
    state: AgentState
    center_lps: torch.Tensor


class StageTrainer:
    """Owns the encoder, its optimiser and the episodes of one stage."""

    def __init__(
        self,
        network: StageNetwork,
        shape: ImplicitShape,
        canvas: ShapeCanvas,
        preset: PosePreset,
        training: Sequence[Scene],
        validation: Sequence[Scene],
    ) -> None:
        self.network, self.shape, self.canvas, self.preset = network, shape, canvas, preset
        self.training, self.validation = training, validation
        self.stage: StagePreset = preset.stage(network.name)
        self.targets, self.loading_mm = target_states(training, canvas), surface_mm_per_loading(canvas)
        self.optimizer = torch.optim.Adam(
            network.encoder.parameters(), self.stage.learning_rate, weight_decay=preset.weight_decay
        )
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, patience=_PLATEAU_PATIENCE)

    def run(self, folder: Path, starts: Starts, seed: int, progress: Callable[[float], None]) -> None:
        """All epochs that are still missing; a checkpoint in `folder` after each."""
        checkpoint = folder / f"{self.network.name}.checkpoint.pt"
        for epoch in range(self._resumed(checkpoint), self.stage.epochs):
            began = time.monotonic()
            rng = np.random.default_rng([seed, list(StageName).index(self.network.name), epoch])
            torch.manual_seed(int(rng.integers(2**31)))
            trained_mm = self._epoch(epoch, starts, rng)
            validated_mm = self.validate(starts, np.random.default_rng(seed))
            if self.preset.schedule == "plateau":
                self.plateau.step(validated_mm)
            self._save(checkpoint, epoch + 1)
            record = {
                "stage": self.network.name.value,
                "epoch": epoch + 1,
                "training_mm": round(trained_mm, 3),
                "validation_mm": round(validated_mm, 3),
                "seconds": round(time.monotonic() - began, 1),
            }
            with (folder / "metrics.jsonl").open("a") as lines:
                lines.write(json.dumps(record) + "\n")
            log.info("%s", json.dumps(record))
            progress((epoch + 1) / self.stage.epochs)

    def _epoch(self, epoch: int, starts: Starts, rng: np.random.Generator) -> float:
        """One epoch; the mean distance error in mm of its second half."""
        self.network.encoder.train()
        cases, batch_size, steps = len(self.training), self.stage.batch_size, self.stage.steps
        total = visits_in_epoch(cases, steps, batch_size)
        episodes: dict[int, _Episode] = {}
        errors: list[float] = []
        order = visits(self.preset.episodes, cases, steps, batch_size, rng)
        for number, visit in enumerate(order):
            if self.preset.schedule == "cosine":
                self._set_cosine_rate((epoch + number / total) / self.stage.epochs)
            terms, states = self._visit(visit, episodes, starts, rng)
            errors.append(float(terms.distance_mm))
            for index, case in enumerate(visit.cases):
                episodes[case].state = states[[index]]
        self.network.encoder.eval()
        return float(np.mean(errors[len(errors) // 2 :]))

    def _visit(
        self, visit: Visit, episodes: dict[int, _Episode], starts: Starts, rng: np.random.Generator
    ) -> tuple[LossTerms, AgentState]:
        """Perturb, look, correct, learn (Eq. 9, 10): one optimiser step."""
        for case, begins in zip(visit.cases, visit.begins, strict=True):
            if begins:
                episodes[case] = self._begin(case, starts, rng)
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
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.encoder.parameters(), _GRADIENT_NORM)
        self.optimizer.step()
        return terms, step.state.detached()

    def _begin(self, case: int, starts: Starts, rng: np.random.Generator) -> _Episode:
        image = self.training[case].image(rng, self.preset.fields_of_view)
        state = starts(case, image, rng)
        return _Episode(image, state, self._center(image, state))

    def _center(self, image: CoarseImage, state: AgentState) -> torch.Tensor:
        """Where the image frame's grid stands: the whole image for translation, the found place after it."""
        if self.network.name is StageName.TRANSLATION:
            return image.box_lps().mean(dim=0)
        return state.poses.translation[0]

    def validate(self, starts: Starts, rng: np.random.Generator) -> float:
        """Mean distance error in mm on the validation scenes, played as in inference from one start each."""
        offset = len(self.training)
        return float(
            np.mean(
                [
                    float(distance_error_mm(self.shape, state, _all_samples(scene, self.preset.loss_points)))
                    for scene, state in zip(
                        self.validation, self._settled(self.validation, offset, starts, rng), strict=True
                    )
                ]
            )
        )

    def settle(self, starts: Starts, rng: np.random.Generator) -> AgentState:
        """The states in which this stage leaves all training and then all validation scenes (Table 1, last column)."""
        scenes = [*self.training, *self.validation]
        return _joined(list(self._settled(scenes, 0, starts, rng)))

    def _settled(
        self, scenes: Sequence[Scene], offset: int, starts: Starts, rng: np.random.Generator
    ) -> Iterator[AgentState]:
        agent = PoseAgent([self.network], self.canvas)
        for number, scene in enumerate(scenes):
            image = scene.image()
            with torch.no_grad():
                yield agent.run_stage(self.network, image, starts(offset + number, image, rng)).states[-1]

    def _set_cosine_rate(self, done: float) -> None:
        rate = self.stage.learning_rate * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * done))))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _resumed(self, checkpoint: Path) -> int:
        """Epochs that are done; weights and optimiser as they were then."""
        if not checkpoint.exists():
            return 0
        saved: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        self.network.encoder.load_state_dict(saved["encoder"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.plateau.load_state_dict(saved["plateau"])
        self.network.encoder.eval()
        return int(saved["epochs"])

    def _save(self, checkpoint: Path, epochs: int) -> None:
        aside = checkpoint.with_suffix(".part")
        saved = {
            "encoder": self.network.encoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "plateau": self.plateau.state_dict(),
            "epochs": epochs,
        }
        torch.save(saved, aside)
        aside.replace(checkpoint)


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
