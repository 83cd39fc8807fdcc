"""Facts of audit rows, reasons and heartbeats: what the catalogue keeps as JSON."""

from __future__ import annotations

from typing import TypeAlias

from dissm_engine.json_value import JsonObject

Facts: TypeAlias = JsonObject
"""Named facts of one event or reason; never patient data."""
