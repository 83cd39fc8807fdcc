"""Phantoms that are scanned, not re-painted: the frozen test set and the cases of the trust stage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Volume
from dissm_phantom import Phantom, ScanProtocol, Variety, build_anatomy, content_hash, scan
from training.phantom.anatomy_files import StoredAnatomy

__all__ = ["content_hash", "make_test_phantom", "scanned"]


_PLAIN = Variety.plain()


def make_test_phantom(liver_mesh: TriangleMesh, seed: int, edition: int = 1, variety: Variety = _PLAIN) -> Phantom:
    """The frozen test's phantom of an unseen liver: not deformed, whole, a random protocol, all from the seed.

    liver_mesh: closed, LPS mm, roughly centred. edition: of the bundle before which it was frozen; the second added the
    broader looks, the third the muscle upon the liver. variety: how often the body and its scan have which trait.
    The same arguments give the same `content_hash`.
    """
    anatomy = build_anatomy(liver_mesh, seed, deform=False, whole_liver=True, variety=variety)
    protocol = replace(
        ScanProtocol.draw(np.random.default_rng(seed)), appearance_randomisation=edition > 1, diaphragm=edition > 2
    )
    return scan(anatomy, protocol, seed)


def scanned(stored: StoredAnatomy, seed: int) -> Volume:
    """A CT of a stored anatomy under a random protocol, int16 HU; every other one with the broader looks, two of three
    with muscle upon the liver. The traits of the body show in it."""
    drawn = ScanProtocol.draw(np.random.default_rng(seed))
    protocol = replace(drawn, appearance_randomisation=seed % 2 == 1, diaphragm=seed % 3 > 0)
    return scan(stored.anatomy, protocol, seed).volume
