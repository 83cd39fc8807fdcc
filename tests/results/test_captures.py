"""Captures show the CT and the SEG's contour, say what they are, hold no name, and do not leave when they are wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_node.reasons import OBJECT_NOT_PROVEN, ProofError
from dicom_node.results.captures.canvas import CONTOUR_RGB, font, shortened, wrapped
from dicom_node.results.captures.capture_writer import MAX_SLICES, patient_orientation
from dicom_node.results.captures.slice_page import HEADER, SIDE_BAR, enlargement
from dicom_node.settings import ResultSettings
from dicom_node.values.results import ObjectKind
from dissm_engine.findings import Verdict
from dissm_engine.volume import Volume
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.ct_series import ORIENTATIONS, abdomen, oriented
from tests.builders.result_case import ResultCase, case_in_memory, edited, written_case
from tests.thirdparty import need

SMALL = abdomen(shape=(22, 25, 27), spacing=(5.0, 5.5, 6.0))
CAPTURES = ResultSettings(objects=["capture"])


def captures(case: ResultCase) -> list[Path]:
    return list(case.request().files[ObjectKind.CAPTURE])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_contours_of_an_oriented_stack_are_the_seg_s_and_the_images_the_ct_s(tmp_path: Path, orientation: str) -> None:
    case = case_in_memory(tmp_path, oriented(SMALL, orientation), CAPTURES)
    numbers = case.prove().further["capture"]
    occupied = int(case.delineation.mask.any(axis=(1, 2)).sum())
    assert numbers["slices"] == occupied == len(captures(case)) - 1
    assert numbers["grey_agreement"] == 1.0
    assert numbers["contour_pixels"] > 1000
    assert numbers["cover_contour_distance_pixels"] <= 1


@pytest.mark.parametrize("orientation", ["axial", "coronal", "oblique"])
def test_dciodvfy_finds_no_error_in_cover_and_slices(tmp_path: Path, orientation: str) -> None:
    case = case_in_memory(tmp_path, oriented(SMALL, orientation), CAPTURES)
    for path in captures(case)[:3]:
        said = subprocess.run([need("dciodvfy"), path], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, said.stderr
        assert "SCImage" in said.stderr.split()


def test_every_page_says_that_it_is_an_ai_s_and_is_of_one_series(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL, CAPTURES)
    pages = [pydicom.dcmread(path) for path in captures(case)]
    assert [page.InstanceNumber for page in pages] == list(range(1, len(pages) + 1))
    assert len({page.SeriesInstanceUID for page in pages}) == 1
    assert len({page.SOPInstanceUID for page in pages}) == len(pages)
    for page in pages:
        assert page.SeriesNumber == 9103
        assert page.BurnedInAnnotation == "YES"
        assert page.SeriesDescription.startswith("AI liver captures")
        assert "not for primary diagnosis" in page.ImageComments


def test_no_pixel_depends_on_who_the_patient_is(tmp_path: Path) -> None:
    names = {"PatientName": "Someone^Else", "PatientID": "4711", "PatientBirthDate": "19010203"}
    one = case_in_memory(tmp_path / "one", SMALL, CAPTURES)
    other = case_in_memory(tmp_path / "other", SMALL, CAPTURES, attributes=names)
    for first, second in zip(captures(one), captures(other), strict=True):
        assert pydicom.dcmread(first).PixelData == pydicom.dcmread(second).PixelData


def test_why_a_person_should_look_is_drawn_and_written(tmp_path: Path) -> None:
    found = ellipsoid_delineation(SMALL.grid)
    doubted = replace(found, findings=replace(found.findings, verdict=Verdict.REVIEW, reasons=("it is cut",)))
    plain = case_in_memory(tmp_path / "plain", SMALL, CAPTURES)
    case = written_case(tmp_path / "doubted", plain.stack, CAPTURES, doubted)
    for first, second in zip(captures(plain), captures(case), strict=True):
        page = pydicom.dcmread(second)
        assert page.ImageComments.endswith("REVIEW: it is cut")
        assert "REVIEW" in page.SeriesDescription
        assert pydicom.dcmread(first).PixelData != page.PixelData


def test_of_a_thin_series_evenly_drawn_slices_are_shown_with_both_ends(tmp_path: Path) -> None:
    thin = Volume(np.zeros((150, 24, 24), np.int16), np.diag([7.0, 7.0, 1.1, 1.0]))
    case = case_in_memory(tmp_path, thin, CAPTURES)
    assert case.delineation.mask.any(axis=(1, 2)).sum() > MAX_SLICES
    assert case.prove().further["capture"]["slices"] == MAX_SLICES
    pages = [pydicom.dcmread(path) for path in captures(case)[1:]]
    heights = {str(h.SOPInstanceUID): float(h.ImagePositionPatient[2]) for h in case.stack.headers}
    shown = [heights[page.SourceImageSequence[0].ReferencedSOPInstanceUID] for page in pages]
    assert shown == sorted(shown, reverse=True)


def pixels(dataset: Dataset) -> np.ndarray:
    return dataset.pixel_array.copy()


def image_part(page: np.ndarray) -> np.ndarray:
    return page[HEADER:-44, SIDE_BAR:-SIDE_BAR]


def flip_left_and_right(dataset: Dataset) -> None:
    page = pixels(dataset)
    image_part(page)[:] = image_part(page)[:, ::-1].copy()
    dataset.PixelData = page.tobytes()


def shift_the_contour_by_a_pixel(dataset: Dataset) -> None:
    page = pixels(dataset)
    image = image_part(page)
    found = (image == CONTOUR_RGB).all(axis=2)
    image[found] = 128
    image[np.roll(found, 1, axis=1)] = CONTOUR_RGB
    dataset.PixelData = page.tobytes()


def erase_the_contour(dataset: Dataset) -> None:
    page = pixels(dataset)
    page[(page == CONTOUR_RGB).all(axis=2)] = 90
    dataset.PixelData = page.tobytes()


def darken_the_image(dataset: Dataset) -> None:
    page = pixels(dataset)
    image = image_part(page)
    grey = (image[..., 0] == image[..., 1]) & (image[..., 1] == image[..., 2])
    image[grey] //= 2
    dataset.PixelData = page.tobytes()


def name_another_image(dataset: Dataset) -> None:
    dataset.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def say_nothing_burned_in(dataset: Dataset) -> None:
    dataset.BurnedInAnnotation = "NO"


def forget_the_warning(dataset: Dataset) -> None:
    dataset.ImageComments = "Liver"


def give_to_another_patient(dataset: Dataset) -> None:
    dataset.PatientID = "someone else"


def become_another_class(dataset: Dataset) -> None:
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.4"


@pytest.mark.parametrize(
    ("edit", "page", "problem"),
    [
        (flip_left_and_right, 5, "do not lie on the SEG"),
        (shift_the_contour_by_a_pixel, 5, "do not lie on the SEG"),
        (erase_the_contour, 5, "do not lie on the SEG"),
        (darken_the_image, 5, "is the CT's"),
        (name_another_image, 5, "not of this CT"),
        (say_nothing_burned_in, 5, "BurnedInAnnotation"),
        (forget_the_warning, 0, "what it is not for"),
        (give_to_another_patient, 5, "PatientID"),
        (become_another_class, 5, "another SOP class"),
        (erase_the_contour, 0, "cover's coronal contour"),
    ],
)
def test_a_capture_that_is_wrong_does_not_leave(
    tmp_path: Path, edit: Callable[[Dataset], None], page: int, problem: str
) -> None:
    case = case_in_memory(tmp_path, SMALL, CAPTURES)
    edited(captures(case)[page], edit)
    with pytest.raises(ProofError, match=problem) as caught:
        case.prove()
    assert caught.value.reason == OBJECT_NOT_PROVEN


def test_the_next_slice_under_a_slice_s_name_does_not_leave(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL, CAPTURES)
    other = pydicom.dcmread(captures(case)[6]).PixelData
    edited(captures(case)[5], lambda dataset: setattr(dataset, "PixelData", other))
    with pytest.raises(ProofError):
        case.prove()


def test_images_keep_their_proportions_and_are_legible() -> None:
    assert enlargement((512, 512), (0.7, 0.7)) == (1, 1)
    assert enlargement((256, 256), (1.4, 1.4)) == (2, 2)
    tall, wide = enlargement((100, 512), (2.5, 0.7))
    assert (tall, wide) == (4, 1)
    assert enlargement((25, 27), (5.0, 5.0))[1] * 27 >= 512


def test_directions_are_named_by_their_nearest_axis() -> None:
    assert patient_orientation([1, 0, 0, 0, 1, 0]) == ("L", "P")
    assert patient_orientation([0.9, 0.3, 0, 0, 0.2, -0.95]) == ("L", "F")
    assert patient_orientation([-1, 0, 0, 0, -1, 0]) == ("R", "A")


def test_texts_are_wrapped_and_shortened_to_their_room() -> None:
    chosen = font(16)
    text = "liver-like tissue of 90 ml lies outside the outline on the left at the top"
    lines = wrapped(text, chosen, 200)
    assert " ".join(lines) == text
    assert all(chosen.getlength(line) <= 200 for line in lines)
    assert chosen.getlength(shortened(text, chosen, 200)) <= 200
    assert shortened("short", chosen, 200) == "short"
