"""Is this stack eligible? Built-in checks, the site's rules, and what the text says of the phase (C4)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.admit.built_in_rules import check_built_in_rules
from dicom_node.admit.phase_text import phase_from_text
from dicom_node.admit.site_rules import admits, evaluate
from dicom_node.reasons import RULE_FAILED, RefusalError
from dicom_node.settings import AdmitSettings
from dicom_node.values.evidence import Evidence, RuleOutcome
from dicom_node.values.phase import Phase


@dataclass(frozen=True)
class Eligibility:
    """What was found about one stack. kind_refusal: it is not the kind of object we take, however it lies.

    rule_refusal: a rule of the site speaks against it. evidence: every line, in the order of the checks.
    """

    kind_refusal: RefusalError | None
    rule_refusal: RefusalError | None
    evidence: tuple[Evidence, ...]


def check_eligibility(header: Dataset, settings: AdmitSettings) -> Eligibility:
    """Whether a stack may be processed, by the header of its middle image. The first refusal of each sort counts."""
    checks = check_built_in_rules(header, settings)
    kind = next((refusal for _, refusal in checks if refusal is not None), None)
    lines = [evidence for evidence, _ in checks]
    rule_refusal: RefusalError | None = None
    for rule in settings.rules:
        line = evaluate(rule, header)
        lines.append(line)
        if not admits(rule, line.outcome) and rule_refusal is None:
            rule_refusal = RefusalError(RULE_FAILED, rule=rule.name, outcome=line.outcome.value, seen=line.seen)
    lines.append(_phase_line(header))
    return Eligibility(kind, rule_refusal, tuple(lines))


def _phase_line(header: Dataset) -> Evidence:
    """The text alone refuses nothing: the image has its say after the delineation."""
    verdict = phase_from_text(header)
    outcomes = {Phase.VENOUS: RuleOutcome.YES, Phase.UNKNOWN: RuleOutcome.UNKNOWN}
    return Evidence("venous phase by text", outcomes.get(verdict.phase, RuleOutcome.NO), verdict.evidence)
