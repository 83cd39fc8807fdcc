"""What a series' own header calls it: read from the spool when a person asks, kept nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dicom_node.dicom.header_reading import PARSE_ERRORS, UnreadableDicomError, read_header

_MAX_CHARACTERS = 64


def series_descriptions(spool: Path, paths: Mapping[str, str]) -> dict[str, str]:
    """SeriesDescription (PS3.3 C.7.3.1) by SeriesInstanceUID, printable and at most 64 characters.

    paths: by SeriesInstanceUID, of one image, relative to the spool. What cannot be read is left out.
    """
    found = {uid: _description(spool / path) for uid, path in paths.items()}
    return {uid: text for uid, text in found.items() if text}


def _description(file: Path) -> str:
    try:
        text = str(read_header(file, file.name, ("SeriesDescription",)).get("SeriesDescription") or "")
    except (UnreadableDicomError, LookupError, *PARSE_ERRORS):
        return ""
    return "".join(sign for sign in text if sign.isprintable())[:_MAX_CHARACTERS]
