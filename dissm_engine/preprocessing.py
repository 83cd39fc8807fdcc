"""What the image networks are shown; a bundle says what its own were, and no other engine may serve it (D8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What is done to a CT before a network sees it. Networks serve only an engine whose preprocessing is theirs.

    Attributes:
        frame: The patient coordinates of all points, and their unit.
        hu_window: Lowest and highest HU that a network tells apart.
        normalised_hu: HU above or below the median inside the prior that make one unit of the normalised channel.
        pose_spacing_mm: Spacing of the grid on which the pose stage samples the CT.
        field_spacing_mm: Spacing of the grid on which the refinement works.
        prior_clip_mm: The prior's distances are clipped to plus and minus this.
    """

    frame: str = "LPS mm"
    hu_window: tuple[float, float] = HU_WINDOW
    normalised_hu: float = NORMALISED_HU
    pose_spacing_mm: float = POSE_SPACING_MM
    field_spacing_mm: float = FIELD_SPACING_MM
    prior_clip_mm: float = PRIOR_CLIP_MM

    def to_json(self) -> dict[str, Any]:
        """The preprocessing as plain JSON values, for a bundle's manifest."""
        return asdict(self) | {"hu_window": list(self.hu_window)}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError where a value is missing or unknown."""
        low, high = content["hu_window"]
        missing = set(Preprocessing.__dataclass_fields__) - set(content)
        if missing:
            raise KeyError(", ".join(sorted(missing)))
        return Preprocessing(**{**content, "hu_window": (low, high)})


ENGINE_PREPROCESSING: Final = Preprocessing()
"""Of this engine."""
