"""Bring every liver into one reference frame by coherent point drift (appendix A.1; Myronenko & Song 2010)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycpd import RigidRegistration

from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import Pose
from dissm_engine.progress import Progress, no_progress
from dissm_engine.shape.distance import signed_distance_to_mesh
from dissm_engine.shape.meshing import mesh_of_field
from dissm_engine.volume import SignedDistance, axis_aligned_grid
from training.shape.deformed_livers import DeformedLiver
from training.shape.shape_settings import ShapePreset
from training.sources.repair import decimated

Points = npt.NDArray[np.float64]
MEAN_SPACING_MM = 6.0
_MEAN_MARGIN_MM = 12.0


@dataclass(frozen=True)
class Alignment:
    """Where every liver stands.

    poses: image_from_reference by name ("image" being the frame of the liver's own source, mm).
    mm_per_unit: one for all; a canonical vertex is the reference vertex divided by it, and within the unit sphere.
    reach: canonical radius of the sphere that holds every vertex, above 1 where deformed livers reach beyond the rest.
    """

    poses: Mapping[str, Pose]
    mm_per_unit: float
    reach: float = 1.0

    def canonical(self, name: str, mesh: TriangleMesh) -> TriangleMesh:
        """The liver `name` in canonical units."""
        return TriangleMesh(self.poses[name].to_reference(mesh.vertices) / self.mm_per_unit, mesh.faces)


def align(meshes: Mapping[str, TriangleMesh], preset: ShapePreset, progress: Progress = no_progress) -> Alignment:
    """Align all to the anchor (the first by name), or from there to the mean, iterated (D4).

    Aligned to the mean, the reference frame is the average liver's own: mean rotation identity, mean scale one,
    so that no single liver decides what "upright" is.
    """
    coarse = {name: _extremely_simplified(mesh, preset) for name, mesh in meshes.items()}
    anchor = coarse[min(coarse)].vertices
    target = anchor - anchor.mean(axis=0)
    poses: dict[str, Pose] = {}
    for lap in range(preset.align_rounds):
        for index, (name, mesh) in enumerate(coarse.items()):
            poses[name] = register(mesh.vertices, target, poses.get(name))
            progress("align", (lap + (index + 1) / len(coarse)) / preset.align_rounds)
        if preset.align_to == "mean":
            poses = _centred(coarse, _without_bias(poses))
            target = _extremely_simplified(mean_mesh(coarse, poses), preset).vertices
    radius = max(float(np.linalg.norm(poses[n].to_reference(m.vertices), axis=1).max()) for n, m in meshes.items())
    return Alignment(poses, radius * preset.margin)


def with_deformed(
    alignment: Alignment, livers: Mapping[str, TriangleMesh], deformed: Sequence[DeformedLiver], margin: float
) -> Alignment:
    """The alignment of livers, and of deformed ones that keep the poses of those they were made of."""
    # The unit stays that of the real livers: a few long tongues do not make everything else smaller for the decoder.
    own = {liver.name: liver.pose(livers[liver.origin], alignment.poses[liver.origin]) for liver in deformed}
    radii = [
        float(np.linalg.norm(own[liver.name].to_reference(liver.mesh.vertices), axis=1).max()) for liver in deformed
    ]
    reach = max([1.0, *(margin * radius / alignment.mm_per_unit for radius in radii)])
    return Alignment({**alignment.poses, **own}, alignment.mm_per_unit, reach)


def register(liver: Points, target: Points, start: Pose | None = None) -> Pose:
    """image_from_reference (isotropic scale) for a liver's points [N, 3] against the reference's [M, 3], both in mm.

    start: a pose to begin from; None begins at the middle of the liver.
    """
    begin = start or Pose.at(liver.mean(axis=0))
    registration = RigidRegistration(X=target, Y=begin.to_reference(liver), max_iterations=60, tolerance=1e-3)
    _, (scale, rotation, shift) = registration.register()
    # pycpd: target = scale * moving @ rotation + shift, with moving = begin.to_reference(liver); solved for liver.
    translation = begin.to_image(-(rotation @ np.ravel(shift)) / float(scale))
    return Pose(translation, begin.scale / float(scale), begin.rotation @ rotation)


def mean_mesh(meshes: Mapping[str, TriangleMesh], poses: Mapping[str, Pose]) -> TriangleMesh:
    """The zero surface of the aligned livers' mean signed distance, in the reference frame (mm)."""
    aligned = [TriangleMesh(poses[name].to_reference(mesh.vertices), mesh.faces) for name, mesh in meshes.items()]
    low = np.min([mesh.vertices.min(axis=0) for mesh in aligned], axis=0) - _MEAN_MARGIN_MM
    high = np.max([mesh.vertices.max(axis=0) for mesh in aligned], axis=0) + _MEAN_MARGIN_MM
    grid = axis_aligned_grid(low, high, MEAN_SPACING_MM)
    points = grid.points_lps()
    mean = np.mean([signed_distance_to_mesh(points, mesh) for mesh in aligned], axis=0)
    return mesh_of_field(SignedDistance(mean.astype(np.float32), grid))


def _extremely_simplified(mesh: TriangleMesh, preset: ShapePreset) -> TriangleMesh:
    return decimated(mesh, preset.extremely_simplified_share / preset.simplified_share)


def _centred(meshes: Mapping[str, TriangleMesh], poses: Mapping[str, Pose]) -> dict[str, Pose]:
    """The same alignment with the reference's origin in the middle of the box around all aligned livers."""
    clouds = [poses[name].to_reference(mesh.vertices) for name, mesh in meshes.items()]
    middle = np.mean([(cloud.min(axis=0) + cloud.max(axis=0)) / 2 for cloud in clouds], axis=0)
    return {name: Pose(pose.to_image(middle), pose.scale, pose.rotation) for name, pose in poses.items()}


def _without_bias(poses: Mapping[str, Pose]) -> dict[str, Pose]:
    """The same alignment seen from a frame in which mean rotation is identity and the geometric mean of scales one."""
    left, _, right = np.linalg.svd(np.mean([pose.rotation for pose in poses.values()], axis=0))
    # The nearest rotation to the mean; livers lie within tens of degrees, so its determinant cannot be negative.
    mean_rotation = left @ right
    mean_scale = float(np.exp(np.mean([np.log(pose.scale) for pose in poses.values()])))
    return {
        name: Pose(pose.translation, pose.scale / mean_scale, pose.rotation @ mean_rotation.T)
        for name, pose in poses.items()
    }
