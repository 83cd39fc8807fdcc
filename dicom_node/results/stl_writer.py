"""The mesh as an Encapsulated STL (PS3.3 A.85.1, C.35.1), for printing and surgical planning."""

from __future__ import annotations

import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.results import modules
from dicom_node.results.object_file import save_object
from dicom_node.results.object_times import add_dates
from dicom_node.results.writer_input import WriterInput
from dicom_node.values.results import ObjectKind, WrittenObject
from dissm_engine.mesh import TriangleMesh

_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])


def write_stl(given: WriterInput) -> tuple[WrittenObject, ...]:
    """Write the delineation's mesh as binary STL, LPS millimetres in the CT's frame of reference."""
    stack, identity = given.stack, given.identity
    source = stack.headers[0]
    content = binary_stl(given.delineation.mesh)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    modules.add_patient_and_study(dataset, source)
    modules.add_series(dataset, ObjectKind.STL, identity)
    add_dates(dataset, identity)
    modules.add_equipment(dataset, source, identity)
    modules.add_frame_of_reference(dataset, source)
    dataset.AcquisitionDateTime = None
    dataset.BurnedInAnnotation = "NO"
    dataset.DocumentTitle = identity.content_description
    dataset.ConceptNameCodeSequence = [CodedConcept("85040-4", "LN", "Segmented anatomy model")]
    dataset.ContentDescription = identity.content_description
    dataset.MeasurementUnitsCodeSequence = [CodedConcept.from_code(codes.UCUM.Millimeter)]
    dataset.SourceInstanceSequence = [modules.referenced_instance(header) for header in stack.headers]
    dataset.ReferencedSeriesSequence = modules.referenced_series(stack.headers)
    dataset.ModelModification = "NO"
    dataset.ModelMirroring = "NO"
    dataset.MIMETypeOfEncapsulatedDocument = "model/stl"
    dataset.EncapsulatedDocumentLength = len(content)
    dataset.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return (save_object(dataset, ObjectKind.STL, given.path(ObjectKind.STL)),)


def binary_stl(mesh: TriangleMesh) -> bytes:
    """The mesh as a binary STL file. Its header names the units, which the format cannot."""
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    triangles = np.zeros(len(corners), dtype=_TRIANGLE)
    triangles["normal"] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    triangles["corners"] = corners
    header = b"liver, LPS millimetres, AI result, not for primary diagnosis".ljust(80)
    return header + np.uint32(len(triangles)).tobytes() + triangles.tobytes()
