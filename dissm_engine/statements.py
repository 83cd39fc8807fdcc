"""What each finding says to a radiologist, as half a sentence; the place and what is usual follow it."""

from __future__ import annotations

from collections.abc import Mapping

_STATEMENTS: Mapping[str, str] = {
    "shape_distance": "the shape is unusual as a whole, {value:.1f} sd from the mean liver",
    "max_loading": "the shape is unusual in one component, {value:.1f} sd from the mean liver",
    "pose_error": "the liver's position was found with an expected error of {value:.0f} mm",
    "start_spread": "searches for the liver from several starts ended {value:.0f} mm apart",
    "change_mean": "the refinement moved the surface by {value:.1f} mm in the mean",
    "change_p95": "the refinement moved parts of the surface by {value:.0f} mm",
    "at_rho_share": "{value:.1%} of the surface was moved as far as the refinement can",
    "last_move": "the outline had not come to rest, its last round moved it by {value:.1f} mm",
    "total_move": "the outline ended {value:.0f} mm from where it was first found",
    "edgeless_share": "{value:.0%} of the outline follows no edge in the image",
    "tissue_agreement": "only {value:.0%} of the inside looks like liver",
    "tissue_dsc": "outline and liver-like tissue overlap by only {value:.1%} (Dice)",
    "left_out": "liver-like tissue of {value:.0f} ml lies outside the outline",
    "taken_in": "tissue of {value:.0f} ml that does not look like liver lies inside the outline",
    "mass_like": "a mass-like region of {value:.0f} ml, {mass_hu:+.0f} HU against the liver, lies inside the outline",
    "mass_hu": "a region inside the outline differs from the liver by {value:+.0f} HU",
    "liver_hu_sd": "the inside is uneven, its HU vary by {value:.0f}",
    "liver_hu": "the inside has a median of {value:.0f} HU",
    "volume": "the outline holds {value:.0f} ml",
    "cut_share": "the scan ends within the liver, {value:.1%} of the surface lies on its border",
    "odd_tissues": "{value:.0f} tissues around the liver have HU that no soft tissue has",
}


def statement(name: str, values: Mapping[str, float]) -> str:
    """What a finding says, without its place; a name that is not known here is said as it is.

    Args:
        name: Of the finding.
        values: Of every finding by its name; some sentences hold more than one.

    Examples:
        >>> statement("left_out", {"left_out": 90.2})
        'liver-like tissue of 90 ml lies outside the outline'
    """
    pattern = _STATEMENTS.get(name)
    return "" if pattern is None else pattern.format(value=values[name], mass_hu=values.get("mass_hu", 0.0))
