"""The house rules that a machine can check: directions of imports, sizes, names, what the text may speak of."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("dicom_node", "dissm_engine", "dissm_phantom", "training", "tests", "bench", "docs", "deploy", "examples")
STAGES = ("receive", "assemble", "admit", "work", "results", "deliver", "watch")
TEXT = {".py", ".md", ".toml", ".txt", ".sh", ".service", ".json", ".lua", ".cxx", ".mako", ""}


def modules() -> list[Path]:
    return sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py") if "__pycache__" not in file.parts)


def imported(file: Path) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_import_contracts_hold() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_of_the_node_imports_no_other_stage_and_nothing_that_composes_stages(stage: str) -> None:
    composing = {"cli", "processes", "demo"}
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / "dicom_node" / stage).rglob("*.py")
        for name in imported(file)
        if name.startswith("dicom_node.") and name.split(".")[1] in (set(STAGES) - {stage}) | composing
    ]
    assert not wrong


def test_the_catalogue_knows_no_stage() -> None:
    wrong = {
        str(file.relative_to(ROOT)): stages_imported(file)
        for file in (ROOT / "dicom_node" / "catalog").rglob("*.py")
        if stages_imported(file)
    }
    assert not wrong


def stages_imported(file: Path) -> set[str]:
    """Rooms of the node that a module imports."""
    names = {name.split(".")[1] for name in imported(file) if name.startswith("dicom_node.")}
    return names & set(STAGES)


PRIVATE_OF_LIBRARIES = {"dul", "acse", "to_user_queue", "get_item", "RawDataElement", "reading_validation_mode"}
"""Names of pydicom and pynetdicom that are public by their spelling only."""


def test_insides_of_pydicom_and_pynetdicom_are_touched_in_one_room_only() -> None:
    found = []
    for file in (ROOT / "dicom_node").rglob("*.py"):
        place = file.relative_to(ROOT)
        if place.parts[1] == "dicom":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"pydicom", "pynetdicom"}:
                found += [f"{place} imports {one.name}" for one in node.names if is_inside(one.name)]
            elif isinstance(node, ast.Attribute) and is_inside(node.attr) and not is_own(node.value):
                found.append(f"{place}:{node.lineno}: {node.attr}")
    assert not found


def is_inside(name: str) -> bool:
    """Whether a name belongs to the insides of a library; names like `__class__` belong to Python."""
    return name in PRIVATE_OF_LIBRARIES or (name.startswith("_") and not name.startswith("__"))


def is_own(value: ast.expr) -> bool:
    """Whether the object is the module's own: itself, its class, a part of itself, or the `os` of `os._exit`."""
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Name) and value.id in {"self", "cls", "os", "settings"}


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in modules()}
    assert not {name: length for name, length in lengths.items() if length >= 400}


def test_no_module_is_named_for_nothing() -> None:
    nameless = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert not [str(file.relative_to(ROOT)) for file in modules() if file.stem in nameless]


@pytest.mark.parametrize("package", ["dicom_node", "dissm_engine", "dissm_phantom", "training"])
def test_no_two_modules_of_a_package_have_one_name(package: str) -> None:
    names = Counter(file.stem for file in modules() if file.relative_to(ROOT).parts[0] == package)
    assert not [name for name, count in names.items() if count > 1 and not name.startswith("__")]


def test_no_two_public_classes_of_a_package_have_one_name() -> None:
    defined: dict[tuple[str, str], list[str]] = {}
    for file in modules():
        place = file.relative_to(ROOT)
        if place.parts[0] in {"dicom_node", "dissm_engine", "dissm_phantom", "training"}:
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    defined.setdefault((place.parts[0], node.name), []).append(str(place))
    assert len(defined) > 200
    assert not {name: places for name, places in defined.items() if len(places) > 1}


METAPHORS = re.compile(r"(?:^|_)(?:door|keeper|story|stories|breadth|assembly|hard_cap)(?:_|$)")
"""Words for which the project has a usual one, as parts of a name (docs/decisions/0034-plain-names.md)."""
LIMITS = re.compile(r"^_?(?:maximum|minimum|largest|longest|smallest|shortest|most|least)_|_(?:most|least)$", re.I)
"""What limits something begins with `max_` or `min_`."""
STORED_NAMES = {
    *("vertex_to_seg_most_mm", "seg_to_surface_most_mm", "wrong_side_most_mm", "most_mb", "most", "least"),
    *("maximum_associations", "maximum_pdu_size", "maximum_length_received"),
}
"""Facts that audit rows of released versions hold, and names that pynetdicom gives."""


def test_names_are_those_that_a_newcomer_searches_for() -> None:
    wrong = []
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for name in names_bound_by(node) - STORED_NAMES:
                if METAPHORS.search(name) or (LIMITS.search(name) and not isinstance(node, ast.FunctionDef)):
                    wrong.append(f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name}")
    assert not wrong


def names_bound_by(node: ast.AST) -> set[str]:
    """The names that a statement gives: of a function, a class, an argument, a variable or an attribute."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.arg):
        return {node.arg}
    if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        return {node.id if isinstance(node, ast.Name) else node.attr}
    return set()


def test_package_data_names_files_that_exist() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    patterns = [f"{package}/{pattern}" for package, entries in data.items() for pattern in entries]
    assert patterns
    assert not [pattern for pattern in patterns if not list(ROOT.glob(pattern))]


def test_the_container_is_given_every_package() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    packages = {name.rstrip("*") for name in tools["setuptools"]["packages"]["find"]["include"]}
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert set(copied) == packages


def test_exceptions_are_not_swallowed_by_bare_or_silent_handlers() -> None:
    silent = []
    for file in modules():
        if "tests" in file.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None or (len(node.body) == 1 and isinstance(node.body[0], ast.Pass))
            ):
                silent.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not silent


def test_no_text_of_the_project_names_a_path_of_one_machine() -> None:
    place = re.compile("|".join("/" + name + r"/\w" for name in ("work", "root", "home", "Users")))
    scratch = re.compile("/" + r"tmp/\w")
    found = []
    for file in project_files():
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if place.search(line) or scratch.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found


def project_files() -> list[Path]:
    """Text files that belong to the project: what git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("git: this is not a checkout")
    files = (ROOT / name for name in listed.stdout.splitlines())
    return [file for file in files if file.suffix in TEXT and file.is_file() and file.name != "LICENSE"]


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for group in project["optional-dependencies"].values() for name in group}
    wanted = {re.split("[<>=]", one)[0] for one in (*project["dependencies"], *extras - {"dissm-node[train,docs]"})}
    pinned = set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
    assert wanted <= pinned, sorted(wanted - pinned)
