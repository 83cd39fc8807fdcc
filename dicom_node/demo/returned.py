"""Reads the objects that came back and measures them against the CT that was sent, knowing nothing of the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_node.assemble.volume import read_volume
from dicom_node.results.agreement import measure_agreement
from dicom_node.results.seg_reader import SegObject, mask_on_grid, read_seg
from dicom_node.results.surface.reader import SurfaceObject, read_surface
from dicom_node.values.ct_stack import CtStack
from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Grid
from dissm_phantom import Phantom

_SAME_POSITION_MM = 0.01
_MAX_VOLUME_DIFFERENCE = 0.05


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold of what came back, and what was found."""

    name: str
    holds: bool
    found: str


@dataclass(frozen=True)
class Returned:
    """A SEG and a Surface Segmentation on the CT they name.

    stack: the CT, read from the files that were sent. mask: bool [K, J, I] on its grid, from the SEG.
    mesh: from the Surface Segmentation, LPS mm.
    """

    stack: CtStack
    mask: npt.NDArray[np.bool_]
    mesh: TriangleMesh
    checks: tuple[Check, ...]

    @property
    def right(self) -> bool:
        """Every check holds."""
        return all(check.holds for check in self.checks)

    @property
    def volume_ml(self) -> float:
        """Volume of the SEG."""
        return float(self.mask.sum() * self.stack.volume.grid.voxel_ml)


def read_returned(seg_file: Path, surface_file: Path, sent: Mapping[str, Path]) -> Returned:
    """Re-read both objects and check them against the CT.

    sent: file of each SOP Instance UID that was sent. Raises ProofError where an object cannot be read or its frames
    do not lie on slices of the CT; KeyError where the SEG names an image that was never sent.
    """
    seg, surface = read_seg(seg_file), read_surface(surface_file)
    named = [
        str(item.ReferencedSOPInstanceUID)
        for series in seg.dataset.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    ]
    stack = read_volume([sent[uid] for uid in named])
    mask, _ = mask_on_grid(seg, stack.volume.grid)
    checks = (
        _one_frame_of_reference(seg, surface, stack),
        _frames_on_their_images(seg, stack),
        Check("the surface is closed and points outward", surface.mesh.closed, f"{len(surface.mesh.faces)} triangles"),
        _surface_on_seg(mask, stack.volume.grid, surface.mesh),
        _same_volume(mask, stack.volume.grid, surface.mesh),
    )
    return Returned(stack, mask, surface.mesh, checks)


def dice(mask: npt.NDArray[np.bool_], grid: Grid, truth: Phantom) -> float:
    """DSC of a mask on a CT's grid with the phantom the CT was made of; the grids are one lattice, perhaps flipped."""
    kji = []
    for axis, size in ((2, grid.shape[0]), (1, grid.shape[1]), (0, grid.shape[2])):
        ijk = np.zeros((size, 3))
        ijk[:, axis] = np.arange(size)
        kji.append(np.rint(truth.volume.grid.to_voxel(grid.to_lps(ijk))[:, axis]).astype(int))
    expected = truth.mask[np.ix_(*kji)]
    return float(2 * (mask & expected).sum() / (mask.sum() + expected.sum()))


def _one_frame_of_reference(seg: SegObject, surface: SurfaceObject, stack: CtStack) -> Check:
    ct = str(stack.headers[0].FrameOfReferenceUID)
    same = {str(seg.dataset.FrameOfReferenceUID), str(surface.dataset.FrameOfReferenceUID)} == {ct}
    return Check("both lie in the CT's frame of reference", same, "the same UID" if same else "another UID")


def _frames_on_their_images(seg: SegObject, stack: CtStack) -> Check:
    positions = {str(h.SOPInstanceUID): np.array(h.ImagePositionPatient, dtype=float) for h in stack.headers}
    apart = max(float(np.linalg.norm(frame.position - positions[frame.source_uid])) for frame in seg.frames)
    found = f"{len(seg.frames)} frames, at most {apart:.3f} mm apart"
    return Check("each SEG frame lies on the image it names", apart <= _SAME_POSITION_MM, found)


def _surface_on_seg(mask: npt.NDArray[np.bool_], grid: Grid, mesh: TriangleMesh) -> Check:
    if not mask.any():
        return Check("surface and SEG have one boundary", False, "the SEG is empty")
    measured = measure_agreement(mask, grid, mesh)
    furthest = max(measured.vertex_to_seg_p99, measured.max_seg_to_surface)
    found = f"{furthest:.2f} mm apart, a voxel's diagonal is {measured.voxel_diagonal:.2f} mm"
    return Check("surface and SEG have one boundary", furthest <= measured.voxel_diagonal, found)


def _same_volume(mask: npt.NDArray[np.bool_], grid: Grid, mesh: TriangleMesh) -> Check:
    seg_ml = float(mask.sum() * grid.voxel_ml)
    holds = abs(mesh.volume_ml - seg_ml) <= _MAX_VOLUME_DIFFERENCE * seg_ml
    return Check("surface and SEG have one volume", holds, f"{mesh.volume_ml:.0f} ml and {seg_ml:.0f} ml")
