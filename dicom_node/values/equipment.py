"""How this node names itself in DICOM; the loop guard knows its own results by it (PS3.3 C.7.5.1)."""

from __future__ import annotations

from importlib import metadata

MANUFACTURER = "dissm-node project"
MODEL = "dissm-node"
SOFTWARE_VERSION = metadata.version("dissm-node")
AI_MARK = "AI "
"""Every SeriesDescription of ours begins with it."""
