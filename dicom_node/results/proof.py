"""Both objects read back from the disk and measured against the engine's result, before they may leave (C5, C6)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom_node.reasons import SEG_NOT_ON_CT, SURFACE_BROKEN, SURFACE_NOT_ON_SEG, ProofError
from dicom_node.results.agreement import SegSurfaceAgreement, measure_agreement
from dicom_node.results.modules import PATIENT_AND_STUDY_TYPE_2
from dicom_node.results.seg_reader import SegObject, mask_on_grid, read_seg
from dicom_node.results.surface.reader import SurfaceObject, read_surface
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.results import Proof
from dissm_engine.delineation import Delineation
from dissm_engine.errors import Reason
from dissm_engine.mesh import TriangleMesh

SAME_POSITION_MM = 0.01
"""A frame and the image it names state one position, up to rounding of decimal strings."""
SLIVER_DIAGONALS = 3.0
"""A tip thinner than a voxel leaves no voxel; its vertices may lie this many voxel diagonals from the boundary."""
ALLOWED_VOLUME_DIFFERENCE = 0.05


def prove(stack: CtStack, delineation: Delineation, seg_path: Path, surface_path: Path | None) -> Proof:
    """Read both files and compare them with the CT, with the engine's result and with each other.

    Raises ProofError with SEG_NOT_ON_CT, SURFACE_BROKEN or SURFACE_NOT_ON_SEG.
    """
    seg = read_seg(seg_path)
    mask, offset = _prove_seg(seg, stack, delineation)
    voxels = int(mask.sum())
    seg_ml = voxels * delineation.ct_grid.voxel_ml
    if surface_path is None:
        return Proof(len(seg.frames), voxels, seg_ml, offset)
    surface = read_surface(surface_path)
    _prove_surface(surface, stack, delineation.mesh)
    agreement = measure_agreement(mask, stack.volume.grid, surface.mesh)
    allowed = max(agreement.voxel_diagonal, float(np.linalg.norm(delineation.field.grid.spacing)))
    _prove_agreement(agreement, allowed)
    _prove_volume(surface.mesh, seg_ml)
    return Proof(
        seg_frames=len(seg.frames),
        seg_voxels=voxels,
        seg_volume_ml=seg_ml,
        frame_offset_mm=offset,
        surface_vertices=len(surface.mesh.vertices),
        surface_faces=len(surface.mesh.faces),
        surface_volume_ml=surface.mesh.volume_ml,
        vertex_to_seg_p99_mm=agreement.vertex_to_seg_p99,
        vertex_to_seg_most_mm=agreement.max_vertex_to_seg,
        seg_to_surface_most_mm=agreement.max_seg_to_surface,
        wrong_side_most_mm=agreement.max_wrong_side,
        allowed_mm=allowed,
    )


def _prove_seg(seg: SegObject, stack: CtStack, delineation: Delineation) -> tuple[npt.NDArray[np.bool_], float]:
    """Voxel identity with the engine's mask in patient coordinates; every frame on the image it names."""
    grid = stack.volume.grid
    if grid.shape != delineation.ct_grid.shape or not np.allclose(
        grid.lps_from_voxel, delineation.ct_grid.lps_from_voxel
    ):
        raise ProofError(SEG_NOT_ON_CT, problem="the engine's mask is not on the CT's grid")
    _prove_same_patient(seg.dataset, stack, SEG_NOT_ON_CT)
    positions = {str(h.SOPInstanceUID): np.array(h.ImagePositionPatient, dtype=float) for h in stack.headers}
    for number, frame in enumerate(seg.frames, start=1):
        if frame.source_uid not in positions:
            raise ProofError(SEG_NOT_ON_CT, problem=f"frame {number} names an image that is not of this CT")
        apart = float(np.linalg.norm(frame.position - positions[frame.source_uid]))
        if apart > SAME_POSITION_MM:
            raise ProofError(SEG_NOT_ON_CT, problem=f"frame {number} lies {apart:.3f} mm from the image it names")
    mask, offset = mask_on_grid(seg, grid)
    wrong = int((mask != delineation.mask).sum())
    if wrong:
        raise ProofError(SEG_NOT_ON_CT, problem=f"{wrong} voxels are not the engine's")
    if not mask.any():
        raise ProofError(SEG_NOT_ON_CT, problem="it is empty")
    return mask, offset


def _prove_surface(surface: SurfaceObject, stack: CtStack, mesh: TriangleMesh) -> None:
    """The stored mesh is the engine's, vertex for vertex in float32 and triangle for triangle."""
    _prove_same_patient(surface.dataset, stack, SURFACE_BROKEN)
    expected = mesh.vertices.astype(np.float32)
    if expected.shape != surface.mesh.vertices.shape or (expected != surface.mesh.vertices).any():
        raise ProofError(SURFACE_BROKEN, problem="its points are not the engine's")
    if not np.array_equal(mesh.faces, surface.mesh.faces):
        raise ProofError(SURFACE_BROKEN, problem="its triangles are not the engine's")


def _prove_agreement(agreement: SegSurfaceAgreement, allowed: float) -> None:
    """Mesh and SEG, both as read back, describe one body.

    allowed: mm, the larger of the CT's and the field's voxel diagonals; neither object knows more than that.
    """
    _limit(agreement.vertex_to_seg_p99, allowed)
    _limit(agreement.max_vertex_to_seg, SLIVER_DIAGONALS * allowed)
    _limit(agreement.max_seg_to_surface, allowed)
    _limit(agreement.max_wrong_side, allowed / 2)


def _prove_volume(mesh: TriangleMesh, seg_ml: float) -> None:
    """The volumes agree within 5 %; spread over the surface, a difference in volume is a mean distance."""
    mm_per_ml = 10.0 / mesh.area_cm2
    _limit(abs(mesh.volume_ml - seg_ml) * mm_per_ml, ALLOWED_VOLUME_DIFFERENCE * seg_ml * mm_per_ml)


def _limit(distance: float, allowed: float) -> None:
    if distance > allowed:
        raise ProofError(SURFACE_NOT_ON_SEG, distance=distance, allowed=allowed)


def _prove_same_patient(dataset: Dataset, stack: CtStack, reason: Reason) -> None:
    """Patient, study, frame of reference and referenced images are the source's. Facts name attributes, no values."""
    source = stack.headers[0]
    keywords = ("StudyInstanceUID", "FrameOfReferenceUID", *PATIENT_AND_STUDY_TYPE_2)
    changed = [keyword for keyword in keywords if _text(dataset, keyword) != _text(source, keyword)]
    if changed:
        raise ProofError(reason, problem=f"{', '.join(changed)} differ from the CT's")
    series = dataset.get("ReferencedSeriesSequence") or []
    named = {str(item.ReferencedSOPInstanceUID) for one in series for item in one.ReferencedInstanceSequence}
    same_series = [str(one.SeriesInstanceUID) for one in series] == [str(source.SeriesInstanceUID)]
    if not same_series or named != _instance_uids(stack.headers):
        raise ProofError(reason, problem="ReferencedSeriesSequence does not name the CT's images")


def _instance_uids(headers: Iterable[Dataset]) -> set[str]:
    return {str(header.SOPInstanceUID) for header in headers}


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value)
