"""Contact sheet of a real CT with the contour that the shipped bundle finds, for looking at it slice by slice.

python docs/draw_sheet.py FOLDER OUT.png [--acquisition N] [--bundle FOLDER] [--every 3]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pydicom
from matplotlib.figure import Figure

from dicom_node.assemble.volume import read_volume
from dissm_engine.bundle import Bundle
from dissm_engine.delineation import Delineation
from dissm_engine.delineator import Delineator
from dissm_engine.volume import Volume

COLUMNS = 7


def main() -> None:
    """Read the arguments, delineate, draw."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--acquisition", type=int)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--every", type=int, default=3)
    given = arguments.parse_args()
    volume = read_volume(sorted_files(given.folder, given.acquisition)).volume
    found = Delineator(Bundle.load(given.bundle)).delineate(volume)
    draw(volume, found, given.out, given.every)
    print(f"{found.volume_ml:.0f} ml, {found.findings.verdict}, estimated DSC {found.findings.estimated_dsc:.2f}")
    print("; ".join(found.findings.reasons))
    print({name: round(value) for name, value in found.tissue_hu.items()})


def sorted_files(folder: Path, acquisition: int | None) -> list[Path]:
    """The series' files by position along z."""
    headers = [(path, pydicom.dcmread(path, stop_before_pixels=True)) for path in folder.rglob("*.dcm")]
    kept = [(p, h) for p, h in headers if acquisition is None or int(h.AcquisitionNumber) == acquisition]
    return [path for path, header in sorted(kept, key=lambda item: float(item[1].ImagePositionPatient[2]))]


def draw(volume: Volume, found: Delineation, out: Path, every: int) -> None:
    """Axial slices from tip to dome, then coronal ones."""
    ks = np.flatnonzero(found.mask.any(axis=(1, 2)))
    js = np.flatnonzero(found.mask.any(axis=(0, 2)))
    axial = list(range(max(0, ks[0] - 2), min(len(found.mask), ks[-1] + 3), every))
    coronal = [int(j) for j in np.linspace(js[0], js[-1], 2 * COLUMNS + 2)[1:-1]]
    spacing = volume.grid.spacing
    rows = -(-len(axial) // COLUMNS) + 2
    figure = Figure(figsize=(COLUMNS * 3, rows * 2.6))
    for number in range(rows * COLUMNS):
        in_coronal = number - (rows - 2) * COLUMNS
        if in_coronal < 0 and number >= len(axial):
            continue
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        if in_coronal >= 0:
            j = coronal[in_coronal]
            image, mask, aspect = volume.hu[::-1, j], found.mask[::-1, j], spacing[2] / spacing[0]
        else:
            image, mask, aspect = volume.hu[axial[number]], found.mask[axial[number]], spacing[1] / spacing[0]
        axes.imshow(image, cmap="gray", vmin=-110, vmax=240, aspect=aspect)
        if mask.any():
            axes.contour(mask, [0.5], colors="#ff3030", linewidths=0.7)
        axes.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    figure.savefig(out, dpi=60)


if __name__ == "__main__":
    main()
