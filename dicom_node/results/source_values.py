"""What is missing from or wrong with the values that are copied from the source: nothing is mended or invented (C8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from dicom_node.dicom.header_reading import PARSE_ERRORS
from dicom_node.results.modules import PATIENT_AND_STUDY_OPTIONAL, PATIENT_AND_STUDY_TYPE_2
from dicom_node.results.object_times import zone_of

_OTHER_COPIED = (
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "BodyPartExamined",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "ContributingEquipmentSequence",
)
_ENUMERATED = {"PatientSex": {"M", "F", "O"}, "PatientSexNeutered": {"ALTERED", "UNALTERED"}}
"""PS3.3 C.7.1.1, C.7.2.2."""
_UNDECODED = "\ufffd"
"""What stands for bytes that are no character of the declared character set."""


def empty_type_2(source: Dataset) -> list[str]:
    """The attributes every object must have and the source has no value for."""
    return [keyword for keyword in PATIENT_AND_STUDY_TYPE_2 if not source.get(keyword)]


def invalid_values(source: Dataset) -> list[str]:
    """Keywords of copied attributes whose value breaks the rules of its value representation (PS3.5 6.2).

    Most are copied as they are: a patient's identifier that is too long is still the patient's. Those that no reader
    could take, and a zone that is none, are left out.
    """
    copied = (*PATIENT_AND_STUDY_TYPE_2, *PATIENT_AND_STUDY_OPTIONAL, *_OTHER_COPIED)
    found = [keyword for keyword in copied if keyword in source and not _is_valid(source, keyword)]
    if source.get("TimezoneOffsetFromUTC") and zone_of(source) is None:
        found.append("TimezoneOffsetFromUTC")
    return found


def _is_valid(source: Dataset, keyword: str) -> bool:
    try:
        element = source[keyword]
        values = list(_values(element))
        for vr, value in values:
            validate_value(vr, value, RAISE)
    except PARSE_ERRORS:
        return False
    allowed = _ENUMERATED.get(keyword)
    texts = [str(value) for _, value in values]
    return not any(_UNDECODED in text for text in texts) and (allowed is None or set(texts) <= allowed)


def _values(element: DataElement) -> Iterator[tuple[str, Any]]:
    """Every value of an element with its value representation, those of the items of a sequence among them."""
    if element.VR == "SQ":
        for item in element.value:
            for inner in item:
                yield from _values(inner)
        return
    for value in element.value if isinstance(element.value, MultiValue) else [element.value]:
        if value is not None and value != "":
            # A number remembers how it was written, and a person's name its bytes, which are not what is judged.
            written = getattr(value, "original_string", value)
            yield element.VR, str(value) if isinstance(written, bytes) or element.VR == "PN" else written
