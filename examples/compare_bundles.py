"""Compare two model bundles on one CT: volumes, seconds, and the DSC between both masks.

python examples/compare_bundles.py FOLDER OTHER_BUNDLE [--bundle BUNDLE]

Two bundles that agree may both be wrong: `dissm-train evaluate` compares a bundle with a known truth.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from delineate_folder import read_ct

from dissm_engine import Bundle, Delineator, Volume


def mask_by(bundle: Bundle, volume: Volume) -> npt.NDArray[np.bool_]:
    """The mask that one bundle gives; prints a line about it."""
    engine = Delineator(bundle)
    started = time.perf_counter()
    found = engine.delineate(volume)
    seconds = time.perf_counter() - started
    name = f"{bundle.name} {bundle.version} ({bundle.digest[:12]})"
    print(f"{name}: {found.volume_ml:.0f} ml, {found.findings.verdict}, {seconds:.1f} s")
    return found.mask


def dice(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Dice similarity coefficient of two masks on one grid, 0...1."""
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def main() -> None:
    """Delineate one CT twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of DICOM files")
    parser.add_argument("other", type=Path, help="a model bundle, folder or zip")
    parser.add_argument("--bundle", type=Path, help="the bundle to compare with; the shipped one by default")
    given = parser.parse_args()

    volume = read_ct(given.folder)
    first, second = (mask_by(Bundle.load(path), volume) for path in (given.bundle, given.other))
    print(f"DSC between them: {dice(first, second):.4f}")


if __name__ == "__main__":
    main()
