"""Elements of very many decimal strings, made as the bytes of the file."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag


def add_decimal_strings(dataset: Dataset, keyword: str, values: Iterable[float]) -> None:
    """Set an attribute of DS (PS3.5 6.2) with four decimals; in memory each number would be an object of its own.

    The data set must have no text beyond ASCII: its elements count as already written, in explicit little endian.
    """
    text = "\\".join(map("%.4f".__mod__, values)).encode("ascii")
    content = text + b" " * (len(text) % 2)
    dataset.set_original_encoding(False, True, default_encoding)
    dataset.add(RawDataElement(Tag(keyword), "DS", len(content), content, 0, False, True))  # type: ignore[arg-type]
