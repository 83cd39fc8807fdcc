"""`[[admit.rules]]` of settings.toml: a site's own rules over DICOM attributes (C4)."""

from __future__ import annotations

import math
import re
from typing import Literal, Self

from pydantic import field_validator, model_validator

from dicom_node.settings_section import Section


class Rule(Section):
    """One eligibility rule over a DICOM attribute (C4). A missing attribute is unknown, neither true nor false."""

    name: str
    attribute: str
    operator: Literal["equals", "one_of", "regex", "range", "exists"]
    value: str | float | bool | tuple[str, ...] | tuple[float, ...] | None = None
    unknown: Literal["admit", "refuse"] = "admit"
    negate: bool = False

    @field_validator("attribute")
    @classmethod
    def _is_known(cls, attribute: str) -> str:
        """A misspelt one would be missing in every header, and so the rule unknown for ever."""
        # Only who has rules waits for pydicom to be imported.
        from pydicom.datadict import tag_for_keyword

        if tag_for_keyword(attribute) is None and not re.fullmatch(r"[0-9a-fA-F]{8}", attribute):
            raise ValueError(f"{attribute!r} is no DICOM keyword and no tag of eight hexadecimal digits")
        return attribute

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        """What the operator cannot use would make the rule unknown for every series."""
        if self.operator == "regex":
            _check_pattern(self.value)
        elif self.operator == "range":
            _check_range(self.value)
        elif self.operator == "one_of" and not (isinstance(self.value, tuple) and self.value):
            raise ValueError("one_of needs a list of values")
        elif self.operator == "equals" and (self.value is None or isinstance(self.value, tuple)):
            raise ValueError("equals needs one value")
        return self


def _check_pattern(pattern: object) -> None:
    if not isinstance(pattern, str):
        raise ValueError("regex needs a pattern")
    # Only who has such a rule waits for the import.
    import regex

    try:
        regex.compile(pattern)
    except regex.error as problem:
        raise ValueError(f"{pattern!r} is no regular expression: {problem}") from problem


def _check_range(limits: object) -> None:
    try:
        low, high = (float(limit) for limit in limits) if isinstance(limits, tuple) else (math.nan, math.nan)
    except ValueError:
        low, high = math.nan, math.nan
    if not low <= high:
        raise ValueError("range needs two numbers, the lower one first")
