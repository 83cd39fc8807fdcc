"""Reads a Surface Segmentation strictly (C6): what other readers let pass is refused here, with its reason.

Neither dciodvfy nor GDCM notices indices that count from zero, nor dciodvfy a wrong number of points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import SurfaceSegmentationStorage

from dicom_node.reasons import SURFACE_BROKEN, ProofError
from dissm_engine.mesh import TriangleMesh

UNIT_LENGTH_TOLERANCE = 1e-3
_RETIRED_LISTS = ("TrianglePointIndexList", "EdgePointIndexList", "VertexPointIndexList")


@dataclass(frozen=True)
class SurfaceObject:
    """What a Surface Segmentation with one closed surface says.

    mesh: LPS mm, vertices exactly the stored float32. normals: float32 [V, 3], unit, outward.
    dataset: everything else.
    """

    mesh: TriangleMesh
    normals: npt.NDArray[np.float32]
    dataset: Dataset


def read_surface(path: Path) -> SurfaceObject:
    """Read and check the object. Raises ProofError(SURFACE_BROKEN) that names the first thing found wrong."""
    try:
        dataset = pydicom.dcmread(path)
        _check(dataset.get("SOPClassUID") == SurfaceSegmentationStorage, "it is not a Surface Segmentation")
        surface = _only_surface(dataset)
        vertices = _points(_only_item(surface, "SurfacePointsSequence"))
        normals = _normals(_only_item(surface, "SurfacePointsNormalsSequence"), len(vertices))
        faces = _triangles(_only_item(surface, "SurfaceMeshPrimitivesSequence"), len(vertices))
    except (InvalidDicomError, OSError, AttributeError, KeyError, TypeError, ValueError) as problem:
        raise ProofError(SURFACE_BROKEN, problem=f"it cannot be read ({type(problem).__name__})") from problem
    mesh = TriangleMesh(vertices.astype(np.float64), faces)
    _check_solid(mesh, normals)
    return SurfaceObject(mesh, normals, dataset)


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ProofError(SURFACE_BROKEN, problem=otherwise)


def _only_item(parent: Dataset, keyword: str) -> Dataset:
    _check(len(parent.get(keyword) or []) == 1, f"{keyword} does not hold exactly one item")
    item: Dataset = parent[keyword].value[0]
    return item


def _only_surface(dataset: Dataset) -> Dataset:
    """The one surface, named by the one segment, declared finite and manifold (PS3.3 C.8.23.1, C.27.1)."""
    _check(dataset.NumberOfSurfaces == 1, f"NumberOfSurfaces is {dataset.NumberOfSurfaces}, not 1")
    surface = _only_item(dataset, "SurfaceSequence")
    segment = _only_item(dataset, "SegmentSequence")
    _check(segment.SurfaceCount == 1, f"SurfaceCount is {segment.SurfaceCount}, not 1")
    named = _only_item(segment, "ReferencedSurfaceSequence").ReferencedSurfaceNumber
    _check(named == surface.SurfaceNumber, f"the segment names surface {named}, not {surface.SurfaceNumber}")
    _check(surface.FiniteVolume == "YES", "FiniteVolume is not YES")
    _check(surface.Manifold == "YES", "Manifold is not YES")
    return surface


def _points(points: Dataset) -> npt.NDArray[np.float32]:
    """float32 [V, 3], LPS mm (PS3.3 C.27.2)."""
    vertices = _vectors(points.PointCoordinatesData, int(points.NumberOfSurfacePoints), "NumberOfSurfacePoints")
    _check(bool(np.isfinite(vertices).all()), "coordinates are not finite")
    return vertices


def _normals(normals: Dataset, vertex_count: int) -> npt.NDArray[np.float32]:
    """float32 [V, 3], one unit vector a vertex (PS3.3 C.27.3)."""
    _check(normals.VectorDimensionality == 3, f"VectorDimensionality is {normals.VectorDimensionality}, not 3")
    count = int(normals.NumberOfVectors)
    _check(count == vertex_count, f"{count} normals for {vertex_count} points")
    vectors = _vectors(normals.VectorCoordinateData, count, "NumberOfVectors")
    length_error = np.abs(np.linalg.norm(vectors, axis=1) - 1)
    _check(bool((length_error < UNIT_LENGTH_TOLERANCE).all()), "normals are not of unit length")
    return vectors


def _triangles(primitives: Dataset, vertex_count: int) -> npt.NDArray[np.int64]:
    """int64 [F, 3], zero-based, from the 32-bit list that counts from one (PS3.3 C.27.4)."""
    retired = [keyword for keyword in _RETIRED_LISTS if primitives.get(keyword)]
    _check(not retired, f"the retired {', '.join(retired)} is used")
    element = primitives["LongTrianglePointIndexList"]
    _check(element.VR == "OL", f"LongTrianglePointIndexList is {element.VR}, not OL")
    _check(len(element.value) > 0 and len(element.value) % 12 == 0, "the index list does not hold whole triangles")
    indices = np.frombuffer(element.value, "<u4").astype(np.int64).reshape(-1, 3)
    _check(indices.min() >= 1, f"indices begin at {indices.min()}; they count from 1")
    _check(indices.max() <= vertex_count, f"index {indices.max()} names no point, there are {vertex_count}")
    unused = vertex_count - len(np.unique(indices))
    _check(unused == 0, f"{unused} points belong to no triangle")
    return indices - 1


def _vectors(content: bytes, count: int, counted_by: str) -> npt.NDArray[np.float32]:
    stored = len(content) / 12
    _check(stored == count and count > 0, f"{counted_by} is {count}, but {stored:g} are stored")
    return np.frombuffer(content, "<f4").reshape(-1, 3)


def _check_solid(mesh: TriangleMesh, normals: npt.NDArray[np.float32]) -> None:
    """Closed, oriented outward, and the normals point the same way."""
    corners = np.sort(mesh.faces, axis=1)
    _check(bool((np.diff(corners, axis=1) > 0).all()), "a triangle uses one point twice")
    _check(mesh.closed, "the surface is not closed or its triangles disagree in orientation")
    _check(mesh.volume_ml > 0, "the triangles are oriented inward")
    agreement = np.einsum("vc,vc->v", mesh.normals, normals)
    _check(bool((agreement > 0).all()), f"{int((agreement <= 0).sum())} normals point inward")
