"""The surface as an RT Structure Set (PS3.3 A.19, C.8.8): closed contours where the source images cut the mesh."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.dicom.decimal_strings import add_decimal_strings
from dicom_node.results import modules
from dicom_node.results.object_file import save_object
from dicom_node.results.writer_input import WriterInput
from dicom_node.values.results import ObjectKind, WrittenObject
from dissm_engine.mesh import TriangleMesh

_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
"""The retired class by which an RTSTRUCT refers to its study (PS3.3 C.8.8.5)."""
_ASIDE = 1e-4
"""Share of a slice's step by which a plane that runs through vertices is moved: only whole triangles are cut."""
_MIN_POINTS = 3


def write_rtstruct(given: WriterInput) -> tuple[WrittenObject, ...]:
    """Write one region of interest, the liver; a contour is a closed planar polygon on the image that it names."""
    stack, identity = given.stack, given.identity
    source = stack.headers[0]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    modules.add_patient_and_study(dataset, source)
    modules.add_series(dataset, ObjectKind.RTSTRUCT, identity)
    modules.add_dates(dataset, identity)
    modules.add_equipment(dataset, source, identity)
    modules.add_frame_of_reference(dataset, source)
    dataset.OperatorsName = None
    dataset.StructureSetLabel = modules.CONTENT_LABEL
    dataset.StructureSetName = identity.content_description
    dataset.StructureSetDescription = identity.segment_description or identity.content_description
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.ContentDate, dataset.ContentTime
    # The structure set IOD has no general content date (PS3.3 A.19.3).
    del dataset.ContentDate, dataset.ContentTime
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(stack.headers)]
    _add_region(dataset, given)
    return (save_object(dataset, ObjectKind.RTSTRUCT, given.path(ObjectKind.RTSTRUCT)),)


def _referenced_frame(headers: tuple[Dataset, ...]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    series.ContourImageSequence = [modules.referenced_instance(header) for header in headers]
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_MANAGEMENT
    study.ReferencedSOPInstanceUID = headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _add_region(dataset: Dataset, given: WriterInput) -> None:
    region = Dataset()
    region.ROINumber = 1
    region.ReferencedFrameOfReferenceUID = given.stack.headers[0].FrameOfReferenceUID
    region.ROIName = modules.SEGMENT_LABEL
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    region.ROIGenerationDescription = modules.ALGORITHM_NAME
    region.ROIVolume = f"{given.delineation.mesh.volume_ml:.3f}"
    dataset.StructureSetROISequence = [region]
    contours = Dataset()
    contours.ROIDisplayColor = list(modules.DISPLAY_RGB)
    contours.ReferencedROINumber = 1
    contours.ContourSequence = [
        _contour(loop, number, given.stack.headers[k]) for number, (k, loop) in enumerate(_contours(given), start=1)
    ]
    dataset.ROIContourSequence = [contours]
    observation = Dataset()
    observation.ObservationNumber = 1
    observation.ReferencedROINumber = 1
    observation.RTROIInterpretedType = "ORGAN"
    observation.ROIInterpreter = None
    observation.RTROIIdentificationCodeSequence = [CodedConcept.from_code(codes.SCT.Liver)]
    dataset.RTROIObservationsSequence = [observation]


def _contours(given: WriterInput) -> list[tuple[int, npt.NDArray[np.float64]]]:
    """Slice and points [N, 3] (LPS mm) of every closed contour, in the order of the slices."""
    grid = given.stack.volume.grid
    found = []
    for k in range(grid.shape[0]):
        plane = np.array([float(v) for v in given.stack.headers[k].ImagePositionPatient])
        for loop in cut(given.delineation.mesh, plane, _normal(grid.lps_from_voxel), float(grid.spacing[2])):
            found.append((k, loop))
    return found


def _normal(lps_from_voxel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    normal = np.cross(lps_from_voxel[:3, 0], lps_from_voxel[:3, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def cut(
    mesh: TriangleMesh, point: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], step_mm: float
) -> list[npt.NDArray[np.float64]]:
    """The closed polygons [N, 3] in which a plane cuts the mesh; outer ones and holes, none of them repeats a point."""
    heights = (mesh.vertices - point) @ normal
    heights = np.where(np.abs(heights) < _ASIDE * step_mm, _ASIDE * step_mm, heights)
    above = heights[mesh.faces] > 0
    crossed = mesh.faces[above.any(axis=1) & ~above.all(axis=1)]
    following: dict[tuple[int, int], tuple[int, int]] = {}
    for face in crossed.tolist():
        enters, leaves = _crossed_edges(face, heights)
        following[enters] = leaves
    loops = []
    while following:
        start, edge = next(iter(following.items()))
        edges = [start]
        del following[start]
        while edge != start:
            edges.append(edge)
            edge = following.pop(edge)
        points = _points_on_edges(np.array(edges), mesh.vertices, heights)
        # Onto the plane: vertices that were moved aside and rounding leave it by a hair.
        points -= np.outer((points - point) @ normal, normal)
        if len(points) >= _MIN_POINTS:
            loops.append(points)
    return loops


def _crossed_edges(face: list[int], heights: npt.NDArray[np.float64]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The edges through which the cut enters and leaves a triangle, each named by its vertices in order."""
    down = up = (0, 0)
    for a, b in zip(face, [*face[1:], face[0]], strict=True):
        if heights[a] > 0 >= heights[b]:
            down = (min(a, b), max(a, b))
        elif heights[a] <= 0 < heights[b]:
            up = (min(a, b), max(a, b))
    return down, up


def _points_on_edges(
    edges: npt.NDArray[np.int64], vertices: npt.NDArray[np.float64], heights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    low, high = edges[:, 0], edges[:, 1]
    share = heights[low] / (heights[low] - heights[high])
    return np.asarray(vertices[low] + share[:, None] * (vertices[high] - vertices[low]))


def _contour(points: npt.NDArray[np.float64], number: int, image: Dataset) -> Dataset:
    contour = Dataset()
    contour.ContourImageSequence = [modules.referenced_instance(image)]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    contour.ContourNumber = number
    add_decimal_strings(contour, "ContourData", points.ravel().tolist())
    return contour
