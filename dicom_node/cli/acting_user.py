"""Who gives a command: the user of this machine, as the audit names whoever intervened."""

from __future__ import annotations

import os
import pwd

_MAX_CHARACTERS = 64
"""The audit's column."""


def acting_user() -> str:
    """The name of the process' own user (not of its environment), and the one who used sudo, as sudo says."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = f"uid {number}"
    behind = "".join(sign for sign in os.environ.get("SUDO_USER", "") if sign.isprintable())
    return f"{name}, sudo of {behind}" if behind and behind != name else name


def acting_as(command: str) -> str:
    """What the audit rows of a command bear in place of a process' name."""
    return f"{command} by {acting_user()}"[:_MAX_CHARACTERS]
