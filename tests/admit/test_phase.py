"""The phase gate: words, tissues, and both together (C4)."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.admit.phase_gate import combine, gate_phase, phase_from_tissues
from dicom_node.admit.phase_text import phase_from_text
from dicom_node.reasons import RefusalError
from dicom_node.settings import AdmitSettings
from dicom_node.values.phase import Phase, PhaseVerdict


def header(**attributes: str) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    ("description", "phase"),
    [
        ("ABDOMEN VENOUS 2.0", "venous"),
        ("Abd. portal-venös 3.0 B30f", "venous"),
        ("THX ABD PV", "venous"),
        ("Foie temps portal", "venous"),
        ("fase portale", "venous"),
        ("Fase venosa", "venous"),
        ("Abdo veineux", "venous"),
        ("Leber arteriell 1.0", "arterial"),
        ("LATE ARTERIAL", "arterial"),
        ("foie artériel", "arterial"),
        ("Abdomen ART 3.0", "arterial"),
        ("Abdomen nativ", "unenhanced"),
        ("W/O CONTRAST", "unenhanced"),
        ("sans injection", "unenhanced"),
        ("Abd non-contrast", "unenhanced"),
        ("sin contraste", "unenhanced"),
        ("senza mdc", "unenhanced"),
        ("DELAYED 5 MIN", "other"),
        ("temps tardif", "other"),
        ("Spätphase", "other"),
        ("ABDOMEN 5.0 B30f", "unknown"),
        ("", "unknown"),
        ("Recon 2: LIVER 3 PHASE (AP)", "unknown"),
        ("ABD W&W/O CONTRAST", "unknown"),
        ("ART/PORTAL", "unknown"),
        ("PORTABLE ABDOMEN", "unknown"),
        ("Adventure", "unknown"),
        # German
        ("Leber spätarteriell 2.0", "arterial"),
        ("spaetarteriell", "arterial"),
        ("Abdomen spät-arteriell", "arterial"),
        ("Leber verzögert", "other"),
        ("Abdomen mit und ohne KM", "unknown"),
        # French, Spanish, Portuguese, Italian
        ("Abdomen non injecté", "unenhanced"),
        ("temps artériel tardif", "arterial"),
        ("Fase arterial tardía", "arterial"),
        ("fase basal", "unenhanced"),
        ("Fase de equilibrio", "other"),
        ("ABDOMEN CON Y SIN CONTRASTE", "unknown"),
        ("Abdómen fase venosa", "venous"),
        ("fase tardia 5mm", "other"),
        ("fase sem contraste", "unenhanced"),
        ("fase portale 2.5", "venous"),
        ("fase diretta", "unenhanced"),
        ("fase arteriosa tardiva", "arterial"),
        ("fase escretoria", "other"),
        # Russian
        ("Венозная фаза 1.5", "venous"),
        ("ПОРТАЛЬНАЯ", "venous"),
        ("Артериальный", "arterial"),
        ("Поздняя артериальная фаза", "arterial"),
        ("нативный", "unenhanced"),
        ("ОБП без контраста", "unenhanced"),
        ("отсроченная фаза", "other"),
        ("Многофазное исследование", "unknown"),
        ("с и без контраста", "unknown"),
        # Chinese
        ("腹部增强 门静脉期 1.25mm", "venous"),
        ("腹部CT靜脈期", "venous"),
        ("肝脏动脉期", "arterial"),
        ("动脉晚期", "arterial"),
        ("上腹部平扫", "unenhanced"),
        ("延迟期3min", "other"),
        ("三期增强", "unknown"),
        ("腹主动脉", "unknown"),
        ("静脉注射", "unknown"),
        # Japanese
        ("肝臓 門脈相", "venous"),
        ("動脈優位相", "arterial"),
        ("動脈後期相", "arterial"),
        ("単純", "unenhanced"),
        ("平衡相", "other"),
        ("造影後", "unknown"),
        # Korean
        ("복부 문맥기", "venous"),
        ("동맥기 1.0", "arterial"),
        ("조영전", "unenhanced"),
        ("지연기", "other"),
        # Signs and delays
        ("ABD C- 5.0", "unenhanced"),
        ("Abdomen (C-)", "unenhanced"),
        ("Ａｂｄ Ｃ－", "unenhanced"),
        ("ABD C−", "unenhanced"),
        ("C-SPINE", "unknown"),
        ("C- SPINE 2.0", "unknown"),
        ("C-arm", "unknown"),
        ("ABD C+ 5.0", "unknown"),
        ("ABD C+ venous", "venous"),
        ("C-/C+", "unknown"),
        ("ABD non-con", "unenhanced"),
        ("ABD NONCON", "unenhanced"),
        ("Liver 70 sec", "venous"),
        ("Liver 70sec", "venous"),
        ("LIVER 70s B30f", "venous"),
        ("腹部 70秒", "venous"),
        ("Abd 35 sec", "arterial"),
        ("Leber 5 min", "other"),
        ("Liver 35 sec 70 sec", "unknown"),
        ("delayed 90 sec", "other"),
        ("Liver 170 secure", "unknown"),
        ("0.70 sec rotation", "unknown"),
    ],
)
def test_the_description_is_understood_in_several_languages(description: str, phase: str) -> None:
    assert phase_from_text(header(SeriesDescription=description)).phase == phase


def test_protocol_and_bolus_timing_speak_when_the_description_is_silent() -> None:
    assert phase_from_text(header(SeriesDescription="ABD 2.0", ProtocolName="Abdomen venous")).phase == "venous"
    timed = header(ContrastBolusStartTime="101500", AcquisitionTime="101610.5")
    assert phase_from_text(timed).phase == "venous"
    timed.AcquisitionTime = "101530"
    assert phase_from_text(timed).phase == "arterial"
    timed.AcquisitionTime = "nonsense"
    assert phase_from_text(timed).phase == "unknown"


def test_the_evidence_holds_the_word_and_not_the_whole_description() -> None:
    assert phase_from_text(header(SeriesDescription="venous MILLER JOHN")).evidence == "SeriesDescription says venous"


@pytest.mark.parametrize(
    ("tissues", "phase"),
    [
        # Measured in the real series, see admit/phase.py.
        ({"liver": 105, "spleen": 154, "aorta": 219, "kidney": 210}, "venous"),
        ({"liver": 100, "aorta": 228}, "venous"),
        ({"liver": 90, "spleen": 127, "aorta": 142, "kidney": 150}, "venous"),
        ({"liver": 64, "spleen": 99, "aorta": 338, "kidney": 228}, "arterial"),
        ({"liver": 64, "aorta": 338}, "arterial"),
        ({"liver": 46, "spleen": 35, "aorta": 40, "kidney": 15}, "unenhanced"),
        ({"liver": 46, "kidney": 15}, "unenhanced"),
        ({"liver": 40, "spleen": 120, "aorta": 150}, "venous"),
        ({"liver": 40, "aorta": 150}, "unknown"),
        ({"liver": 100}, "unknown"),
        ({"liver": 90, "aorta": 95}, "unknown"),
        ({"liver": 60, "aorta": 70, "kidney": 160}, "other"),
        ({}, "unknown"),
    ],
)
def test_tissues_show_the_phase(tissues: dict[str, float], phase: str) -> None:
    assert phase_from_tissues(tissues).phase == phase


@pytest.mark.parametrize(
    ("text", "image", "together"),
    [
        ("venous", "venous", "venous"),
        ("venous", "unknown", "venous"),
        ("unknown", "venous", "venous"),
        ("unknown", "arterial", "arterial"),
        ("venous", "arterial", "unknown"),
        ("arterial", "venous", "unknown"),
        ("arterial", "unenhanced", "other"),
        ("unknown", "unknown", "unknown"),
        ("arterial", "unknown", "arterial"),
    ],
)
def test_text_and_image_together_never_turn_a_disagreement_into_venous(text: str, image: str, together: str) -> None:
    assert combine(PhaseVerdict(Phase(text), "t"), PhaseVerdict(Phase(image), "i")).phase == together


ARTERIAL = {"liver": 64.0, "spleen": 99.0, "aorta": 338.0}
SILENT = [header(SeriesDescription="LIVER 3 PHASE")] * 3


def test_an_arterial_stack_is_refused_with_its_numbers_and_passes_where_any_phase_is_wanted() -> None:
    with pytest.raises(RefusalError, match="aorta 338 HU") as refused:
        gate_phase(SILENT, ARTERIAL, AdmitSettings())
    assert refused.value.facts["phase"] == "arterial"
    verdict = gate_phase(SILENT, ARTERIAL, AdmitSettings(phase="any"))
    assert (verdict.phase, verdict.needs_review) == ("arterial", True)


def test_the_site_decides_what_an_unknown_phase_does() -> None:
    verdict = gate_phase(SILENT, {}, AdmitSettings())
    assert (verdict.phase, verdict.needs_review) == ("unknown", True)
    with pytest.raises(RefusalError):
        gate_phase(SILENT, {}, AdmitSettings(phase_unknown="refuse"))
