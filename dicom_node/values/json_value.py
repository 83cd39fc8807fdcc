"""What JSON can hold: facts of audit rows and reasons, as the catalogue keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

JsonValue: TypeAlias = Union[str, int, float, bool, Sequence["JsonValue"], Mapping[str, "JsonValue"], None]  # noqa: UP007 - names itself
"""A value that `json.dumps` takes and gives back unchanged (tuples come back as lists)."""

Facts: TypeAlias = Mapping[str, JsonValue]
"""Named facts of one event or reason; never patient data."""
