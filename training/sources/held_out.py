"""Which livers no training ever sees."""

from __future__ import annotations

import re
from collections.abc import Iterable

AMOS_HELD_OUT = frozenset({1, 9, 16, 24, 35, 44, 50, 59, 69, 77, 84, 94, 103, 111, 119, 127})
"""Case numbers of the 16 AMOS livers that stay out of everything, whatever source they come from."""

_AMOS_NAME = re.compile(r"amos_0*(\d+)$")


def split_held_out(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Sorted names for training and sorted names held out.

    AMOS cases are held out by their number, so that the label maps (`amos_0001`) and the published surfaces
    (`amos_001`) keep the same livers apart; any other source gives up every fifth of its sorted names, from the first.
    """
    ordered = sorted(names)
    amos = {name: match for name in ordered if (match := _AMOS_NAME.match(name))}
    held_by_number = [name for name, match in amos.items() if int(match.group(1)) in AMOS_HELD_OUT]
    held_out = held_by_number if amos else ordered[::5]
    kept_apart = set(held_out)
    return [name for name in ordered if name not in kept_apart], held_out
