"""Phantoms that are scanned, not re-painted: the frozen test set and the cases of the trust stage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dissm_engine.mesh import TriangleMesh
from dissm_engine.phantom import Phantom, ScanProtocol, build_anatomy, content_hash, scan
from dissm_engine.volume import Volume
from training.phantom.storage import StoredAnatomy

__all__ = ["content_hash", "make_test_phantom", "scanned"]


def make_test_phantom(liver_mesh: TriangleMesh, seed: int, broad: bool = False) -> Phantom:
    """The frozen test's phantom of an unseen liver: not deformed, whole, a random protocol, all from the seed.

    liver_mesh: closed, LPS mm, roughly centred. broad: with the looks that the second edition added.
    The same arguments give the same `content_hash`.
    """
    anatomy = build_anatomy(liver_mesh, seed, deform=False, whole_liver=True)
    protocol = replace(ScanProtocol.draw(np.random.default_rng(seed)), broad=broad)
    return scan(anatomy, protocol, seed)


def scanned(stored: StoredAnatomy, seed: int) -> Volume:
    """A CT of a stored anatomy under a random protocol, int16 HU; every other one with the broader looks."""
    protocol = replace(ScanProtocol.draw(np.random.default_rng(seed)), broad=seed % 2 == 1)
    return scan(stored.anatomy, protocol, seed).volume
