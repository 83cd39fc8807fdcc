"""Scenes on disk: prepared once from the anatomies of a run, read by every later run of the stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_engine.atomic_file import open_atomic
from dissm_engine.pose.similarity import Pose
from dissm_phantom import Appearance, randomise_appearance, with_diaphragm, with_lesions
from dissm_phantom.scan_traits import ScanTraits
from dissm_phantom.trait_rendering import render_hu_with_traits
from dissm_phantom.variety import Variety
from training.phantom.anatomy_files import StoredAnatomy, load_anatomy
from training.pose.pose_settings import PosePreset
from training.pose.scenes import Scene, distance_samples, pose_from_matrix, subsampled
from training.shape.aligned_livers import AlignedLiver

_NOISE_LEFT = 0.35
"""Of the scanner's noise after averaging its voxels to the painted spacing."""
_ANTIALIAS_VOXELS = 0.4


def prepare_scenes(
    anatomies: Path,
    folder: Path,
    livers: Mapping[str, AlignedLiver],
    preset: PosePreset,
    seed: int,
    progress: Callable[[float], None],
) -> list[Scene]:
    """A scene for every file in `anatomies`; those that lie in `folder` already are only read."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(anatomies.glob("[0-9]*[0-9].npz"))
    scenes = []
    for number, file in enumerate(files):
        prepared = folder / file.name
        if not prepared.exists():
            anatomy = load_anatomy(file)
            _write_scene(prepared, anatomy, livers[anatomy.liver_name].pose, preset, [seed, int(file.stem)])
        scenes.append(_read_scene(prepared, preset.paints))
        progress((number + 1) / len(files))
    return scenes


def _write_scene(path: Path, anatomy: StoredAnatomy, aligned: Pose, preset: PosePreset, seed: list[int]) -> None:
    """The paints first, then the file that says they are complete."""
    rng = np.random.default_rng(seed)
    step, grid = subsampled(anatomy.grid, preset.painted_spacing_mm)
    labels = np.ascontiguousarray(anatomy.labels[::step, ::step, ::step])
    liver_mm = np.ascontiguousarray(anatomy.liver.mm[::step, ::step, ::step]).astype(np.float32)
    for number in range(preset.paints):
        painted = _painted(labels, liver_mm, float(grid.spacing[0]), Variety(preset.shares), rng)
        with open_atomic(_paint_path(path, number)) as stream:
            np.save(stream, painted)
    samples = distance_samples(anatomy.liver, preset.pool_points, rng)
    with open_atomic(path) as stream:
        np.savez(
            stream,
            liver=np.array(anatomy.liver_name),
            voxel_from_lps=grid.voxel_from_lps,
            samples=samples,
            image_from_reference=anatomy.body_from_liver @ aligned.image_from_reference,
        )


def _painted(
    labels: npt.NDArray[np.uint8],
    liver_mm: npt.NDArray[np.float32],
    spacing_mm: float,
    variety: Variety,
    rng: np.random.Generator,
) -> npt.NDArray[np.int16]:
    """One random appearance as a scan averaged to the painted spacing shows it."""
    appearance = randomise_appearance(Appearance.draw(rng), rng)
    averaged = replace(appearance, noise_sd=appearance.noise_sd * _NOISE_LEFT)
    worn = with_diaphragm(labels, liver_mm, spacing_mm, rng)
    diseased = with_lesions(worn, liver_mm, spacing_mm, rng)
    hu = render_hu_with_traits(diseased, spacing_mm, averaged, rng, liver_mm, ScanTraits.draw(variety, rng))
    averaged_hu = ndimage.gaussian_filter(hu, _ANTIALIAS_VOXELS)
    return np.asarray(averaged_hu.round(), dtype=np.int16)


def _read_scene(path: Path, paints: int) -> Scene:
    with np.load(path) as content:
        return Scene(
            str(content["liver"]),
            tuple(_paint_path(path, number) for number in range(paints)),
            content["voxel_from_lps"],
            content["samples"],
            pose_from_matrix(content["image_from_reference"]),
        )


def _paint_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}.npy")
