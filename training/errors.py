"""Errors of training."""

from __future__ import annotations

from dissm_engine.errors import DissmError


class TrainingError(DissmError):
    """A training or evaluation that cannot go on."""
