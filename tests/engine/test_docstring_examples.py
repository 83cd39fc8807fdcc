"""The examples in the docstrings of engine and phantoms give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import dissm_engine
import dissm_phantom

MODULES = sorted(
    name
    for package in (dissm_engine, dissm_phantom)
    for name in [
        package.__name__,
        *(found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    ]
)
WITH_EXAMPLES = {
    name
    for name in MODULES
    if any(test.examples for test in doctest.DocTestFinder().find(importlib.import_module(name)))
}


@pytest.mark.parametrize("name", sorted(WITH_EXAMPLES))
def test_the_examples_of_a_module_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS, raise_on_error=False)
    assert result.failed == 0


def test_the_public_api_has_examples() -> None:
    assert {"dissm_engine", "dissm_engine.bundle", "dissm_engine.progress", "dissm_engine.volume"} <= WITH_EXAMPLES


def test_every_public_name_is_there_and_documented() -> None:
    for name in dissm_engine.__all__:
        value = getattr(dissm_engine, name)
        # An alias of a type has no docstring of its own.
        assert value is dissm_engine.Progress or value.__doc__, name
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = dissm_engine.Nonsense  # type: ignore[attr-defined]
