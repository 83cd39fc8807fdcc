"""The stages of a run, in order. Each leaves its results in the run folder and skips what is already there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import torch

from dissm_engine.errors import Reason
from training.bundle_stage import run_bundle, run_card
from training.context import RunContext
from training.errors import RunError
from training.evaluate.calibration_stage import run_calibrate
from training.evaluate.evaluation_stage import run_evaluate, run_generalisation
from training.evaluate.trust_stage import run_trust
from training.phantom.anatomies_stage import run_anatomies
from training.pose.pose_stage import run_pose
from training.refine.refinement_stage import run_finetune, run_fits, run_refine
from training.run_record import require_recorded_settings
from training.shape.shape_stage import run_shape
from training.sources.surfaces_stage import run_surfaces

Stage = Callable[[RunContext], None]

STAGES: Mapping[str, Stage] = {
    "surfaces": run_surfaces,
    "shape": run_shape,
    "generalisation": run_generalisation,
    "anatomies": run_anatomies,
    "pose": run_pose,
    "refine": run_refine,
    "fits": run_fits,
    "finetune": run_finetune,
    "calibrate": run_calibrate,
    "trust": run_trust,
    "bundle": run_bundle,
    "evaluate": run_evaluate,
    "card": run_card,
}

RUN_STOPPED = Reason(
    "RUN_STOPPED",
    "the run was asked to stop and did so after stage {stage}",
    "run the same command again; it goes on from there",
)
_log = logging.getLogger("dissm-train")


def run(context: RunContext, first: str | None = None, last: str | None = None) -> None:
    """Every stage from `first` to `last`. A stage that has finished marks itself, and is not run again.

    Raises:
        RunError: If the folder was begun with other settings, or if the run was asked to stop.
    """
    torch.set_num_threads(context.threads)
    require_recorded_settings(context)
    names = list(STAGES)
    chosen = names[names.index(first or names[0]) : names.index(last or names[-1]) + 1]
    for name in chosen:
        mark = context.folder / f"{name}.done"
        if mark.exists():
            _log.info("%s: done before", name)
            continue
        _log.info("%s: seed %d, %d threads", name, context.seed, context.threads)
        STAGES[name](context)
        mark.touch()
        if context.stop() and name != chosen[-1]:
            raise RunError(RUN_STOPPED, stage=name)
