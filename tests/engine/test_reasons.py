"""Reasons: one registry of all, and every place that gives one fills its sentence exactly."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from dicom_node.reasons import ALL_REASONS
from dissm_engine.errors import Reason, all_reasons

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("dissm_engine", "dissm_phantom", "dicom_node", "training")
TREES = {
    file.relative_to(ROOT): ast.parse(file.read_text(encoding="utf-8"))
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            yield file, node


def declarations() -> list[tuple[Path, str, ast.Call]]:
    """File, constant and call of every `NAME = Reason(...)`."""
    found = []
    for file, node in nodes():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and name_of(node.value.func) == "Reason":
            (target,) = node.targets
            found.append((file, name_of(target), node.value))
    return found


def error_classes() -> set[str]:
    """Names of DissmError and of everything derived from it."""
    bases = {node.name: {name_of(base) for base in node.bases} for _, node in nodes() if isinstance(node, ast.ClassDef)}
    known = {"DissmError"}
    while more := {name for name, parents in bases.items() if parents & known} - known:
        known |= more
    return known


def name_of(node: ast.AST) -> str:
    """The last part of a dotted name; empty where there is none."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


PLACEHOLDERS = {
    name: {field for _, field, _, _ in Formatter().parse(str(ast.literal_eval(call.args[1]))) if field is not None}
    for _, name, call in declarations()
}
ERRORS = error_classes()


def given(call: ast.Call) -> tuple[set[str], bool]:
    """The keywords of a call, and whether it unpacks more of them than can be read here."""
    return {word.arg for word in call.keywords if word.arg}, any(word.arg is None for word in call.keywords)


def test_every_code_and_every_constant_is_declared_once() -> None:
    codes = [ast.literal_eval(call.args[0]) for _, _, call in declarations()]
    constants = [name for _, name, _ in declarations()]
    assert len(codes) > 90
    assert sorted(codes) == sorted(set(codes))
    assert sorted(constants) == sorted(set(constants))


def test_every_error_that_is_made_of_a_reason_fills_its_sentence_exactly() -> None:
    wrong, checked = [], 0
    for file, node in nodes():
        if not isinstance(node, ast.Call):
            continue
        names = [name_of(argument) for argument in node.args if name_of(argument) in PLACEHOLDERS]
        if name_of(node.func) == "say" and isinstance(node.func, ast.Attribute):
            names = [name for name in [name_of(node.func.value)] if name in PLACEHOLDERS]
        elif name_of(node.func) not in ERRORS:
            continue
        for name in names:
            facts, unpacks = given(node)
            checked += 1
            if not (facts <= PLACEHOLDERS[name] if unpacks else facts == PLACEHOLDERS[name]):
                wrong.append(f"{file}:{node.lineno}: {name} says {sorted(PLACEHOLDERS[name])}, got {sorted(facts)}")
    assert not wrong
    assert checked > 100


def test_every_reason_that_is_recorded_without_an_error_has_the_facts_of_its_sentence() -> None:
    wrong, checked = [], 0
    for file, tree in TREES.items():
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                reason = recorded_reason(call)
                if isinstance(call, ast.Call) and reason in PLACEHOLDERS:
                    checked += 1
                    facts = keys_of(call.args[1] if len(call.args) > 1 else ast.Dict([], []), function)
                    if facts is None or not facts >= PLACEHOLDERS[reason]:
                        wrong.append(f"{file}:{call.lineno}: {reason} says {sorted(PLACEHOLDERS[reason])}, got {facts}")
    assert not wrong
    assert checked > 6


def recorded_reason(node: ast.AST) -> str:
    """The constant in `RecordedReason(CONSTANT.code, ...)`; empty for anything else, such as a code from a row."""
    if isinstance(node, ast.Call) and name_of(node.func) == "RecordedReason" and node.args:
        code = node.args[0]
        return name_of(code.value) if isinstance(code, ast.Attribute) and code.attr == "code" else ""
    return ""


def keys_of(facts: ast.expr, function: ast.FunctionDef) -> set[str] | None:
    """The keys of a dictionary that is written there or assigned once in the function; None where neither holds."""
    if isinstance(facts, ast.Name):
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            and node.value is not None
            and facts.id in {name_of(one) for one in (node.targets if isinstance(node, ast.Assign) else [node.target])}
        ]
        facts = values[0] if len(values) == 1 else facts
    if not isinstance(facts, ast.Dict):
        return None
    return {key.value for key in facts.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def test_a_code_belongs_to_one_reason_only() -> None:
    known = all_reasons()["NO_SURFACE"]
    with pytest.raises(ValueError, match="NO_SURFACE is already taken"):
        Reason("NO_SURFACE", "another sentence", "another cure")
    assert all_reasons()["NO_SURFACE"] is known


def test_the_node_knows_the_cure_of_every_reason_of_the_engine() -> None:
    engine = {ast.literal_eval(call.args[0]) for file, _, call in declarations() if file.parts[0] == "dissm_engine"}
    assert {"NO_SURFACE", "MESH_NOT_CLOSED", "BUNDLE_BROKEN", "SHAPE_MODEL_BROKEN", "CANCELLED"} <= engine
    assert engine <= ALL_REASONS.keys()


def test_the_engines_reasons_are_complete_without_loading_torch() -> None:
    engine = sorted(
        ast.literal_eval(call.args[0]) for file, _, call in declarations() if file.parts[0] == "dissm_engine"
    )
    program = (
        "import sys, dissm_engine.errors as errors; print(*sorted(errors.all_reasons())); "
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == engine
