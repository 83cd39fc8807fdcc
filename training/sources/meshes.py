"""Surfaces that are meshes already: one npz of many, or a folder with a file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import trimesh

from dissm_engine.atomic_file import open_atomic
from dissm_engine.mesh import TriangleMesh
from training.sources.surfaces import LazySurfaces

MESH_SUFFIXES = (".stl", ".ply", ".obj", ".npz")
LPS_SUFFIX = ".vertices_0.01mm"
RAS_SUFFIX = ".vertices"
LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class NpzSource:
    """Many meshes in one npz: `NAME.vertices_0.01mm` (int16, LPS) or `NAME.vertices` (float mm, RAS), `NAME.faces`."""

    path: Path

    def load(self) -> Mapping[str, TriangleMesh]:
        """The surfaces by name, LPS mm."""
        with np.load(self.path) as archive:
            names = {key.removesuffix(".faces") for key in archive.files if key.endswith(".faces")}
        return LazySurfaces({name: partial(self._read, name) for name in names})

    def _read(self, name: str) -> TriangleMesh:
        with np.load(self.path) as archive:
            faces = archive[f"{name}.faces"].astype(np.int64)
            if name + LPS_SUFFIX in archive.files:
                return TriangleMesh(archive[name + LPS_SUFFIX] * 0.01, faces)
            # Two axes change sign, a half turn: the faces keep their side.
            return TriangleMesh(archive[name + RAS_SUFFIX].astype(np.float64) * LPS_FROM_RAS, faces)


@dataclass(frozen=True)
class MeshFolderSource:
    """A folder of meshes in LPS mm, the file's stem is the name; npz files hold `vertices` and `faces`."""

    folder: Path

    def load(self) -> Mapping[str, TriangleMesh]:
        """The surfaces by name, LPS mm."""
        files = [file for file in self.folder.iterdir() if file.suffix.lower() in MESH_SUFFIXES]
        return LazySurfaces({file.stem: partial(read_mesh, file) for file in files})


def read_mesh(path: Path) -> TriangleMesh:
    """One mesh from STL, PLY, OBJ or npz (`vertices`, `faces`), LPS mm."""
    if path.suffix.lower() == ".npz":
        with np.load(path) as archive:
            return TriangleMesh(archive["vertices"].astype(np.float64), archive["faces"].astype(np.int64))
    loaded = trimesh.load_mesh(path)
    return TriangleMesh(np.asarray(loaded.vertices, dtype=np.float64), np.asarray(loaded.faces, dtype=np.int64))


def write_mesh(path: Path, mesh: TriangleMesh) -> None:
    """Write one mesh to npz (float32 `vertices`, int32 `faces`)."""
    with open_atomic(path) as stream:
        np.savez_compressed(stream, vertices=mesh.vertices.astype(np.float32), faces=mesh.faces.astype(np.int32))
