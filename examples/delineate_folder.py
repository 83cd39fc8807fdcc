"""Delineate the liver in a folder of DICOM files, in Python and without a running node.

python examples/delineate_folder.py FOLDER --out RESULT

RESULT then holds `liver.npz` (mask: bool [slice, row, column]; lps_from_voxel: 4 x 4, maps (i, j, k, 1) to LPS mm) and
`liver.stl`, the closed surface in LPS mm.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from dicom_node.assemble.volume import read_volume
from dissm_engine import Bundle, Delineator, Volume


def series_of(folder: Path) -> dict[str, list[Path]]:
    """The CT files of each series in a folder, at any depth, by SeriesInstanceUID."""
    series = defaultdict(list)
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "Modality"])
        except InvalidDicomError:
            continue
        if header.get("Modality") == "CT":
            series[str(header.SeriesInstanceUID)].append(file)
    return series


def read_ct(folder: Path, wanted: str | None = None) -> Volume:
    """One series of a folder in HU, its slices sorted by their positions; the one with the most images by default.

    Raises RefusalError where its images make no even volume, ValueError where there is no such series.
    """
    series = series_of(folder)
    if not series or wanted not in {None, *series}:
        raise ValueError(f"{folder} holds no CT series {wanted or ''}; it holds {sorted(series)}")
    files = series[wanted] if wanted else max(series.values(), key=len)
    return read_volume(files).volume


def main() -> None:
    """Read, delineate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of DICOM files")
    parser.add_argument("--out", type=Path, required=True, help="where the results go")
    parser.add_argument("--series", help="a SeriesInstanceUID, where the folder holds several series")
    parser.add_argument("--bundle", type=Path, help="a model bundle; the shipped one by default")
    given = parser.parse_args()

    volume = read_ct(given.folder, given.series)
    found = Delineator(Bundle.load(given.bundle)).delineate(volume)

    given.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(given.out / "liver.npz", mask=found.mask, lps_from_voxel=volume.lps_from_voxel)
    found.mesh.trimesh.export(given.out / "liver.stl")
    findings = found.findings
    print(f"volume {found.volume_ml:.0f} ml, {findings.verdict}, estimated DSC {findings.estimated_dsc:.2f}")
    for reason in findings.reasons:
        print(f"  {reason}")


if __name__ == "__main__":
    main()
