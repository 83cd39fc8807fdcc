"""The phase gate: what the headers say and what the image shows, together (C4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom.dataset import Dataset

from dicom_node.admit.phase_text import phase_from_text
from dicom_node.reasons import PHASE_NOT_VENOUS, RefusalError
from dicom_node.settings import AdmitSettings
from dicom_node.values.phase import Phase, PhaseVerdict

# Measured by hand in the real series of the test data (median HU):
#   series                  liver  spleen  aorta  kidney   aorta/liver  aorta/spleen
#   HCC_048 (late venous)     105     154    219     210           2.1           1.4
#   HCC_002, acquisition 2     90     127    142     150           1.6           1.1
#   HCC_002, acquisition 1     64      99    338     228           5.3           3.4
#   no contrast                46      35     40      15           0.9           1.1
# In the arterial phase the aorta runs ahead of every organ; in the venous phase organs have caught up with it.
UNENHANCED_BLOOD_HU = 80.0
UNENHANCED_KIDNEY_HU = 80.0
CONTRAST_BLOOD_HU = 100.0
ARTERIAL_BLOOD_HU = 180.0
ARTERIAL_TO_LIVER = 3.0
ARTERIAL_TO_SPLEEN = 2.0
VENOUS_LIVER_HU = 75.0
VENOUS_TO_LIVER = 2.6
VENOUS_SPLEEN_HU = 95.0
VENOUS_TO_SPLEEN = 1.8
DELAYED_TO_LIVER = 1.15
_TISSUES = ("liver", "spleen", "aorta", "kidney", "vein")


def phase_from_tissues(tissue_hu: Mapping[str, float]) -> PhaseVerdict:
    """The phase that median HU of liver, spleen, aorta and kidney show.

    tissue_hu: lower-case names to HU; any may be missing, then less can be said. Between the clear cases: unknown.
    """
    evidence = ", ".join(f"{name} {tissue_hu[name]:.0f} HU" for name in _TISSUES if name in tissue_hu)
    return PhaseVerdict(_phase(tissue_hu), evidence or "no tissue could be measured")


def _phase(hu: Mapping[str, float]) -> Phase:
    liver, aorta, spleen, kidney = (hu.get(name) for name in ("liver", "aorta", "spleen", "kidney"))
    if aorta is None:
        # Without blood only the absence of contrast can be seen: a kidney takes it up in every phase.
        dark = kidney is not None and kidney < UNENHANCED_KIDNEY_HU and (liver or 0.0) < UNENHANCED_BLOOD_HU
        return Phase.UNENHANCED if dark else Phase.UNKNOWN
    if aorta < UNENHANCED_BLOOD_HU:
        return Phase.UNENHANCED if kidney is None or kidney < UNENHANCED_KIDNEY_HU else Phase.OTHER
    if aorta < CONTRAST_BLOOD_HU:
        return Phase.UNKNOWN
    if _runs_ahead(aorta, liver, spleen):
        return Phase.ARTERIAL
    return Phase.VENOUS if _caught_up(aorta, liver, spleen) else Phase.UNKNOWN


def _runs_ahead(aorta: float, liver: float | None, spleen: float | None) -> bool:
    """Arterial: the aorta is bright, and no organ that was measured comes near it."""
    limits = ((liver, ARTERIAL_TO_LIVER), (spleen, ARTERIAL_TO_SPLEEN))
    ahead = [aorta / max(organ, 1.0) >= min_ratio for organ, min_ratio in limits if organ is not None]
    return aorta >= ARTERIAL_BLOOD_HU and bool(ahead) and all(ahead)


def _caught_up(aorta: float, liver: float | None, spleen: float | None) -> bool:
    """Venous: the organs have the contrast. A fatty liver stays dark, then the spleen alone tells."""
    if spleen is not None and aorta / max(spleen, 1.0) > VENOUS_TO_SPLEEN:
        return False
    by_spleen = spleen is not None and spleen >= VENOUS_SPLEEN_HU
    if liver is None:
        return by_spleen
    if aorta / max(liver, 1.0) < DELAYED_TO_LIVER:
        return False
    return by_spleen or (liver >= VENOUS_LIVER_HU and aorta / liver <= VENOUS_TO_LIVER)


def combine(text: PhaseVerdict, image: PhaseVerdict) -> PhaseVerdict:
    """Both together. Two that are not venous agree on that; venous against anything else is unknown."""
    evidence = f"text: {text.evidence}; image: {image.phase} ({image.evidence})"
    if text.phase == image.phase or text.phase is Phase.UNKNOWN:
        return PhaseVerdict(image.phase, evidence)
    if image.phase is Phase.UNKNOWN:
        return PhaseVerdict(text.phase, evidence)
    if Phase.VENOUS in {text.phase, image.phase}:
        return PhaseVerdict(Phase.UNKNOWN, evidence)
    return PhaseVerdict(Phase.OTHER, evidence)


def gate_phase(headers: Sequence[Dataset], tissue_hu: Mapping[str, float], settings: AdmitSettings) -> PhaseVerdict:
    """The phase of a delineated stack. headers: the stack's, in the order of k; the middle one is read.

    Raises RefusalError(PHASE_NOT_VENOUS) where the site wants the venous phase only and this is another, or where it
    is unknown and the site refuses that.
    """
    verdict = combine(phase_from_text(headers[len(headers) // 2]), phase_from_tissues(tissue_hu))
    if settings.phase == "any" or verdict.phase is Phase.VENOUS:
        return verdict
    if verdict.phase is Phase.UNKNOWN and settings.phase_unknown == "process":
        return verdict
    raise RefusalError(PHASE_NOT_VENOUS, phase=verdict.phase.value, evidence=verdict.evidence)
