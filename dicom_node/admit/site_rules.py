"""The site's own rules from settings.toml, evaluated over a stack's header in three-valued logic (C4)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import regex
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from dicom_node.admit.header_values import tag_of, values_of
from dicom_node.rule_settings import Rule
from dicom_node.values.evidence import Evidence, RuleOutcome

REGEX_SECONDS = 1.0
"""How long one rule may search: a pattern may take for ever on a hostile value; `re` cannot be stopped, `regex` can."""
_PATIENT_GROUP = 0x0010


def evaluate(rule: Rule, header: Dataset) -> Evidence:
    """What the rule says of a header. `seen` names no value of the patient group (0010,xxxx)."""
    values = values_of(header, rule.attribute)
    if rule.operator == "exists":
        outcome, seen = (RuleOutcome.YES if values else RuleOutcome.NO), "present" if values else "missing"
    elif not values:
        outcome, seen = RuleOutcome.UNKNOWN, f"{rule.attribute} is missing"
    else:
        outcome = _OPERATORS[rule.operator](rule, values)
        seen = "a patient attribute" if _is_patient_data(rule.attribute) else "\\".join(values)
    return Evidence(f"rule {rule.name}", outcome.negated() if rule.negate else outcome, seen)


def admits(rule: Rule, outcome: RuleOutcome) -> bool:
    """Whether a stack with this outcome may go on."""
    return outcome is RuleOutcome.YES or (outcome is RuleOutcome.UNKNOWN and rule.unknown == "admit")


def _equals(rule: Rule, values: tuple[str, ...]) -> RuleOutcome:
    return _known(any(_is_same(rule.value, value) for value in (*values, "\\".join(values))))


def _one_of(rule: Rule, values: tuple[str, ...]) -> RuleOutcome:
    wanted = rule.value if isinstance(rule.value, tuple) else (rule.value,)
    return _known(any(_is_same(one, value) for one in wanted for value in (*values, "\\".join(values))))


def _is_same(wanted: object, value: str) -> bool:
    """The same text; or the same number, where the settings give a number: 120 is also "120.0"."""
    if str(wanted) == value:
        return True
    if not isinstance(wanted, int | float) or isinstance(wanted, bool):
        return False
    try:
        return float(value) == wanted
    except ValueError:
        return False


def _in_range(rule: Rule, values: tuple[str, ...]) -> RuleOutcome:
    """Every value must lie within; a value that is no number makes the outcome unknown."""
    try:
        low, high = (float(one) for one in rule.value) if isinstance(rule.value, tuple) else (math.nan, math.nan)
        numbers = [float(value) for value in values]
    except ValueError:
        return RuleOutcome.UNKNOWN
    if any(math.isnan(one) for one in (low, high, *numbers)):
        return RuleOutcome.UNKNOWN
    return _known(all(low <= number <= high for number in numbers))


def _matches(rule: Rule, values: tuple[str, ...]) -> RuleOutcome:
    """Case-insensitive search; unknown when the pattern is broken or takes longer than REGEX_SECONDS."""
    deadline = time.monotonic() + REGEX_SECONDS
    try:
        pattern = regex.compile(str(rule.value), regex.IGNORECASE)
        for value in values:
            if pattern.search(value, timeout=max(deadline - time.monotonic(), 0.001)):
                return RuleOutcome.YES
    except (regex.error, TimeoutError):
        return RuleOutcome.UNKNOWN
    return RuleOutcome.NO


_OPERATORS: Mapping[str, Callable[[Rule, tuple[str, ...]], RuleOutcome]] = {
    "equals": _equals,
    "one_of": _one_of,
    "range": _in_range,
    "regex": _matches,
}


def _known(value: bool) -> RuleOutcome:
    return RuleOutcome.YES if value else RuleOutcome.NO


def _is_patient_data(attribute: str) -> bool:
    tag = tag_of(attribute)
    return tag is not None and (tag.group == _PATIENT_GROUP or "Name" in keyword_for_tag(tag))
