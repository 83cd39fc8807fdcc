"""How this node names itself in DICOM; the loop guard knows its own results by it (PS3.3 C.7.5.1)."""

from __future__ import annotations

from importlib import metadata

MANUFACTURER = "dissm-node project"
MODEL = "dissm-node"
SOFTWARE_VERSION = metadata.version("dissm-node")
IMPLEMENTATION_CLASS_UID = "2.25.178727448577552077095594137868107375970"
"""This program in file meta information and associations (PS3.7 D.3.3.2); drawn once, the same in every version."""
IMPLEMENTATION_VERSION_NAME = f"DISSM_{SOFTWARE_VERSION}"[:16]
"""Its version beside that: at most 16 characters."""
AI_MARK = "AI "
"""Every SeriesDescription of ours begins with it."""
