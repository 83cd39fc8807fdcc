"""What pydicom leaves out, shown with the bare library. A test that fails here names a work-around that can go."""

from __future__ import annotations

import inspect
import io
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom import config
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.dicom import header_reading
from dicom_node.dicom.character_sets import copied_element, is_defined_character_set

MB = 1 << 20


def small_file(transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = transfer_syntax
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def test_a_deflated_file_is_inflated_whole_before_its_header_is_read() -> None:
    """`header_reading._read`: no upstream issue was found."""
    content = small_file(DeflatedExplicitVRLittleEndian)
    start = 144 + int(pydicom.dcmread(io.BytesIO(content)).file_meta.FileMetaInformationGroupLength)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    padding = b"\xfc\xff\xfc\xff" + b"OB\0\0" + (64 * MB).to_bytes(4, "little")
    inflated = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    parts = [packer.compress(part) for part in (inflated, padding, *[bytes(MB)] * 64)]
    bomb = content[:start] + b"".join(parts) + packer.flush()
    tracemalloc.start()
    try:
        pydicom.dcmread(io.BytesIO(bomb), stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(bomb) < MB
    assert peak > 60 * MB


def test_the_file_meta_information_can_only_be_read_from_a_named_file() -> None:
    """`header_reading._read` takes pydicom's private reader: no upstream issue was found."""
    assert list(inspect.signature(read_file_meta_info).parameters) == ["filename"]
    with pytest.raises((TypeError, OSError, ValueError)):
        read_file_meta_info(io.BytesIO(small_file()))  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["base64", "idna", "rot13"])
def test_any_codec_of_python_is_taken_for_a_character_set(codec: str) -> None:
    """`is_defined_character_set`: no upstream issue was found; #815 and #850 are about unknown names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert convert_encodings(codec) == [codec]
    assert not is_defined_character_set(codec)


def test_a_text_that_its_character_set_does_not_hold_comes_back_as_another(tmp_path: Path) -> None:
    """`copied_element`: #2115 asks for a way to read such texts."""
    name = "محمد".encode("cp1256") + b"\xff"

    def source() -> Dataset:
        made = Dataset()
        made.SpecificCharacterSet = "ISO_IR 127"
        made[Tag("PatientName")] = RawDataElement(Tag("PatientName"), "PN", len(name), name, 0, False, True)  # type: ignore[assignment]
        return made

    def written(target: Dataset) -> bytes:
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, target, implicit_vr=False, little_endian=True)
        return buffer.getvalue()

    bare, ours = Dataset(), Dataset()
    bare.SpecificCharacterSet = ours.SpecificCharacterSet = "ISO_IR 127"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare["PatientName"] = source()["PatientName"]
        ours["PatientName"] = copied_element(source(), "PatientName")
        assert name not in written(bare)
        assert name in written(ours)


def test_reading_warns_with_the_value_unless_all_reading_is_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """`reading_validation_mode`: #2060 names the setting, which holds for the whole process."""
    value = b"Secret "
    header = Dataset()
    raw = RawDataElement(Tag("StudyInstanceUID"), "UI", len(value), value, 0, False, True)
    assert header_reading.PARSE_ERRORS
    assert config.settings.reading_validation_mode == config.IGNORE, "set where the module is imported"
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.WARN)
    header[Tag("StudyInstanceUID")] = raw  # type: ignore[assignment]
    with pytest.warns(UserWarning, match="Secret"):
        _ = header["StudyInstanceUID"].value
