"""The phantoms that bundles are judged on: the frozen test set, or a run's own livers kept out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np

from dissm_engine.json_value import JsonObject
from dissm_engine.mesh import TriangleMesh
from dissm_phantom import Phantom, Phase, ScanProtocol, build_anatomy, scan
from dissm_phantom.variety import Trait, Variety
from training.evaluate.phantom_table import EDITION, PhantomRecipe, PhantomSet
from training.phantom.scanned_phantoms import make_test_phantom

FIRST_EDITIONS_FILE = "frozen_phantoms.json"
FOURTH_EDITION_FILE = "frozen_phantoms_fourth_edition.json"


@dataclass(frozen=True, slots=True)
class EvaluationPhantom:
    """From what a phantom for the evaluation is made.

    Attributes:
        liver: Name of the surface.
        seed: Of body and scan.
        edition: Of the bundle before which the phantom was frozen; 0 for one that is not frozen.
        sha256: `content_hash` of the frozen scan; None for one that is not frozen.
        set: A or B; None before the fourth edition, whose phantoms belong to neither.
        category: What is odd about it, see `phantom_table`; empty before the fourth edition.
        traits: What body and scan have beyond the ordinary, all of it.
        open: Whether it may be looked at before an edition is finished.
        own_name: Name of one of the fourth edition, such as "B07".
    """

    liver: str
    seed: int
    edition: int
    sha256: str | None = None
    set: PhantomSet | None = None
    category: str = ""
    traits: tuple[Trait, ...] = ()
    open: bool = True
    own_name: str = ""

    @property
    def name(self) -> str:
        """What tables and files call it."""
        return self.own_name or f"{self.liver}_{self.seed}"

    @staticmethod
    def of_recipe(recipe: PhantomRecipe, sha256: str | None = None) -> EvaluationPhantom:
        """The phantom of the fourth edition that a recipe describes."""
        return EvaluationPhantom(
            liver=recipe.liver,
            seed=recipe.seed,
            edition=EDITION,
            sha256=sha256,
            set=recipe.set,
            category=recipe.category,
            traits=recipe.traits,
            open=recipe.open,
            own_name=recipe.name,
        )

    def to_json(self) -> JsonObject:
        """An entry of a file of frozen phantoms, and of `evaluation.json`."""
        return {
            "name": self.name,
            "set": self.set and str(self.set),
            "category": self.category,
            "liver": self.liver,
            "seed": self.seed,
            "edition": self.edition,
            "traits": [str(trait) for trait in self.traits],
            "open": self.open,
            "sha256": self.sha256,
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> EvaluationPhantom:
        """The inverse of `to_json`; the first three editions' entries have liver, seed, edition and hash only.

        Raises KeyError or ValueError if the content is something else.
        """
        of_set = content.get("set")
        return EvaluationPhantom(
            liver=str(content["liver"]),
            seed=int(content["seed"]),
            edition=int(content["edition"]),
            sha256=content.get("sha256"),
            set=PhantomSet(of_set) if of_set else None,
            category=str(content.get("category", "")),
            traits=tuple(Trait(trait) for trait in content.get("traits", ())),
            open=bool(content.get("open", True)),
            own_name=str(content["name"]) if of_set else "",
        )


def frozen_phantoms(final: bool = False) -> list[EvaluationPhantom]:
    """The frozen test set, in its fixed order.

    final: whether those that are not open are among them. They are judged once, when an edition is finished.
    """
    folder = resources.files("training.evaluate")
    entries: list[EvaluationPhantom] = []
    for name in (FIRST_EDITIONS_FILE, FOURTH_EDITION_FILE):
        file = folder / name
        if file.is_file():
            entries += [EvaluationPhantom.from_json(entry) for entry in json.loads(file.read_text())["phantoms"]]
    return [phantom for phantom in entries if phantom.open or final]


def make_phantom(phantom: EvaluationPhantom, liver: TriangleMesh) -> Phantom:
    """The body and its scan; the same phantom gives the same `content_hash`.

    Those of the fourth edition are venous and have the looks of the third (broader appearance, muscle upon the liver);
    they have the given traits and no others.

    Args:
        phantom: From what it is made.
        liver: The closed surface that it names, as published, LPS mm, roughly centred.
    """
    if phantom.edition < EDITION:
        return make_test_phantom(liver, phantom.seed, phantom.edition)
    variety = Variety.plain().always(*phantom.traits)
    anatomy = build_anatomy(liver, phantom.seed, deform=False, whole_liver=True, variety=variety)
    protocol = replace(
        ScanProtocol.draw(np.random.default_rng(phantom.seed)),
        phase=Phase.VENOUS,
        randomised=False,
        appearance_randomisation=True,
        diaphragm=True,
    )
    return scan(anatomy, protocol, phantom.seed)
