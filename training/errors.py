"""The error of a training run."""

from __future__ import annotations

from dissm_engine.errors import DissmError


class RunError(DissmError):
    """A run that cannot go on in its folder, or that was asked to stop."""
