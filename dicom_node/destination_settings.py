"""`[[destinations]]` of settings.toml: where results go, by C-STORE (PS3.4 B) or by DICOMweb STOW-RS (PS3.18 10.5)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from dicom_node.settings_section import SEG_AND_SURFACE, AeTitle, ObjectNames, Port, Section


class DestinationSettings(Section):
    """What every destination has, whichever way results go there."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "longest_retry_seconds": "max_retry_seconds",
        "most_failures": "max_failures",
    }

    name: str = Field(pattern=r"^[a-z0-9_-]{1,32}$")
    objects: ObjectNames = SEG_AND_SURFACE
    replaced_results: Literal["leave", "key-object"] = "leave"
    """What is done about a result there once a newer one has arrived: nothing (a person deletes it), or a rejection
    note is sent."""
    timeout_seconds: float = Field(30, gt=0)
    first_retry_seconds: float = Field(10, gt=0)
    max_retry_seconds: float = Field(1800, gt=0)
    max_failures: int = Field(20, ge=1)
    """So often the destination may fail one object, or not answer, before it counts as refused. Attempts that do not
    reach it are without limit."""


class Destination(DestinationSettings):
    """A Storage SCP."""

    ae_title: AeTitle
    host: str
    port: Port
    calling_ae_title: AeTitle = "DISSM"


class WebDestination(DestinationSettings):
    """A DICOMweb service that stores (STOW-RS). Secrets are in files of their own, never in settings.toml."""

    url: str
    """The service's base: instances are posted to `url`/studies."""
    bearer_token_file: Path | None = None
    """Holds the token. Read before every sending, so that another program may renew it."""
    user: str | None = Field(None, min_length=1, pattern="^[^:]+$")
    password_file: Path | None = None
    """Holds the password of `user` (basic authentication)."""
    ca_file: Path | None = None
    """Certificates (PEM) by which the service's own is verified; None: those that ship with the program."""

    @field_validator("url")
    @classmethod
    def _is_a_base(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError as problem:
            raise ValueError(f"is no URL: {problem}") from problem
        if not usable:
            raise ValueError("is no URL such as https://pacs.example/dicom-web")
        if parts.username is not None or parts.password is not None:
            raise ValueError("holds a user or password; name a password_file")
        if parts.query or parts.fragment:
            raise ValueError("is to end with the path of the service")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _secrets_fit(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together")
        if self.password_file is not None and self.bearer_token_file is not None:
            raise ValueError("has both a bearer_token_file and a password_file; one of them says who we are")
        if self.secret_file is not None and self.url.startswith("http:") and not _is_loopback(self.url):
            raise ValueError("would send a secret in the clear: the url must begin with https")
        return self

    @property
    def secret_file(self) -> Path | None:
        """The file that says who we are; None where the service asks for nothing."""
        return self.bearer_token_file or self.password_file


_BY_STORE, _BY_WEB = "C-STORE", "DICOMweb"


def _way(content: object) -> str:
    """Which of both a block is; what names a url is DICOMweb."""
    web = "url" in content if isinstance(content, Mapping) else isinstance(content, WebDestination)
    return _BY_WEB if web else _BY_STORE


AnyDestination = Annotated[
    Annotated[Destination, Tag(_BY_STORE)] | Annotated[WebDestination, Tag(_BY_WEB)], Discriminator(_way)
]
"""A block of `[[destinations]]`."""


def without_way(place: Sequence[str | int]) -> list[str | int]:
    """Where an error of the settings is, as the keys stand in the file."""
    return [part for part in place if part not in (_BY_STORE, _BY_WEB)]


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
