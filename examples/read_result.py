"""Read what the node sends: the SEG with highdicom, the Surface Segmentation with pydicom. Neither needs this project.

python examples/read_result.py seg.dcm surface.dcm [--stl liver.stl]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import trimesh


def read_mask(path: Path) -> highdicom.Volume:
    """The segment as a volume that knows where it lies: `.array` is 0 or 1, `.affine` maps its indices to LPS mm."""
    return highdicom.seg.segread(path).get_volume(combine_segments=True)


def read_mesh(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Vertices [V, 3] in LPS mm and triangles [F, 3] that count from zero (in the file they count from one).

    PS3.3 C.27.1: little-endian float32 coordinates, unsigned 32-bit indices.
    """
    surface = pydicom.dcmread(path).SurfaceSequence[0]
    coordinates = surface.SurfacePointsSequence[0].PointCoordinatesData
    indices = surface.SurfaceMeshPrimitivesSequence[0].LongTrianglePointIndexList
    vertices = np.frombuffer(coordinates, "<f4").reshape(-1, 3)
    return vertices, np.frombuffer(indices, "<u4").astype(np.int64).reshape(-1, 3) - 1


def main() -> None:
    """Print what both objects say, and write the surface for other programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seg", type=Path, help="a Segmentation (SEG)")
    parser.add_argument("surface", type=Path, help="a Surface Segmentation")
    parser.add_argument("--stl", type=Path, help="write the surface here")
    given = parser.parse_args()

    mask = read_mask(given.seg)
    millilitres = mask.array.sum() * np.prod(mask.spacing) / 1000
    print(f"{pydicom.dcmread(given.seg, stop_before_pixels=True).SeriesDescription}")
    print(f"mask: {mask.array.shape} voxels of {np.round(mask.spacing, 2)} mm, {millilitres:.0f} ml")

    mesh = trimesh.Trimesh(*read_mesh(given.surface), process=False)
    closed = "closed" if mesh.is_watertight else "open"
    print(f"mesh: {len(mesh.vertices)} vertices, {closed}, {mesh.volume / 1000:.0f} ml")
    if given.stl:
        mesh.export(given.stl)


if __name__ == "__main__":
    main()
