"""What the image networks are shown; a bundle says what its own were, and no other engine may serve it (D8)."""

from __future__ import annotations

from typing import Any, Final

HU_WINDOW: Final = (-160.0, 240.0)
"""Appendix B.2."""
NORMALISED_HU: Final = 60.0
"""HU above or below the median inside the prior that make one unit of the normalised channel."""
POSE_SPACING_MM: Final = 4.0
"""Of what the pose stage sees of the CT, before its own crops."""
FIELD_SPACING_MM: Final = 2.0
"""Of the isotropic grid, along the LPS axes, on which the refinement works and the final field lies."""
PRIOR_CLIP_MM: Final = 40.0


def described() -> dict[str, Any]:
    """For the manifest."""
    return {
        "frame": "LPS mm",
        "hu_window": list(HU_WINDOW),
        "normalised_hu": NORMALISED_HU,
        "pose_spacing_mm": POSE_SPACING_MM,
        "field_spacing_mm": FIELD_SPACING_MM,
        "prior_clip_mm": PRIOR_CLIP_MM,
    }
