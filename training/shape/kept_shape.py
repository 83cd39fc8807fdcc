"""The shape stage of a run that keeps the shape model of a bundle."""

from __future__ import annotations

from dissm_engine.mesh import TriangleMesh
from dissm_engine.shape.fit import ShapeFit, fit_to_mesh
from dissm_engine.shape.model import ShapeModel
from training.bundle_start import BundleStart, Part
from training.context import RunContext
from training.shape.aligned_livers import LIVERS_FILE, AlignedLiver, load_livers, save_livers
from training.sources.surfaces_stage import load_surfaces

_COMPONENTS = (0, 8, 28)
"""Loadings that move in the first fits of a liver; all of them move in the last."""


def keep_shape(context: RunContext, start: BundleStart) -> None:
    """Fill `shape/` of the run folder with the bundle's shape model.

    A pose stage that is trained needs to know how each training liver stands in the model: the model is then fitted to
    each of them, and a run that was killed goes on after the last liver that was fitted.
    """
    folder, shape = context.stage_folder("shape"), start.bundle.model.shape
    shape.save(folder)
    if start.keeps(Part.POSE):
        return
    meshes = load_surfaces(context.folder)
    livers = load_livers(folder) if (folder / LIVERS_FILE).exists() else {}
    for done, (name, mesh) in enumerate(meshes.items()):
        if name not in livers:
            livers[name] = fitted_liver(shape, mesh)
            save_livers(folder, livers)
        context.progress("shape", (done + 1) / len(meshes))


def fitted_liver(shape: ShapeModel, mesh: TriangleMesh) -> AlignedLiver:
    """Pose, code and loadings of a closed surface (LPS mm); every fit starts from the one with less freedom."""
    components = shape.latent_space.components
    fit: ShapeFit | None = None
    for free in _COMPONENTS:
        fit = fit_to_mesh(shape, mesh, min(free, components), fit)
    fit = fit_to_mesh(shape, mesh, components, fit)
    return AlignedLiver(fit.pose, fit.code.cpu().numpy(), fit.loadings(shape.latent_space, components))
