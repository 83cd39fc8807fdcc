"""Which livers no training ever sees, and which ones only validation and calibration see."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from dissm_engine.errors import Reason
from training.sources.surfaces import SourceError

AMOS_HELD_OUT = frozenset({1, 9, 16, 24, 35, 44, 50, 59, 69, 77, 84, 94, 103, 111, 119, 127})
"""Case numbers of the 16 AMOS livers that stay out of everything, whatever source they come from."""

AMOS_VALIDATION = frozenset({11, 17, 58, 72, 78, 79, 88, 98, 115, 125})
"""Case numbers of the 10 AMOS livers that only validation and calibration see: of the 61 others in the order of their
volume every sixth from the fourth, 729 to 1969 ml."""

AMOS_NUMBER_UNCLEAR = Reason(
    "AMOS_NUMBER_UNCLEAR",
    "the liver {name} seems to be a case of AMOS, and its number cannot be told from its name",
    "name it amos_NNNN: livers that are held out are known by their number and must not get into training",
)

_FAMILY = "amos"
_DATA_SET_YEAR = "22"
_CHANNEL = "0000"
_MAX_CASE = 999


@dataclass(frozen=True, slots=True)
class LiverSplit:
    """Names of livers by what they are for, each sorted. No liver is in two of them.

    Attributes:
        training: What every network and the shape model learn from.
        validation: What design decisions and calibration are made on.
        held_out: What finished bundles are judged on.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    held_out: tuple[str, ...]


def split_livers(names: Iterable[str], source: str = "") -> LiverSplit:
    """Put every liver to training, validation or held out.

    AMOS cases are put by their number, so that label maps (`amos_0001`), the published surfaces (`amos_001`) and any
    other spelling keep the same livers apart. Of all other names, sorted, every fifth from the first is held out, and
    of those left every tenth from the fifth is for validation.

    Args:
        names: Of the livers in a source.
        source: Name of the source: where it speaks of AMOS, names that are mere numbers are cases of AMOS.

    Raises:
        SourceError: `AMOS_NUMBER_UNCLEAR`.
    """
    ordered = sorted(names)
    numbers = {name: amos_case_number(name, source) for name in ordered}
    others = [name for name in ordered if numbers[name] is None]
    held_out, left = set(others[::5]), [name for number, name in enumerate(others) if number % 5]
    validation = set(left[4::10])
    held_out |= {name for name, number in numbers.items() if number in AMOS_HELD_OUT}
    validation |= {name for name, number in numbers.items() if number in AMOS_VALIDATION}
    return LiverSplit(
        tuple(name for name in ordered if name not in held_out | validation),
        tuple(name for name in ordered if name in validation),
        tuple(name for name in ordered if name in held_out),
    )


def amos_case_number(name: str, source: str = "") -> int | None:
    """The case number of an AMOS liver in any spelling; None for a liver that is not of AMOS.

    Examples:
        >>> [amos_case_number(name) for name in ("amos_0001", "Amos-001.nii.gz", "AMOS 1", "amos22_0001", "liver_1")]
        [1, 1, 1, 1, None]

    Raises:
        SourceError: `AMOS_NUMBER_UNCLEAR`: nothing, or more than one thing, in the name can be the number.
    """
    plain = unicodedata.normalize("NFKC", name).casefold().replace("\\", "/")
    own = PurePath(plain).name
    _, family, rest = own.rpartition(_FAMILY)
    if not family:
        if _FAMILY not in plain and _FAMILY not in source.casefold():
            return None
        rest = own
    groups = re.findall(r"[0-9]+", re.sub(r"\.(nii|gz|npz|stl|ply|obj|nrrd|mha)\b", "", rest))
    if len(groups) > 1 and groups[0] == _DATA_SET_YEAR:
        groups = groups[1:]
    if len(groups) > 1 and groups[-1] == _CHANNEL:
        groups = groups[:-1]
    if len(groups) != 1 or not 1 <= int(groups[0]) <= _MAX_CASE:
        raise SourceError(AMOS_NUMBER_UNCLEAR, name=name)
    return int(groups[0])
