"""The Encapsulated STL read back from the disk: the engine's triangles, in millimetres, around the SEG's voxels."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from dicom_node.reasons import OBJECT_NOT_PROVEN, ProofError
from dicom_node.results.proof_request import (
    UNREADABLE,
    ProofRequest,
    ProvenMask,
    changed_attributes,
    read_object,
    require,
)
from dicom_node.values.facts import Facts
from dicom_node.values.results import ObjectKind

_KIND = ObjectKind.STL
_HEADER_BYTES, _TRIANGLE_BYTES = 84, 50
_VOLUME_TOLERANCE = 0.05


def prove_stl(request: ProofRequest, proven: ProvenMask) -> Facts:
    """Frame of reference, units and every triangle are right; the closed volume is the SEG's within 5 %.

    Returns:
        The number of triangles, the enclosed volume, and how far a corner lies from the engine's at most (mm).
    """
    dataset = read_object(_KIND, request.files[_KIND][0], request.stack)
    try:
        changed = changed_attributes(dataset, request.stack.headers[0], ("FrameOfReferenceUID",))
        require(not changed, _KIND, "its frame of reference is not the CT's")
        require(dataset.MeasurementUnitsCodeSequence[0].CodeValue == "mm", _KIND, "its unit is not mm")
        require(dataset.MIMETypeOfEncapsulatedDocument == "model/stl", _KIND, "its content is not declared as STL")
        length = int(dataset.EncapsulatedDocumentLength)
        corners, normals = _triangles(dataset.EncapsulatedDocument[:length])
    except (*UNREADABLE, struct.error) as problem:
        raise ProofError(OBJECT_NOT_PROVEN, kind=_KIND, problem=f"unreadable ({type(problem).__name__})") from problem
    return _measured(corners, normals, request, proven)


def _triangles(content: bytes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Corners [F, 3, 3] and stated normals [F, 3] of a binary STL."""
    (count,) = struct.unpack_from("<I", content, 80)
    require(len(content) == _HEADER_BYTES + count * _TRIANGLE_BYTES, _KIND, "its length is not that of its triangles")
    rows = np.frombuffer(content, np.uint8, offset=_HEADER_BYTES).reshape(count, _TRIANGLE_BYTES)
    values = np.ascontiguousarray(rows[:, :48]).view("<f4").astype(np.float64).reshape(count, 4, 3)
    return values[:, 1:], values[:, 0]


def _measured(
    corners: npt.NDArray[np.float64], normals: npt.NDArray[np.float64], request: ProofRequest, proven: ProvenMask
) -> Facts:
    mesh = request.delineation.mesh
    expected = mesh.vertices[mesh.faces]
    require(corners.shape == expected.shape, _KIND, f"it holds {len(corners)} triangles, not {len(expected)}")
    apart = float(np.abs(corners - expected).max())
    require(apart <= 1e-3, _KIND, f"a corner lies {apart:.3f} mm from the engine's")
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    require(bool(((cross * normals).sum(axis=1) >= 0).all()), _KIND, "a normal points against its triangle")
    edges = corners[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 6)
    backward = np.concatenate([edges[:, 3:], edges[:, :3]], axis=1)
    require(_same_rows(edges, backward), _KIND, "it is not closed")
    volume_ml = float(np.einsum("fx,fx->f", corners[:, 0], cross).sum() / 6 / 1000.0)
    seg_ml = float(len(proven.voxels) * abs(np.linalg.det(request.stack.volume.lps_from_voxel[:3, :3])) / 1000.0)
    near = abs(volume_ml - seg_ml) <= _VOLUME_TOLERANCE * seg_ml + _skin_ml(request)
    require(near, _KIND, f"it encloses {volume_ml:.1f} ml, the SEG {seg_ml:.1f} ml")
    return {"triangles": len(corners), "volume_ml": volume_ml, "max_corner_distance_mm": apart}


def _skin_ml(request: ProofRequest) -> float:
    """What a twentieth of a voxel's diagonal all over the surface holds: coarse voxels know no better."""
    diagonal = float(np.linalg.norm(request.stack.volume.grid.spacing))
    return request.delineation.mesh.area_cm2 * diagonal / 20 / 10.0


def _same_rows(some: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> bool:
    """Whether both hold the same rows, whatever their order: every edge is run through in both directions."""
    return np.array_equal(some[np.lexsort(some.T)], others[np.lexsort(others.T)])
