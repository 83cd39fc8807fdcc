"""The contrast phase as the headers tell it: words in several languages, and the time since the bolus (C4)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from pydicom.dataset import Dataset

from dicom_node.admit.header_values import text_of
from dicom_node.admit.phase_words import (
    LATE_ARTERIAL,
    LATE_ARTERIAL_WITHOUT_BLANKS,
    MINUTES,
    SECONDS,
    SECONDS_SHORT,
    SEVERAL_PHASES,
    SEVERAL_PHASES_WITHOUT_BLANKS,
    WORDS,
    WORDS_WITHOUT_BLANKS,
)
from dicom_node.values.phase import Phase, PhaseVerdict

_WORDS: Mapping[Phase, re.Pattern[str]] = {
    phase: re.compile(rf"\b(?:{'|'.join(words)})\b") for phase, words in WORDS.items()
}
_WORDS_WITHOUT_BLANKS = {phase: re.compile("|".join(words)) for phase, words in WORDS_WITHOUT_BLANKS.items()}
_SEVERAL = re.compile(rf"\b(?:{'|'.join(SEVERAL_PHASES)})\b")
_SEVERAL_WITHOUT_BLANKS = re.compile("|".join(SEVERAL_PHASES_WITHOUT_BLANKS))
_SIGN = re.compile(r"(?<![a-z0-9])(?:c|ce|km|iv) ?\(?([+-])\)?(?![a-z0-9+-])(?! ?(?:spine|wirbel|arm|section)\b)")
"""`C-`, `C+`: without and with contrast. `C-SPINE`, `C-arm` are none."""

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
    composed = unicodedata.normalize("NFKC", text).lower().replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
    words, signs = _plain_words(composed), _signs(composed)
    joined = re.sub(LATE_ARTERIAL_WITHOUT_BLANKS, "動脈期", composed)
    several = _SEVERAL.search(words) or _SEVERAL_WITHOUT_BLANKS.search(joined)
    found = {phase: match.group() for phase, pattern in _WORDS.items() if (match := pattern.search(words))}
    for phase, pattern in _WORDS_WITHOUT_BLANKS.items():
        if match := pattern.search(joined):
            found.setdefault(phase, match.group())
    if "-" in signs:
        found.setdefault(Phase.UNENHANCED, "c-")
    if several or len(found) > 1 or ("+" in signs and Phase.UNENHANCED in found):
        named = several.group() if several else ", ".join(sorted({*found.values(), *(f"c{sign}" for sign in signs)}))
        return PhaseVerdict(Phase.UNKNOWN, f"{attribute} names several phases ({named})")
    for phase, word in found.items():
        return PhaseVerdict(phase, f"{attribute} says {word}")
    return _phase_of_delay(attribute, composed)


def _signs(text: str) -> list[str]:
    """Each once, sorted: `C-/C+` has both."""
    return sorted(set(_SIGN.findall(text)))


def _phase_of_delay(attribute: str, text: str) -> PhaseVerdict | None:
    """Of `70 sec`: asked only where no word names a phase. Several delays are several phases."""
    seconds = [float(one) for one in (*re.findall(SECONDS, text), *re.findall(SECONDS_SHORT, text))]
    seconds += [60 * float(one) for one in re.findall(MINUTES, text)]
    phases = {delay: phase for delay in seconds if (phase := _phase_after(delay)) is not None}
    if len(set(phases.values())) > 1:
        return PhaseVerdict(Phase.UNKNOWN, f"{attribute} names several phases")
    for delay, phase in phases.items():
        return PhaseVerdict(phase, f"{attribute} says {delay:.0f} s")
    return None


def _plain_words(text: str) -> str:
    """Tokens of Latin and Russian letters and digits, without accents, one blank between them."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(one for one in decomposed if not unicodedata.combining(one))
    words = " ".join(re.findall(r"[a-z0-9]+|[а-я]+", plain))
    for pattern, instead in LATE_ARTERIAL:
        words = re.sub(pattern, instead, words)
    return words


def _phase_of_bolus(header: Dataset) -> PhaseVerdict | None:
    if text_of(header, "ContrastBolusAgent").upper() in {"NONE", "NO", "N"}:
        return PhaseVerdict(Phase.UNENHANCED, "ContrastBolusAgent says there is none")
    start = seconds_of_day(text_of(header, "ContrastBolusStartTime"))
    taken = seconds_of_day(text_of(header, "AcquisitionTime"))
    if start is None or taken is None:
        return None
    delay = (taken - start) % 86400.0
    phase = _phase_after(delay)
    return PhaseVerdict(phase, f"images {delay:.0f} s after the injection began") if phase else None


def _phase_after(seconds: float) -> Phase | None:
    return next((phase for low, high, phase in _DELAYS if low <= seconds <= high), None)


def seconds_of_day(time: str) -> float | None:
    """Seconds since midnight of a DICOM time (PS3.5 6.2, VR TM), None where it is none."""
    match = re.fullmatch(r"(\d\d)(\d\d)(\d\d(?:\.\d+)?)", time)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None
