"""Very many decimal strings, read from the bytes of the file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom import Dataset


def numbers_as_stored(dataset: Dataset, keyword: str) -> npt.NDArray[np.float64]:
    """The values [N] of an attribute of DS (PS3.5 6.2); pydicom would make an object of each.

    Raises:
        KeyError: It is missing.
        ValueError: A value is no number.
    """
    content = dataset.get_item(keyword).value
    texts = content.split(b"\\") if isinstance(content, bytes) else content
    return np.array([float(text) for text in texts])
