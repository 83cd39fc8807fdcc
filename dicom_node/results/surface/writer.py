"""Writes a closed mesh as a Surface Segmentation (C6, PS3.3 A.57, C.8.23, C.27.1)."""

from __future__ import annotations

import highdicom
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.results import modules
from dicom_node.results.object_file import save_object
from dicom_node.results.object_times import add_dates
from dicom_node.results.result_identity import ResultIdentity
from dicom_node.results.writer_input import WriterInput
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.results import ObjectKind, WrittenObject
from dissm_engine.mesh import TriangleMesh

EMPTY_PRIMITIVES = (
    "TriangleStripSequence",
    "TriangleFanSequence",
    "LineSequence",
    "FacetSequence",
    "LongVertexPointIndexList",
    "LongEdgePointIndexList",
)
"""Type 2 of the mesh primitives (PS3.3 C.27.4): present, and empty where the mesh is made of triangles."""


def write_surface(given: WriterInput) -> tuple[WrittenObject, ...]:
    """Write the delineation's mesh, LPS mm, in the frame of reference of the source images."""
    stack, identity = given.stack, given.identity
    source = stack.headers[0]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    modules.add_patient_and_study(dataset, source)
    modules.add_series(dataset, ObjectKind.SURFACE, identity)
    add_dates(dataset, identity)
    modules.add_equipment(dataset, source, identity)
    modules.add_frame_of_reference(dataset, source)
    modules.add_body_part(dataset, source)
    dataset.ReferencedSeriesSequence = modules.referenced_series(stack.headers)
    _add_segmentation(dataset, stack, identity)
    dataset.NumberOfSurfaces = 1
    dataset.SurfaceSequence = [_surface(given.delineation.mesh)]
    return (save_object(dataset, ObjectKind.SURFACE, given.path(ObjectKind.SURFACE)),)


def _add_segmentation(dataset: Dataset, stack: CtStack, identity: ResultIdentity) -> None:
    """The surface segmentation module (PS3.3 C.8.23.1)."""
    dataset.ContentLabel = modules.CONTENT_LABEL
    dataset.ContentDescription = identity.content_description
    dataset.ContentCreatorName = None
    segment = Dataset()
    segment.SegmentNumber = 1
    segment.SegmentLabel = modules.SEGMENT_LABEL
    modules.add_segment_description(segment, identity)
    segment.SegmentAlgorithmType = "AUTOMATIC"
    segment.SegmentedPropertyCategoryCodeSequence = [CodedConcept.from_code(modules.ANATOMICAL_STRUCTURE)]
    segment.SegmentedPropertyTypeCodeSequence = [CodedConcept.from_code(modules.LIVER)]
    segment.SurfaceCount = 1
    reference = Dataset()
    reference.ReferencedSurfaceNumber = 1
    reference.SegmentSurfaceGenerationAlgorithmIdentificationSequence = [_generation_algorithm(identity)]
    reference.SegmentSurfaceSourceInstanceSequence = [modules.referenced_instance(h) for h in stack.headers]
    segment.ReferencedSurfaceSequence = [reference]
    dataset.SegmentSequence = [segment]


def _surface(mesh: TriangleMesh) -> Dataset:
    """One item of the surface mesh module (PS3.3 C.27.1)."""
    surface = Dataset()
    surface.SurfaceNumber = 1
    # Decimation is part of the generation: its vertices are drawn onto the field's zero again.
    surface.SurfaceProcessing = "NO"
    surface.SurfaceComments = f"Zero of the signed distance field from which the mask was made, too; {_topology(mesh)}"
    surface.RecommendedDisplayGrayscaleValue = 0xFFFF
    surface.RecommendedDisplayCIELabValue = list(highdicom.color.CIELabColor.from_rgb(*modules.DISPLAY_RGB).value)
    surface.RecommendedPresentationOpacity = 0.5
    surface.RecommendedPresentationType = "SURFACE"
    surface.FiniteVolume = "YES"
    surface.Manifold = "YES"
    surface.SurfacePointsSequence = [_points(mesh)]
    surface.SurfacePointsNormalsSequence = [_normals(mesh)]
    surface.SurfaceMeshPrimitivesSequence = [_primitives(mesh)]
    return surface


def _topology(mesh: TriangleMesh) -> str:
    """Whether tunnels run through the closed surface, and how many (its genus)."""
    handles = 1 - mesh.trimesh.euler_number // 2
    return f"closed, {handles} handle{'s' * (handles != 1)}" if handles else "closed, without handles"


def _points(mesh: TriangleMesh) -> Dataset:
    """x, y, z of each vertex as float32, LPS mm (PS3.3 C.27.2)."""
    coordinates = mesh.vertices.astype("<f4")
    points = Dataset()
    points.NumberOfSurfacePoints = len(coordinates)
    points.PointCoordinatesData = coordinates.tobytes()
    points.PointsBoundingBoxCoordinates = [*coordinates.min(axis=0).tolist(), *coordinates.max(axis=0).tolist()]
    return points


def _normals(mesh: TriangleMesh) -> Dataset:
    """One unit outward normal a vertex (PS3.3 C.27.3). An empty sequence is legal, but GDCM crashes on it."""
    normals = Dataset()
    normals.NumberOfVectors = len(mesh.normals)
    normals.VectorDimensionality = 3
    normals.VectorCoordinateData = mesh.normals.astype("<f4").tobytes()
    return normals


def _primitives(mesh: TriangleMesh) -> Dataset:
    """Triangles as 32-bit indices that count from one (PS3.3 C.27.4)."""
    primitives = Dataset()
    for keyword in EMPTY_PRIMITIVES:
        setattr(primitives, keyword, None)
    primitives.LongTrianglePointIndexList = (mesh.faces + 1).astype("<u4").tobytes()
    return primitives


def _generation_algorithm(identity: ResultIdentity) -> Dataset:
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = [CodedConcept.from_code(modules.ALGORITHM_FAMILY)]
    algorithm.AlgorithmName = modules.ALGORITHM_NAME
    algorithm.AlgorithmVersion = identity.algorithm_version
    # As highdicom writes it into the SEG.
    parameters = modules.algorithm_parameters(identity)
    algorithm.AlgorithmParameters = ",".join(f"{name}={value}" for name, value in parameters.items())
    return algorithm
