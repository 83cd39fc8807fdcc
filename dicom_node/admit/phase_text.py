"""The contrast phase as the headers tell it: words in several languages, and the time since the bolus (C4)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from pydicom.dataset import Dataset

from dicom_node.admit.header_values import text_of
from dicom_node.values.phase import Phase, PhaseVerdict

# Matched against lower-case words without accents, everything else a blank: `Portal-venös` is `portal venos`.
_WORDS: Mapping[Phase, re.Pattern[str]] = {
    Phase.VENOUS: re.compile(
        r"\b(portal\w*|porto\w*|ven|venous|venos\w*|venoes\w*|veneu\w*|veineu\w*|venn\w*|zyln\w*|pvp?|pvph)\b"
    ),
    Phase.ARTERIAL: re.compile(r"\b(arter\w*|art|hap|angio\w*|cta|tetnicz\w*)\b"),
    Phase.UNENHANCED: re.compile(
        r"\b(nativ\w*|unenhanced|non ?contrast|non ?enhanced|no contrast|without|w o|wo|ohne|sans|sin contraste|sin civ"
        r"|senza|sem contraste|plain|pre ?contrast|ncct|nc|basale|bez kontrastu)\b"
    ),
    Phase.OTHER: re.compile(r"\b(delay\w*|tardi\w*|spaet\w*|spat\w*|equilibrium|excret\w*|late(?! art))\b"),
}
_SEVERAL = re.compile(r"\b(multi ?phas\w*|[2-5] ?phas\w*|(bi|tri|dual) ?phas\w*|w (and )?w ?o|with and without)\b")

# Seconds between the start of the injection and the images.
_DELAYS = ((15.0, 45.0, Phase.ARTERIAL), (55.0, 100.0, Phase.VENOUS), (150.0, 1800.0, Phase.OTHER))


def phase_from_text(header: Dataset) -> PhaseVerdict:
    """The phase that the first of SeriesDescription, ProtocolName and the bolus timing names.

    Words for several phases in one text make it unknown: the text then tells about the examination, not the series.
    """
    for attribute in ("SeriesDescription", "ProtocolName"):
        verdict = _phase_of_words(attribute, text_of(header, attribute))
        if verdict is not None:
            return verdict
    return _phase_of_bolus(header) or PhaseVerdict(Phase.UNKNOWN, "text says nothing")


def _phase_of_words(attribute: str, text: str) -> PhaseVerdict | None:
    """None where the text says nothing at all. Only the words that matched become evidence."""
    words = _plain_words(text)
    several = _SEVERAL.search(words)
    found = {phase: match.group() for phase, pattern in _WORDS.items() if (match := pattern.search(words))}
    if several or len(found) > 1:
        named = several.group() if several else ", ".join(sorted(found.values()))
        return PhaseVerdict(Phase.UNKNOWN, f"{attribute} names several phases ({named})")
    for phase, word in found.items():
        return PhaseVerdict(phase, f"{attribute} says {word}")
    return None


def _plain_words(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return " ".join(re.findall(r"[a-z0-9]+", "".join(one for one in decomposed if not unicodedata.combining(one))))


def _phase_of_bolus(header: Dataset) -> PhaseVerdict | None:
    if text_of(header, "ContrastBolusAgent").upper() in {"NONE", "NO", "N"}:
        return PhaseVerdict(Phase.UNENHANCED, "ContrastBolusAgent says there is none")
    start = seconds_of_day(text_of(header, "ContrastBolusStartTime"))
    taken = seconds_of_day(text_of(header, "AcquisitionTime"))
    if start is None or taken is None:
        return None
    delay = (taken - start) % 86400.0
    for min_seconds, max_seconds, phase in _DELAYS:
        if min_seconds <= delay <= max_seconds:
            return PhaseVerdict(phase, f"images {delay:.0f} s after the injection began")
    return None


def seconds_of_day(time: str) -> float | None:
    """Seconds since midnight of a DICOM time (PS3.5 6.2, VR TM), None where it is none."""
    match = re.fullmatch(r"(\d\d)(\d\d)(\d\d(?:\.\d+)?)", time)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None
