"""What a series must be before its geometry matters: a CT, no localizer, no reformat, no result of an AI (C4)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage

from dicom_node.admit.header_values import text_of, values_of
from dicom_node.dicom.character_sets import is_defined_character_set
from dicom_node.dicom.header_reading import ENHANCED_CT, PARSE_ERRORS
from dicom_node.reasons import (
    DERIVED_REFORMAT,
    LOCALIZER,
    MR_IMAGES,
    NOT_A_CT,
    OTHER_BODY_PART,
    OTHER_MODALITY,
    OWN_RESULT,
    PET_IMAGES,
    UNKNOWN_CHARACTER_SET,
    RefusalError,
)
from dicom_node.settings import AdmitSettings
from dicom_node.values.equipment import AI_MARK, MANUFACTURER, MODEL
from dicom_node.values.evidence import Evidence, RuleOutcome
from dissm_engine.errors import Reason

Check = tuple[Evidence, RefusalError | None]

_MODALITY_REASONS: Mapping[str, Reason] = {"MR": MR_IMAGES, "PT": PET_IMAGES}
_SOP_CLASS_MODALITY = ((re.compile("MR Image|MR Spectroscopy|MR Color"), "MR"), (re.compile("Positron|PET"), "PT"))
_REFORMATS = {"MPR", "REFORMATTED", "MIP", "MINIP", "AVERAGE", "PROJECTION IMAGE", "CSA MPR", "VOLREN", "3D"}
_LIVER_PARTS = {"ABDOMEN", "LIVER", "ABDOMENPELVIS", "CHESTABDPELVIS", "CHESTABDOMEN", "TRUNK", "WHOLEBODY"}
_OTHER_BODY_PARTS = {
    "HEAD",
    "BRAIN",
    "SKULL",
    "HEADNECK",
    "NECK",
    "CSPINE",
    "ORBIT",
    "SINUS",
    "KNEE",
    "ANKLE",
    "FOOT",
    "HAND",
    "WRIST",
    "ELBOW",
    "SHOULDER",
    "LEG",
    "ARM",
}


def check_built_in_rules(header: Dataset, settings: AdmitSettings) -> list[Check]:
    """Every built-in check in its order, each with the refusal it leads to, if any. Flags refuse nothing."""
    return [
        _own_result(header),
        _modality(header),
        _localizer(header),
        _derived(header, settings),
        _body_part(header),
        _character_set(header),
        _flag(header, "lossless", "LossyImageCompression", "01"),
        _flag(header, "no burned-in annotation", "BurnedInAnnotation", "YES"),
    ]


def _own_result(header: Dataset) -> Check:
    """The loop guard: our equipment, also as a contributor, or the mark of an AI in the description.

    The mark counts on derived images only: a scanner's own series may be named "AI recon" (C4).
    """
    makers = [header, *_items(header, "ContributingEquipmentSequence")]
    ours = any(
        text_of(one, "Manufacturer") == MANUFACTURER and text_of(one, "ManufacturerModelName") == MODEL
        for one in makers
    )
    derived = _image_type(header)[:2] == ("DERIVED", "SECONDARY")
    marked = derived and text_of(header, "SeriesDescription").startswith(AI_MARK)
    if ours or marked:
        seen = "made by this node's program" if ours else "described as a result of an AI"
        return Evidence("not a result of an AI", RuleOutcome.NO, seen), RefusalError(OWN_RESULT)
    return Evidence("not a result of an AI", RuleOutcome.YES, "other equipment"), None


def _modality(header: Dataset) -> Check:
    """SOP class first, then Modality: either may say that this is no CT."""
    rule = "is a CT"
    sop_class = text_of(header, "SOPClassUID")
    name = UID(sop_class).name
    modality = text_of(header, "Modality").upper()
    if sop_class not in {CTImageStorage, *ENHANCED_CT}:
        named = next((code for pattern, code in _SOP_CLASS_MODALITY if pattern.search(name)), "")
        refusal = RefusalError(_MODALITY_REASONS[named]) if named else RefusalError(NOT_A_CT, sop_class=name)
        return Evidence(rule, RuleOutcome.NO, name), refusal
    if not modality:
        return Evidence(rule, RuleOutcome.UNKNOWN, "Modality is missing"), None
    if modality != "CT":
        reason = _MODALITY_REASONS.get(modality)
        refusal = RefusalError(reason) if reason else RefusalError(OTHER_MODALITY, modality=modality)
        return Evidence(rule, RuleOutcome.NO, f"Modality is {modality}"), refusal
    return Evidence(rule, RuleOutcome.YES, name), None


def _localizer(header: Dataset) -> Check:
    kinds = _image_type(header)
    if "LOCALIZER" in kinds:
        return Evidence("not a localizer", RuleOutcome.NO, "\\".join(kinds)), RefusalError(LOCALIZER)
    outcome = RuleOutcome.YES if kinds else RuleOutcome.UNKNOWN
    return Evidence("not a localizer", outcome, "\\".join(kinds) or "ImageType is missing"), None


def _derived(header: Dataset, settings: AdmitSettings) -> Check:
    """DERIVED\\PRIMARY is an iterative reconstruction's usual mark and passes; a reformat does not."""
    rule, kinds = "not a derived reformat", _image_type(header)
    derived = kinds[:1] == ("DERIVED",) and ("SECONDARY" in kinds[1:2] or bool(_REFORMATS & set(kinds)))
    if not derived:
        return Evidence(rule, RuleOutcome.YES if kinds else RuleOutcome.UNKNOWN, "\\".join(kinds)), None
    refusal = RefusalError(DERIVED_REFORMAT) if settings.derived == "refuse" else None
    return Evidence(rule, RuleOutcome.NO, "\\".join(kinds)), refusal


def _body_part(header: Dataset) -> Check:
    """Only a part that surely holds no liver refuses: the attribute is often a habit of the protocol."""
    part = text_of(header, "BodyPartExamined").upper()
    if part in _OTHER_BODY_PARTS:
        return Evidence("may hold a liver", RuleOutcome.NO, part), RefusalError(OTHER_BODY_PART, part=part)
    outcome = RuleOutcome.YES if part in _LIVER_PARTS else RuleOutcome.UNKNOWN
    return Evidence("may hold a liver", outcome, part or "BodyPartExamined is missing"), None


def _character_set(header: Dataset) -> Check:
    """PS3.3 C.12.1.1.2. Texts are copied into the results, which must be readable there."""
    rule, terms = "texts can be read", values_of(header, "SpecificCharacterSet")
    if all(is_defined_character_set(term) for term in terms):
        return Evidence(rule, RuleOutcome.YES, "\\".join(terms) or "default character set"), None
    # What it names instead came from outside and is not repeated.
    return Evidence(rule, RuleOutcome.NO, "no character set of DICOM"), RefusalError(UNKNOWN_CHARACTER_SET)


def _flag(header: Dataset, rule: str, attribute: str, bad: str) -> Check:
    value = text_of(header, attribute).upper()
    outcome = RuleOutcome.NO if value == bad else RuleOutcome.YES if value else RuleOutcome.UNKNOWN
    return Evidence(rule, outcome, f"{attribute} is {value or 'missing'}"), None


def _image_type(header: Dataset) -> tuple[str, ...]:
    return tuple(value.upper() for value in values_of(header, "ImageType"))


def _items(header: Dataset, keyword: str) -> list[Dataset]:
    """None where the attribute is missing, no sequence, or cannot be read."""
    try:
        value = header.get(keyword)
        return [item for item in value if isinstance(item, Dataset)] if isinstance(value, Sequence) else []
    except PARSE_ERRORS:
        return []
