"""What an evaluation on phantoms says: sets, categories, what must be reached, and the same again from its file."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from dissm_engine.findings import Verdict
from training.evaluate.agreement_by_stage import MEAN_SHAPE, REFINED
from training.evaluate.engine_statement import EngineStatement
from training.evaluate.evaluation_report import EvaluationReport, JudgedBundle, JudgedPhantom, requirements_of
from training.evaluate.frozen_phantoms import EvaluationPhantom
from training.evaluate.metrics import NOTHING_FOUND, Agreement
from training.evaluate.phantom_table import PhantomSet, phantom_table
from training.evaluate.report_tables import figures_as_markdown, tables

STAGES = ("translation", "scale", "rotation", "non_rigid", MEAN_SHAPE, REFINED)
GOOD = {"translation": 0.80, "scale": 0.85, "rotation": 0.90, "non_rigid": 0.93, MEAN_SHAPE: 0.7, REFINED: 0.98}


def judged(
    phantom: EvaluationPhantom, dsc: Mapping[str, float] = GOOD, verdict: Verdict = Verdict.ACCEPT
) -> JudgedPhantom:
    stages = {stage: Agreement(dsc[stage], 0.8, 2.5) for stage in STAGES}
    return JudgedPhantom(phantom, True, 1400.0, stages, EngineStatement(verdict, 0.96, 1390.0, (), 9.0))


def report(**changed: Mapping[str, float]) -> EvaluationReport:
    """All sixty, all good, but for those of the given names."""
    cases = [
        judged(EvaluationPhantom.of_recipe(recipe, "ab"), changed.get(recipe.name, GOOD)) for recipe in phantom_table()
    ]
    early = judged(EvaluationPhantom("amos_001", 101, 1, "cd"))
    return EvaluationReport(JudgedBundle("liver", "0.4.0", "ef"), True, (early, *cases), {})


def unmet(found: EvaluationReport) -> list[str]:
    return [each.name for each in requirements_of(found) if not each.met]


def test_a_good_bundle_meets_every_requirement() -> None:
    assert unmet(report()) == []
    assert len(requirements_of(report())) == 4 + 1 + 4 + 2 + 4 + 1


def test_one_bad_category_is_named_though_the_means_are_reached() -> None:
    bad = {**GOOD, REFINED: 0.93}
    assert unmet(report(B03=bad, B04=bad)) == ["B: mean DSC of the worst category (left lobe round the spleen)"]


def test_one_failed_phantom_of_either_set_fails_its_worst() -> None:
    assert "A: worst DSC" in unmet(report(A07={**GOOD, REFINED: 0.949}))
    assert "B: worst DSC" in unmet(report(B40={**GOOD, REFINED: 0.89}))


def test_a_stage_that_loses_is_named() -> None:
    worse = {**GOOD, "rotation": 0.6}
    everywhere = report(**{recipe.name: worse for recipe in phantom_table() if recipe.set is PhantomSet.ODD})
    assert unmet(everywhere) == ["B: mean DSC after rotation, against scale"]


def test_distances_have_limits_from_above() -> None:
    found = {each.name: each for each in requirements_of(report())}
    assert found["A: mean ASSD mm"].limit == 0.9
    assert found["A: mean ASSD mm"].met
    assert not found["A: mean ASSD mm"].is_minimum


def test_phantoms_of_earlier_editions_belong_to_no_set() -> None:
    found = report()
    assert found.phantoms == 61
    assert list(found.summary_by_set) == [PhantomSet.ORDINARY, PhantomSet.ODD]
    assert len(found.summary_by_category) == 20
    only_early = EvaluationReport(found.bundle, False, found.cases[:1], {})
    assert requirements_of(only_early) == ()
    assert "must reach" not in figures_as_markdown(only_early)


def test_trust_counts_results_and_not_what_the_engine_refused() -> None:
    found = report(A01={**GOOD, REFINED: 0.91})
    refused = JudgedPhantom(found.cases[5].phantom, True, 900.0, {REFINED: NOTHING_FOUND}, None, "NO_ORGAN: nothing")
    trust = EvaluationReport(found.bundle, True, (*found.cases[:5], refused), {}).trust
    assert trust is not None
    assert trust.results == 5
    assert trust.counts[Verdict.ACCEPT] == (0, 1, 0, 4)


def test_the_file_gives_back_the_report() -> None:
    found = report(B11={**GOOD, REFINED: 0.5})
    again = EvaluationReport.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found


def test_tables_tell_open_phantoms_from_all_of_them() -> None:
    found = report()
    assert "| A: worst DSC | 0.950 | 0.980 | yes |" in figures_as_markdown(found)
    assert any("set B by category (all of it)" in str(table.title) for table in tables(found))
    opened = EvaluationReport(found.bundle, False, found.cases, {})
    assert any("only those that may be looked at" in str(table.title) for table in tables(opened))


@pytest.mark.parametrize("name", ["summary_by_set", "summary_by_category", "requirements", "trust", "final"])
def test_the_file_says_what_follows_from_the_cases(name: str) -> None:
    assert name in report().to_json()
