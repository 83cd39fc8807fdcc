"""The type of a value that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
"""What `json.dumps` takes and `json.loads` returns."""

JsonObject: TypeAlias = Mapping[str, JsonValue]
"""A JSON object: text keys, values of any JSON type."""
