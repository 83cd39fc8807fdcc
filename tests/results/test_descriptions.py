"""Why a person should look, in the 64 characters that a viewer lists."""

from __future__ import annotations

from dataclasses import replace

from dicom_node.results.result_identity import ResultIdentity
from dicom_node.results.sentences import sentence_within
from dicom_node.settings import ResultSettings
from dicom_node.values.results import ObjectKind
from dissm_engine.findings import Finding, Findings, Verdict
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.ct_series import abdomen
from tests.builders.result_case import CREATED_AT, INPUT_DIGEST

CUT = "the scan ends within the liver, 1.9% of the surface lies on its border"


def test_a_reason_without_a_place_stands_in_every_description_in_whole_words() -> None:
    found = ellipsoid_delineation(abdomen(shape=(20, 21, 23), spacing=(6.0, 6.0, 6.0)).grid)
    cut = Finding("cut_share", 0.0188, "", 0.0, 0.01, None, CUT)
    doubted = replace(found, findings=Findings((cut,), 0.9, Verdict.REVIEW, (cut.sentence,)))
    identity = ResultIdentity.of(doubted, INPUT_DIGEST, ResultSettings(), CREATED_AT)
    assert identity.reasons == (f"{CUT} (usual 0% to 1%)",)
    assert identity.content_description == "AI REVIEW: the scan ends within the liver"
    for kind in ObjectKind:
        said = identity.series_description(kind)
        assert said.endswith(" REVIEW: the scan ends within the liver"), said
        assert len(said) <= 64


def test_a_sentence_is_cut_after_clauses_then_after_words_and_never_within_one() -> None:
    assert sentence_within(f"{CUT} (usual 0% to 1%)", 80) == CUT
    assert sentence_within(CUT, 40) == "the scan ends within the liver"
    assert sentence_within(CUT, 20) == "the scan ends ..."
    assert sentence_within("x" * 50, 40) == ""
    assert sentence_within("an \u00e4 or a \\ b", 40) == "an ? or a / b"


def test_limits_are_said_as_the_statement_says_its_number() -> None:
    share = Finding("cut_share", 0.0188, "", 0.0, 0.01, None, CUT)
    assert share.sentence == f"{CUT} (usual 0% to 1%)"
    volume = replace(share, value=3400.0, unit="ml", low=600.0, high=3000.0, statement="the outline holds 3400 ml")
    assert volume.sentence == "the outline holds 3400 ml (usual 600 to 3000 ml)"
    assert replace(volume, low=-float("inf")).sentence == "the outline holds 3400 ml (usual at most 3000 ml)"
    assert replace(volume, high=float("inf")).sentence == "the outline holds 3400 ml (usual at least 600 ml)"
