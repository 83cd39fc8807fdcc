"""What every table of settings.toml is made of: the base of its class, and types of values that several tables have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dicom_node.values.object_kinds import kinds_named
from dicom_node.values.results import ObjectKind

AeTitle = Annotated[str, Field(max_length=16, pattern=r"^ *[\x21-\x5B\x5D-\x7E][\x20-\x5B\x5D-\x7E]*$")]
"""PS3.5 6.2: at most 16 characters, no backslash, not blank."""
Port = Annotated[int, Field(ge=1, le=65535)]


def _kinds(names: object) -> tuple[ObjectKind, ...]:
    if isinstance(names, str):
        return kinds_named(names)
    if isinstance(names, list | tuple):
        return kinds_named([str(name) for name in names])
    raise ValueError("needs the name of a profile, or a list of names of objects and profiles")


ObjectNames = Annotated[tuple[ObjectKind, ...], BeforeValidator(_kinds)]
"""A profile's name, or a list of names of kinds and profiles; the value is the kinds."""
SEG_AND_SURFACE = (ObjectKind.SEG, ObjectKind.SURFACE)


class Section(BaseModel):
    """A table of settings.toml: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Old name to new name of keys that 0.3 called otherwise. The old ones are taken until 0.5."""

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, content: object) -> object:
        if not isinstance(content, Mapping):
            return content
        for old, new in cls.renamed_keys.items():
            if old in content and new in content:
                raise ValueError(f"{old} and {new} are the old and the new name of one key; remove {old}")
        return {cls.renamed_keys.get(key, key): value for key, value in content.items()}
