"""The entry of `dissm-train`: says what to install where the libraries of training are not there."""

from __future__ import annotations

import sys

_EXTRA = ("SimpleITK", "pycpd")


def main() -> None:
    """Run `dissm-train`; where a library of the extra `train` is missing, say so in one line and exit with code 2."""
    try:
        from training.cli import main as run
    except ModuleNotFoundError as missing:
        if missing.name not in _EXTRA:
            raise
        print(f'dissm-train: {missing.name} is not installed; run: pip install "dissm-node[train]"', file=sys.stderr)
        sys.exit(2)
    run()
