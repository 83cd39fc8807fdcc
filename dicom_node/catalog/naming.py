"""Names the node gives: short, random, without patient data."""

from __future__ import annotations

import secrets

# No vowels (no words), no signs that look alike.
_SIGNS = "23456789bcdfghjkmnpqrstvwxz"
_LENGTH = 10


def new_case_id() -> str:
    """Ten random signs: the only name of a case in logs, metrics and file names (C10)."""
    return "".join(secrets.choice(_SIGNS) for _ in range(_LENGTH))
