"""A CT that was read from a stack of images: the value that assembling hands to everything after it."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from dissm_engine.volume import Volume


@dataclass(frozen=True)
class CtStack:
    """The volume and the headers it came from.

    volume: HU, int16 [K, J, I]; `lps_from_voxel` has the plane of every source image as it is, so k = n is exactly
        the plane of `headers[n]`. Under a gantry tilt the grid is sheared, never the pixels.
    headers: data sets without pixel data, in the order of k (ascending along the normal row x column).
    content_digests: SHA-256 (hex) of what each image holds, whatever transfer syntax it came in, in the order of k;
        none for a stack that was not read from files.
    """

    volume: Volume
    headers: tuple[Dataset, ...]
    content_digests: tuple[str, ...] = ()
