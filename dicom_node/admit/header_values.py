"""The values of a header's attributes as text, whatever is wrong with them."""

from __future__ import annotations

import re

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from dicom_node.dicom.header_reading import PARSE_ERRORS


def values_of(header: Dataset, attribute: str) -> tuple[str, ...]:
    """The values of an attribute as stripped text; none where it is missing, empty or cannot be read.

    attribute: DICOM keyword or eight hexadecimal digits.
    """
    tag = tag_of(attribute)
    if tag is None or tag not in header:
        return ()
    try:
        value = header[tag].value
    except PARSE_ERRORS:
        return ()
    if value is None or isinstance(value, bytes | Dataset | Sequence):
        return ()
    values = value if isinstance(value, MultiValue) else [value]
    return tuple(text for text in (str(one).strip() for one in values) if text)


def tag_of(attribute: str) -> BaseTag | None:
    """The tag of a keyword or of eight hexadecimal digits, None for anything else."""
    number = tag_for_keyword(attribute)
    if number is None and re.fullmatch(r"[0-9a-fA-F]{8}", attribute):
        number = int(attribute, 16)
    return None if number is None else Tag(number)


def text_of(header: Dataset, attribute: str) -> str:
    """All values of an attribute, joined as DICOM joins them; empty where there is none."""
    return "\\".join(values_of(header, attribute))
