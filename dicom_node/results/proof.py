"""The objects read back from the disk and measured against the engine's result, before they may leave (C5, C6)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dicom_node.reasons import SEG_NOT_ON_CT, SURFACE_BROKEN, SURFACE_NOT_ON_SEG, ProofError
from dicom_node.results.agreement import SegSurfaceAgreement, measure_agreement
from dicom_node.results.proof_request import ProofRequest, ProvenMask, require_source_images
from dicom_node.results.provers import PROVERS
from dicom_node.results.seg_reader import SegObject, mask_on_grid, read_seg
from dicom_node.results.surface.reader import SurfaceObject, read_surface
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.results import ObjectKind, Proof
from dissm_engine.delineation import Delineation
from dissm_engine.mesh import TriangleMesh

SAME_POSITION_MM = 0.01
"""A frame and the image it names state one position, up to rounding of decimal strings."""
SLIVER_DIAGONALS = 3.0
"""A tip thinner than a voxel leaves no voxel; its vertices may lie this many voxel diagonals from the boundary."""
ALLOWED_VOLUME_DIFFERENCE = 0.05


def prove(request: ProofRequest) -> Proof:
    """Read every file back and compare it with the CT, with the engine's result and with the SEG.

    Raises ProofError with SEG_NOT_ON_CT, SURFACE_BROKEN, SURFACE_NOT_ON_SEG or OBJECT_NOT_PROVEN.
    """
    stack, delineation = request.stack, request.delineation
    seg = read_seg(request.files[ObjectKind.SEG][0])
    mask, offset = _prove_seg(seg, stack, delineation)
    voxels = int(np.count_nonzero(mask))
    proof = Proof(len(seg.frames), voxels, voxels * delineation.ct_grid.voxel_ml, offset)
    if ObjectKind.SURFACE in request.files:
        surface = read_surface(request.files[ObjectKind.SURFACE][0])
        _prove_surface(surface, stack, delineation.mesh)
        proof = _with_surface(proof, mask, surface.mesh, delineation)
    proven = ProvenMask(mask, seg.dataset)
    further = {kind.value: PROVERS[kind](request, proven) for kind in request.files if kind in PROVERS}
    return replace(proof, further=further)


def _with_surface(proof: Proof, mask: npt.NDArray[np.bool_], mesh: TriangleMesh, delineation: Delineation) -> Proof:
    """Mesh and SEG, both as read back, describe one body."""
    agreement = measure_agreement(mask, delineation.ct_grid, mesh)
    allowed = max(agreement.voxel_diagonal, float(np.linalg.norm(delineation.field.grid.spacing)))
    _prove_agreement(agreement, allowed)
    _prove_volume(mesh, proof.seg_volume_ml)
    return replace(
        proof,
        surface_vertices=len(mesh.vertices),
        surface_faces=len(mesh.faces),
        surface_handles=_handles(len(mesh.vertices), len(mesh.faces)),
        surface_volume_ml=mesh.volume_ml,
        vertex_to_seg_p99_mm=agreement.vertex_to_seg_p99,
        vertex_to_seg_most_mm=agreement.max_vertex_to_seg,
        seg_to_surface_most_mm=agreement.max_seg_to_surface,
        wrong_side_most_mm=agreement.max_wrong_side,
        allowed_mm=allowed,
    )


def _handles(vertices: int, faces: int) -> int:
    """Of a closed surface in one piece, by Euler's formula: each edge belongs to two of the triangles."""
    edges = faces * 3 // 2
    return (2 - (vertices - edges + faces)) // 2


def _prove_seg(seg: SegObject, stack: CtStack, delineation: Delineation) -> tuple[npt.NDArray[np.bool_], float]:
    """Voxel identity with the engine's mask in patient coordinates; every frame on the image it names."""
    grid = stack.volume.grid
    if grid.shape != delineation.ct_grid.shape or not np.allclose(
        grid.lps_from_voxel, delineation.ct_grid.lps_from_voxel
    ):
        raise ProofError(SEG_NOT_ON_CT, problem="the engine's mask is not on the CT's grid")
    require_source_images(seg.dataset, stack, SEG_NOT_ON_CT)
    positions = {str(h.SOPInstanceUID): np.array(h.ImagePositionPatient, dtype=float) for h in stack.headers}
    for number, frame in enumerate(seg.frames, start=1):
        if frame.source_uid not in positions:
            raise ProofError(SEG_NOT_ON_CT, problem=f"frame {number} names an image that is not of this CT")
        apart = float(np.linalg.norm(frame.position - positions[frame.source_uid]))
        if apart > SAME_POSITION_MM:
            raise ProofError(SEG_NOT_ON_CT, problem=f"frame {number} lies {apart:.3f} mm from the image it names")
    mask, offset = mask_on_grid(seg, grid)
    wrong = int(np.count_nonzero(mask != delineation.mask))
    if wrong:
        raise ProofError(SEG_NOT_ON_CT, problem=f"{wrong} voxels are not the engine's")
    if not mask.any():
        raise ProofError(SEG_NOT_ON_CT, problem="it is empty")
    return mask, offset


def _prove_surface(surface: SurfaceObject, stack: CtStack, mesh: TriangleMesh) -> None:
    """The stored mesh is the engine's, vertex for vertex in float32 and triangle for triangle."""
    require_source_images(surface.dataset, stack, SURFACE_BROKEN)
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
