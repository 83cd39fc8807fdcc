"""Digests by which a person finds a study without the catalogue holding what it is looked up by (C10).

The catalogue, and every copy of it that is handed to an auditor, holds keyed digests only; the key lies beside it in a
file of its own, readable by the service's user. Without the key nobody can try all accession numbers of a hospital.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

KEY_NAME = "lookup.key"
_KEY_BYTES = 32
_KEY_ID_CHARACTERS = 8
_DIGEST_CHARACTERS = 64


class LookupKind(StrEnum):
    """What a study is looked up by: an accession number is no patient id, though both may be 4711."""

    ACCESSION = "accession"
    PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class LookupKey:
    """The key of one node's digests."""

    secret: bytes = field(repr=False)

    @staticmethod
    def of(folder: Path) -> LookupKey:
        """The key of a data folder, made at its first use with mode 0600. Raises OSError."""
        file = folder / KEY_NAME
        try:
            return LookupKey(file.read_bytes())
        except FileNotFoundError:
            _make(file)
            return LookupKey(file.read_bytes())

    @staticmethod
    def existing(folder: Path) -> LookupKey | None:
        """The key of a data folder, None where it has none: whoever only looks makes nothing. Raises OSError."""
        try:
            return LookupKey((folder / KEY_NAME).read_bytes())
        except FileNotFoundError:
            return None

    def digest(self, kind: LookupKind, text: str) -> str:
        """What the catalogue holds in place of the text, 64 characters; empty for an empty text.

        Case, surrounding spaces and leading zeros do not count, since systems differ in them. It begins with the key's
        own mark: a digest made with another key is told from that of another text.
        """
        plain = text.strip().casefold()
        if not plain:
            return ""
        message = f"{kind.value}:{plain.lstrip('0')}".encode()
        made = hmac.new(self.secret, message, hashlib.sha256).hexdigest()
        return (self.mark + made)[:_DIGEST_CHARACTERS]

    @property
    def mark(self) -> str:
        """What every digest of this key begins with."""
        return hashlib.sha256(b"mark:" + self.secret).hexdigest()[:_KEY_ID_CHARACTERS]


def same_key(one: str, other: str) -> bool:
    """Whether two digests were made with one key, so that comparing them says something."""
    return bool(one and other) and one[:_KEY_ID_CHARACTERS] == other[:_KEY_ID_CHARACTERS]


def _make(file: Path) -> None:
    """Of several processes that begin at once the first one's stays: a link is made whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=file.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(_KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(name, file)
        except FileExistsError:
            return
    finally:
        os.unlink(name)
