"""Decoded pixels are the Hounsfield units of the source, whatever syntax, rescaling and order they came in."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.assemble.volume import AIR_HU, hounsfield, read_volume, stored_values
from dicom_node.reasons import NodeError, RefusalError
from dissm_engine.volume import Volume
from tests.builders.ct_series import (
    ORIENTATIONS,
    SeriesOptions,
    abdomen,
    image_header,
    oriented,
    tilted,
    write_ct_series,
)
from tests.thirdparty import need

SMALL = abdomen((24, 34, 41), (8.0, 8.0, 6.0))


def hu_at_lps(volume: Volume, points: np.ndarray) -> np.ndarray:
    i, j, k = np.rint(volume.grid.to_voxel(points)).astype(int).T
    return volume.hu[k, j, i]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("file_order", ["k", "reverse", "shuffled"])
def test_every_voxel_lies_where_the_source_has_it(tmp_path: Path, orientation: Any, file_order: str) -> None:
    source = oriented(SMALL, orientation)
    paths = write_ct_series(tmp_path, source, file_order=file_order)
    stack = read_volume(sorted(paths))
    ijk = np.random.default_rng(1).integers(0, np.array(source.hu.shape)[::-1], (500, 3))
    points = source.grid.to_lps(ijk)
    np.testing.assert_array_equal(hu_at_lps(stack.volume, points), hu_at_lps(source, points).clip(AIR_HU))
    for k, header in enumerate(stack.headers):
        np.testing.assert_allclose(header.ImagePositionPatient, stack.volume.grid.to_lps([0, 0, k]), atol=1e-6)
        assert "PixelData" not in header


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
def test_every_lossless_syntax_gives_the_same_volume(tmp_path: Path, syntax: str) -> None:
    paths = write_ct_series(tmp_path, SMALL, transfer_syntax=syntax)
    assert pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_volume(paths).volume.hu, SMALL.hu.clip(AIR_HU))


@pytest.mark.parametrize("predictor", ["+e1", "+el"])
def test_lossless_jpeg_of_dcmtk_gives_the_same_volume(tmp_path: Path, predictor: str) -> None:
    compressor = need("dcmcjpeg")
    paths = write_ct_series(tmp_path, SMALL)
    for path in paths:
        subprocess.run([compressor, predictor, path, path], check=True, timeout=60)
    assert "JPEG Lossless" in pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID.name
    np.testing.assert_array_equal(read_volume(paths).volume.hu, SMALL.hu.clip(AIR_HU))


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL])
def test_high_throughput_jpeg_2000_gives_the_very_pixels(tmp_path: Path, syntax: str) -> None:
    """The code stream was made once, from `pixels`, by imagecodecs 2026.3.6 (OpenJPH 0.26.3), which no test needs:
    `htj2k_encode(pixels, reversible=True, tlm=True)`. Its progression is RPCL, so that both syntaxes may hold it.
    """
    j, i = np.mgrid[0:64, 0:64]
    pixels = ((7 * i - 5 * j + i * j // 3) % 4096 - 1024).astype(np.int16)
    pixels[:, :2], pixels[:, 2:4] = -32768, 32767
    code = (Path(__file__).parent / "data" / "htj2k_rpcl.j2c").read_bytes()
    assert b"\xff\x50" in code, "the marker that tells high throughput (CAP) from JPEG 2000 as it was"
    image = image_header(Volume(pixels[None], np.eye(4)), 0, 1, SeriesOptions(signed=True, intercept=0.0))
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([code])
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(hounsfield(tmp_path / "image.dcm", "image"), pixels.clip(AIR_HU))


def test_slope_and_intercept_are_applied_slice_by_slice(tmp_path: Path) -> None:
    def rescale(k: int, image: Dataset) -> None:
        if k % 2:
            image.RescaleSlope, image.RescaleIntercept = "2", "-1000"
            stored = np.rint((SMALL.hu[k].clip(AIR_HU) + 1000) / 2).clip(0)
            image.PixelData = stored.astype("<u2").tobytes()

    hu = read_volume(write_ct_series(tmp_path, SMALL, each=rescale)).volume.hu
    assert np.abs(hu.astype(int) - SMALL.hu.clip(-1000)).max() <= 30
    np.testing.assert_array_equal(hu[0], SMALL.hu[0].clip(AIR_HU))
    inside = SMALL.hu > -900
    assert np.abs(hu.astype(int) - SMALL.hu)[inside].max() <= 1


@pytest.mark.parametrize("outside", [-2000, -3024])
def test_values_outside_the_scan_become_air(tmp_path: Path, outside: int) -> None:
    hu = SMALL.hu.copy()
    hu[:, :4] = outside
    paths = write_ct_series(tmp_path, Volume(hu, SMALL.lps_from_voxel), signed=True, intercept=0.0)
    assert (read_volume(paths).volume.hu[:, :4] == AIR_HU).all()


def test_padding_given_with_the_other_sign_is_understood(tmp_path: Path) -> None:
    hu = SMALL.hu.copy()
    hu[:, :4] = 20000

    def pad(_k: int, image: Dataset) -> None:
        image.add_new("PixelPaddingValue", "US", 20000)

    volume = Volume(hu, SMALL.lps_from_voxel)
    found = read_volume(write_ct_series(tmp_path, volume, signed=True, intercept=0.0, each=pad)).volume.hu
    assert (found[:, :4] == AIR_HU).all()


def test_a_padding_value_within_tissue_punches_no_holes(tmp_path: Path) -> None:
    def pad(_k: int, image: Dataset) -> None:
        image.add_new("PixelPaddingValue", "SS", 40)

    paths = write_ct_series(tmp_path, SMALL, signed=True, intercept=0.0, each=pad)
    np.testing.assert_array_equal(read_volume(paths).volume.hu, SMALL.hu.clip(AIR_HU))


def test_bits_beyond_the_stored_ones_are_no_data() -> None:
    words = np.array([0xF123, 0xF923, 0x0FFF], dtype=np.uint16)
    np.testing.assert_array_equal(stored_values(words, 12, 11, signed=False), [0x123, 0x923, 0xFFF])
    np.testing.assert_array_equal(stored_values(words, 12, 11, signed=True), [0x123, 0x923 - 4096, -1])
    np.testing.assert_array_equal(stored_values(words.view(np.int16), 16, 15, signed=True), words.view(np.int16))
    with pytest.raises(ValueError, match="bits stored"):
        stored_values(words, 17, 16, signed=False)


def test_a_tilted_stack_keeps_its_pixels_and_gets_a_sheared_grid(tmp_path: Path) -> None:
    source = tilted(SMALL, 10)
    stack = read_volume(write_ct_series(tmp_path, source), allow_gantry_tilt=True)
    np.testing.assert_array_equal(stack.volume.hu, np.rint(source.hu).clip(AIR_HU))
    np.testing.assert_allclose(stack.volume.lps_from_voxel, source.lps_from_voxel, atol=1e-6)


def refused(paths: list[Path]) -> str:
    with pytest.raises(NodeError) as problem:
        read_volume(paths)
    return problem.value.reason.code


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("RescaleSlope", "nan"),
        ("RescaleSlope", "inf"),
        ("RescaleSlope", "0"),
        ("RescaleSlope", None),
        ("RescaleIntercept", None),
        ("RescaleIntercept", "1e9"),
        ("PhotometricInterpretation", "MONOCHROME1"),
        ("RescaleType", "US"),
    ],
)
def test_pixels_without_a_sane_rescaling_are_refused(tmp_path: Path, attribute: str, value: str | None) -> None:
    paths = write_ct_series(tmp_path, SMALL)
    image = pydicom.dcmread(paths[3])
    image[attribute].value = value
    if value is None:
        del image[attribute]
    else:
        image.add(pydicom.dataelem.DataElement(attribute, "LO", value))
    image.save_as(paths[3])
    assert refused(paths) == "NOT_HOUNSFIELD"


def test_values_that_cannot_be_a_body_are_refused(tmp_path: Path) -> None:
    absurd = Volume(np.full(SMALL.hu.shape, 20000, np.int16), SMALL.lps_from_voxel)
    assert refused(write_ct_series(tmp_path / "absurd", absurd)) == "NOT_HOUNSFIELD"
    empty = Volume(np.full(SMALL.hu.shape, -1000, np.int16), SMALL.lps_from_voxel)
    assert refused(write_ct_series(tmp_path / "empty", empty)) == "NOT_HOUNSFIELD"


def test_a_lossy_syntax_is_refused_by_name(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, SMALL, transfer_syntax=JPEGLSLossless)
    # Both UIDs take 22 bytes with their padding, so that the file stays whole.
    content = paths[0].read_bytes().replace(b"1.2.840.10008.1.2.4.80", JPEGBaseline8Bit.encode(), 1)
    paths[0].write_bytes(content)
    with pytest.raises(RefusalError, match="JPEG Baseline"):
        read_volume(paths)


def test_truncated_files_are_refused_compressed_or_not(tmp_path: Path) -> None:
    plain = write_ct_series(tmp_path / "plain", SMALL)
    plain[5].write_bytes(plain[5].read_bytes()[:-900])
    assert refused(plain) == "TRUNCATED_FILE"
    packed = write_ct_series(tmp_path / "packed", SMALL, transfer_syntax=JPEG2000Lossless)
    packed[5].write_bytes(packed[5].read_bytes()[:-900])
    assert refused(packed) == "UNREADABLE_PIXELS"


def test_garbage_instead_of_compressed_pixels_is_refused(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, SMALL, transfer_syntax=RLELossless)
    content = bytearray(paths[5].read_bytes())
    start = content.rfind(b"\xfe\xff\x00\xe0") + 8
    content[start : start + 64] = b"\xff" * 64
    paths[5].write_bytes(content)
    assert refused(paths) == "UNREADABLE_PIXELS"


def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, SMALL)
    paths[2].write_bytes(b"not DICOM")
    assert refused(paths) == "UNREADABLE_HEADER"


def test_the_real_series_reads_to_the_scanner_s_grid(hcc_048: Path) -> None:
    stack = read_volume(sorted(hcc_048.rglob("*.dcm")))
    assert stack.volume.hu.shape == (89, 512, 512)
    np.testing.assert_allclose(stack.volume.grid.spacing, [0.703125, 0.703125, 2.5])
    assert stack.volume.hu.min() == AIR_HU
    assert 95 < np.median(stack.volume.hu[59:62, 180:220, 180:220]) < 120
