"""Elements whose value stays the bytes of the file: of half a million numbers no object is made each."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag


def decimal_string_element(keyword: str, text: bytes) -> RawDataElement:
    r"""An element of VR DS (PS3.5 6.2) from its text as it is to be written in explicit little endian.

    text: ASCII, values parted by backslashes; padded to an even length here.
    """
    content = text + b" " * (len(text) % 2)
    return RawDataElement(Tag(keyword), "DS", len(content), content, 0, False, True)


def bytes_of_element(dataset: Dataset, keyword: str) -> bytes | None:
    """The bytes of an element that nobody has decoded yet; None where pydicom made values of them already.

    Raises:
        KeyError: The element is missing.
    """
    content = dataset.get_item(keyword)
    return content.value if isinstance(content, RawDataElement) else None
