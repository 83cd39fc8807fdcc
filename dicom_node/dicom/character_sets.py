"""Character sets of DICOM texts (PS3.3 C.12.1.1.2, PS3.5 6.1): what is defined, and texts that break their own set."""

from __future__ import annotations

from copy import deepcopy
from fnmatch import fnmatchcase

from pydicom.charset import ESC, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

DEFINED_CHARACTER_SETS = frozenset(python_encoding)
"""The defined terms of SpecificCharacterSet (PS3.3 C.12.1.1.2); the empty one stands for the default repertoire."""


def is_defined_character_set(term: str) -> bool:
    """Return whether a value of SpecificCharacterSet is one of DICOM's terms, as it is or as senders misspell it.

    pydicom takes the name of any Python codec, `base64` and `idna` among them, and then fails at the first text
    (upstream: none found; #815 and #850 are about names that Python does not know). The misspellings are those that
    pydicom puts right: another sign in the place of the underscore or of the blanks.
    """
    term = term.strip()
    for wrong, right in (("ISO?IR*", "ISO_IR"), ("ISO?2022?IR?*", "ISO 2022 IR ")):
        if fnmatchcase(term, wrong):
            term = right + term[len(right) :]
    return term in DEFINED_CHARACTER_SETS


def copied_element(source: Dataset, keyword: str) -> DataElement:
    """Return a copy of an attribute; a text beyond ASCII that nobody has decoded yet keeps its very bytes.

    Senders write what their declared character set does not hold (Windows-1256 under ISO_IR 127): decoded and encoded
    again by pydicom, it would come back as question marks, and no longer be the patient's name (upstream: #2115 asks
    for a way to read such texts).

    Raises:
        One of `header_reading.PARSE_ERRORS`: The attribute is missing, or its value cannot be read.
    """
    raw = source.get_item(keyword)
    if isinstance(raw, RawDataElement) and raw.value and not _is_plain(raw.value):
        vr = dictionary_VR(raw.tag) if raw.VR in {None, "UN"} else raw.VR
        if vr in CUSTOMIZABLE_CHARSET_VR:
            return DataElement(raw.tag, vr, raw.value)
    return deepcopy(source[keyword])


def _is_plain(text: bytes) -> bool:
    return text.isascii() and ESC not in text
