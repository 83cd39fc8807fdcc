"""The site's rules know three values, never raise, and end in time (C4)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.admit.site_rules import admits, evaluate
from dicom_node.rule_settings import Rule
from dicom_node.values.evidence import RuleOutcome


def header() -> Dataset:
    made = Dataset()
    made.Modality = "CT"
    made.SeriesDescription = "ABDOMEN VENOUS 2.0"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.KVP = "120"
    made.PatientName = "Secret^Name"
    made.Manufacturer = ""
    return made


def outcome(attribute: str, operator: Any, value: Any = None, **more: Any) -> str:
    # Not checked as settings are: what cannot be used shall do no harm here either.
    rule = Rule.model_construct(name="r", attribute=attribute, operator=operator, value=value, **more)
    return evaluate(rule, header()).outcome.value


@pytest.mark.parametrize(
    ("attribute", "operator", "value", "expected"),
    [
        ("Modality", "equals", "CT", "yes"),
        ("Modality", "equals", "MR", "no"),
        ("ImageType", "equals", "AXIAL", "yes"),
        ("ImageType", "equals", "ORIGINAL\\PRIMARY\\AXIAL", "yes"),
        ("Modality", "one_of", ("CT", "MR"), "yes"),
        ("Modality", "one_of", ("MR",), "no"),
        ("SeriesDescription", "regex", "ven(ous)?", "yes"),
        ("SeriesDescription", "regex", "^venous", "no"),
        ("SeriesDescription", "regex", "(", "unknown"),
        ("KVP", "range", (80.0, 140.0), "yes"),
        ("KVP", "range", (130.0, 140.0), "no"),
        ("KVP", "equals", 120.0, "yes"),
        ("KVP", "equals", 100.0, "no"),
        ("Modality", "equals", 120.0, "no"),
        ("KVP", "one_of", (80.0, 100.0, 120.0), "yes"),
        ("KVP", "one_of", (80.0, 100.0), "no"),
        ("SeriesDescription", "range", (1.0, 2.0), "unknown"),
        ("Modality", "exists", None, "yes"),
        ("ProtocolName", "exists", None, "no"),
        ("ProtocolName", "equals", "x", "unknown"),
        ("Manufacturer", "equals", "x", "unknown"),
        ("NoSuchAttribute", "equals", "x", "unknown"),
    ],
)
def test_a_rule_says_yes_no_or_unknown(attribute: str, operator: str, value: Any, expected: str) -> None:
    assert outcome(attribute, operator, value) == expected


def test_negation_leaves_unknown_unknown() -> None:
    assert outcome("Modality", "equals", "CT", negate=True) == "no"
    assert outcome("ProtocolName", "equals", "x", negate=True) == "unknown"


def test_what_unknown_does_is_set_per_rule() -> None:
    admit = Rule(name="r", attribute="Modality", operator="exists")
    assert admits(admit, RuleOutcome.UNKNOWN)
    assert not admits(admit.model_copy(update={"unknown": "refuse"}), RuleOutcome.UNKNOWN)
    assert not admits(admit, RuleOutcome.NO)


def test_a_pattern_that_never_ends_is_stopped_and_unknown() -> None:
    line, seconds = searched("(a|aa)+$", "a" * 60 + "!")
    assert line is RuleOutcome.UNKNOWN
    assert seconds < 30


def test_the_limit_is_one_for_all_values_of_an_attribute() -> None:
    line, seconds = searched("(a|aa)+$", *["a" * 60 + "!"] * 20)
    assert line is RuleOutcome.UNKNOWN
    assert seconds < 10


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(x+x+)+y"])
def test_a_pattern_that_is_notorious_is_answered_or_unknown_in_time(pattern: str) -> None:
    line, seconds = searched(pattern, "a" * 40 + "!", "x" * 40)
    assert line in {RuleOutcome.NO, RuleOutcome.UNKNOWN}
    assert seconds < 10


def searched(pattern: str, *values: str) -> tuple[RuleOutcome, float]:
    """What a rule with this pattern says of these values, and how long it took."""
    made = header()
    made.ImageType = list(values)
    rule = Rule(name="r", attribute="ImageType", operator="regex", value=pattern)
    began = time.monotonic()
    outcome = evaluate(rule, made).outcome
    return outcome, time.monotonic() - began


def test_patient_attributes_never_reach_the_evidence() -> None:
    for attribute in ("PatientName", "00100010"):
        line = evaluate(Rule(name="r", attribute=attribute, operator="regex", value="Secret"), header())
        assert line.outcome is RuleOutcome.YES
        assert "Secret" not in line.seen
