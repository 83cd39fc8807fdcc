"""The report read back from the disk: its numbers measured again from the SEG on the disk, its words compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset, dcmread

from dicom_node.results.proof_request import UNREADABLE, ProofRequest, ProvenMask, read_object, require
from dicom_node.values.facts import Facts
from dicom_node.values.phase import Phase
from dicom_node.values.results import ObjectKind

_KIND = ObjectKind.SR
_HALF_A_DIGIT = 0.051
"""The report's numbers have one decimal."""
_REFERENCED_SEGMENT, _VERDICT, _PHASE = "121191", "111050", "109058"
_VOLUME, _AREA, _WIDTH, _DEPTH, _HEIGHT, _HU = "118565006", "C0JK", "103355008", "131197000", "121207", "112031"
_MEAN, _MEDIAN, _DERIVATION = "373098007", "373099004", "121401"
_SITE, _LIVER, _SPLEEN = "363698007", "10200004", "78961009"
_PHASE_CODES = {
    Phase.VENOUS: "RID11085",
    Phase.ARTERIAL: "RID11080",
    Phase.UNENHANCED: "RID11086",
    Phase.OTHER: "74964007",
    Phase.UNKNOWN: "261665006",
}


def prove_sr(request: ProofRequest, proven: ProvenMask) -> Facts:
    """Every number is what SEG and CT say, every reference names an object on the disk, every sentence is there.

    Returns:
        How many numbers were measured again, and the largest difference as a share of its number.
    """
    report = read_object(_KIND, request.files[_KIND][0], request.stack)
    try:
        items = list(_items(report))
        _prove_references(report, items, request, proven)
        _prove_words(items, request)
        return _prove_numbers(items, request, proven)
    except UNREADABLE as problem:
        require(False, _KIND, f"it cannot be read ({type(problem).__name__})")
        raise AssertionError from problem


def _items(parent: Dataset) -> Iterator[Dataset]:
    """Every content item of the tree."""
    for item in parent.get("ContentSequence") or []:
        yield item
        yield from _items(item)


def _name(item: Dataset) -> str:
    concept = item.get("ConceptNameCodeSequence")
    return str(concept[0].CodeValue) if concept else ""


def _code(items: list[Dataset], name: str) -> str:
    found = [
        item.ConceptCodeSequence[0].CodeValue for item in items if item.ValueType == "CODE" and _name(item) == name
    ]
    require(len(found) == 1, _KIND, f"it holds {len(found)} codes of {name}")
    return str(found[0])


def _prove_references(report: Dataset, items: list[Dataset], request: ProofRequest, proven: ProvenMask) -> None:
    """The one segment that is named is the SEG's; the evidence holds the CT and what was written beside it."""
    named = [
        item.ReferencedSOPSequence[0]
        for item in items
        if item.ValueType == "IMAGE" and _name(item) == _REFERENCED_SEGMENT
    ]
    uids = [str(reference.ReferencedSOPInstanceUID) for reference in named]
    require(uids == [str(proven.seg.SOPInstanceUID)], _KIND, "it does not name the SEG that lies beside it")
    require(named[0].ReferencedSegmentNumber == 1, _KIND, "it names another segment than the first")
    evidence = {
        str(instance.ReferencedSOPInstanceUID)
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in report.get(keyword) or []
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    expected = {str(header.SOPInstanceUID) for header in request.stack.headers}
    for kind in (ObjectKind.SEG, ObjectKind.SURFACE):
        expected |= {
            str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in request.files.get(kind, ())
        }
    require(evidence == expected, _KIND, "its evidence is not the CT and the objects beside it")


def _prove_words(items: list[Dataset], request: ProofRequest) -> None:
    """Verdict, phase, every reason, and that it is not for diagnosis."""
    require(_code(items, _VERDICT) == request.mark.value, _KIND, "it shows another verdict")
    require(_code(items, _PHASE) == _PHASE_CODES[request.phase], _KIND, "it shows another phase")
    texts = {str(item.TextValue) for item in items if item.ValueType == "TEXT"}
    reasons = {reason.encode("ascii", "replace").decode() for reason in request.reasons}
    missing = ({"AI result, not for primary diagnosis"} | reasons) - texts
    require(not missing, _KIND, f"{len(missing)} of its sentences are missing")


def _prove_numbers(items: list[Dataset], request: ProofRequest, proven: ProvenMask) -> Facts:
    grid = request.stack.volume.grid
    kji = proven.voxels
    lps = kji[:, ::-1] @ grid.lps_from_voxel[:3, :3].T
    faces = np.abs(grid.lps_from_voxel[:3, :3]).max(axis=1)
    x, y, z = lps.max(axis=0) - lps.min(axis=0) + faces
    mean_hu = float(request.stack.volume.hu[tuple(kji.T)].astype(np.float64).mean())
    expected = {
        (_VOLUME, "mL", ""): len(kji) * abs(np.linalg.det(grid.lps_from_voxel[:3, :3])) / 1000.0,
        (_AREA, "cm2", ""): _area_cm2(request),
        (_WIDTH, "mm", ""): x,
        (_DEPTH, "mm", ""): y,
        (_HEIGHT, "mm", ""): z,
        (_HU, "[hnsf'U]", _MEAN + _LIVER): mean_hu,
    }
    spleen = request.delineation.tissue_hu.get("spleen")
    if spleen is not None and np.isfinite(spleen):
        expected[_HU, "[hnsf'U]", _MEDIAN + _SPLEEN] = float(spleen)
    stated = {
        _key(item): float(item.MeasuredValueSequence[0].NumericValue) for item in items if item.ValueType == "NUM"
    }
    require(set(stated) == set(expected), _KIND, "its numbers have other names or units than they should")
    largest = 0.0
    for key, value in expected.items():
        difference = abs(stated[key] - float(value))
        require(difference <= _HALF_A_DIGIT, _KIND, f"{key[0]} differs by {difference:.2f} {key[1]} from the SEG's")
        largest = max(largest, difference / max(abs(float(value)), 1.0))
    return {"numbers": len(expected), "max_relative_difference": largest}


def _key(item: Dataset) -> tuple[str, str, str]:
    """Concept and unit of a number, then derivation and site where it has them."""
    unit = item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
    modifiers = {
        _name(child): str(child.ConceptCodeSequence[0].CodeValue) for child in item.get("ContentSequence") or []
    }
    return _name(item), str(unit), modifiers.get(_DERIVATION, "") + modifiers.get(_SITE, "")


def _area_cm2(request: ProofRequest) -> float:
    """Of the engine's triangles, one by one."""
    mesh = request.delineation.mesh
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 / 100.0)
