"""The liver in the body: random diffeomorphism, random placement, signed distance on the body's grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import point_cloud_utils
from scipy import ndimage

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Grid
from dissm_phantom.canvas import Field, Vector, rotation_about

EXACT_MM = 3.0
NEAR_MM = 34.0


def deformed(mesh: TriangleMesh, rng: np.random.Generator, displacement_mm: float) -> TriangleMesh:
    """The mesh moved by the flow of a smooth stationary velocity field, so that it stays closed and embedded.

    Args:
        mesh: LPS mm.
        rng: Draws the field.
        displacement_mm: Standard deviation of the velocity integrated over unit time, per axis.
    """
    spacing = rng.uniform(28.0, 45.0)
    low = mesh.vertices.min(axis=0) - 3 * spacing
    counts = np.ceil((mesh.vertices.max(axis=0) + 3 * spacing - low) / spacing).astype(int) + 1
    velocity = ndimage.gaussian_filter(rng.standard_normal((3, *counts)), (0, 1.0, 1.0, 1.0), mode="nearest")
    velocity *= displacement_mm / velocity.std()
    steps = 8
    coefficients = [ndimage.spline_filter(part, order=3, mode="nearest") for part in velocity]
    points = mesh.vertices.copy()
    for _ in range(steps):
        at = ((points - low) / spacing).T
        flow = [ndimage.map_coordinates(part, at, order=3, mode="nearest", prefilter=False) for part in coefficients]
        points = points + np.stack(flow, axis=1) / steps
    return TriangleMesh(points, mesh.faces)


def random_placement(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """body_from_liver, float64 [4, 4]: anisotropic scale, then a few degrees of rotation, then a place in the body."""
    scale = np.clip(rng.normal(1.0, 0.07), 0.87, 1.15) * np.clip(rng.normal(1.0, 0.05, 3), 0.9, 1.1)
    turn = rotation_about(rng.standard_normal(3), float(np.clip(rng.normal(0, 6), -14, 14)))
    placement = np.eye(4)
    placement[:3, :3] = turn * np.clip(scale, 0.85, 1.2)[None, :]
    placement[:3, 3] = rng.uniform([-80, -60, -300], [-35, 20, 300])
    return placement


def change_of_size(before: TriangleMesh, after: TriangleMesh) -> npt.NDArray[np.float64]:
    """after_from_before, float64 [4, 4]: the isotropic scale and the shift that make centroid and volume the same."""
    factor = (after.volume_ml / before.volume_ml) ** (1 / 3)
    change = np.diag([factor, factor, factor, 1.0])
    change[:3, 3] = after.trimesh.center_mass - factor * before.trimesh.center_mass
    return change


def signed_distance(mesh: TriangleMesh, grid: Grid) -> Field:
    """Signed distance (mm, float32 [K, J, I], negative inside) of a closed mesh on an LPS-aligned isotropic grid.

    Exact near the surface; out to about 30 mm from the closest surface point of the nearest exact voxel (typically
    0.2 mm off); an upper bound farther away.
    """
    step = float(grid.spacing[0])
    size = np.array(grid.shape[::-1])
    low = np.clip(np.floor(grid.to_voxel(mesh.vertices.min(axis=0) - NEAR_MM)).astype(int), 0, size - 2)
    high = np.clip(np.ceil(grid.to_voxel(mesh.vertices.max(axis=0) + NEAR_MM)).astype(int) + 1, low + 2, size)
    start, shape = low[::-1], (high - low)[::-1]
    near = grid.crop((int(start[0]), int(start[1]), int(start[2])), (int(shape[0]), int(shape[1]), int(shape[2])))
    values = _near_distance(mesh, near)
    before, after = start, np.array(grid.shape) - start - shape
    far = np.pad(values, list(zip(before, after, strict=True)), mode="edge")
    beyond = [
        np.maximum(np.maximum(before[axis] - np.arange(n), np.arange(n) - (before[axis] + shape[axis] - 1)), 0) * step
        for axis, n in enumerate(grid.shape)
    ]
    extra = (
        beyond[0][:, None, None].astype(np.float32) ** 2
        + beyond[1][None, :, None].astype(np.float32) ** 2
        + beyond[2][None, None, :].astype(np.float32) ** 2
    )
    far += np.sqrt(extra, out=extra)
    return far


def _near_distance(mesh: TriangleMesh, grid: Grid) -> Field:
    """Distances on a grid about the mesh: exact in a thin shell, then by closest points of the shell."""
    margin = int(np.ceil(EXACT_MM / grid.spacing[0])) + 2
    padded_shape = (grid.shape[0] + 2 * margin, grid.shape[1] + 2 * margin, grid.shape[2] + 2 * margin)
    shell = _shell(mesh, grid, margin, padded_shape)
    ijk = np.argwhere(shell)[:, ::-1] - margin
    points = np.ascontiguousarray(grid.to_lps(ijk))
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32)
    vertices = np.ascontiguousarray(mesh.vertices)
    exact, face, weights = point_cloud_utils.signed_distance_to_mesh(points, vertices, faces)
    # A voxel centre exactly on a degenerate triangle has no sign: its neighbours speak for it.
    known = np.isfinite(exact) & np.isfinite(weights).all(axis=1)
    shell[shell] = known
    exact, face, weights = exact[known], face[known], weights[known]
    closest = (vertices[faces[face]] * weights[:, :, None]).sum(axis=1)
    number = np.full(padded_shape, -1, dtype=np.int32)
    number[shell] = np.arange(len(exact), dtype=np.int32)
    nearest = ndimage.distance_transform_edt(~shell, return_distances=False, return_indices=True)
    inner = tuple(slice(margin, margin + n) for n in grid.shape)
    source = number[tuple(axis[inner] for axis in nearest)]
    return _distance_to(closest.astype(np.float32), np.where(exact < 0, -1, 1).astype(np.float32), source, grid)


def _shell(mesh: TriangleMesh, grid: Grid, margin: int, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Voxels of a padded grid within about `EXACT_MM` of the mesh."""
    corners = mesh.vertices[mesh.faces]
    marks = np.concatenate([mesh.vertices, corners.mean(axis=1)])
    ijk = np.rint(grid.to_voxel(marks)).astype(int) + margin
    ijk = ijk[((ijk >= 0) & (ijk < np.array(shape[::-1]))).all(axis=1)]
    hit = np.zeros(shape, dtype=bool)
    hit[ijk[:, 2], ijk[:, 1], ijk[:, 0]] = True
    return np.asarray(ndimage.binary_dilation(hit, ndimage.generate_binary_structure(3, 2)))


def _distance_to(closest: Field, sign: Field, source: npt.NDArray[np.int32], grid: Grid) -> Field:
    """Distance from every voxel to the surface point of its source voxel, with that voxel's sign."""
    origin = grid.lps_from_voxel[:3, 3]
    step = grid.spacing[0]
    squared = np.zeros(grid.shape, dtype=np.float32)
    for axis in range(3):
        line = (origin[axis] + step * np.arange(grid.shape[2 - axis])).astype(np.float32)
        view: Vector = line.reshape([-1 if n == 2 - axis else 1 for n in range(3)])
        difference = closest[source, axis]
        difference -= view
        squared += difference * difference
    return np.asarray(np.sqrt(squared) * sign[source], dtype=np.float32)
