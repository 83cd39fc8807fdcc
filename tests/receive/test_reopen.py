"""A person has a refused series decided again."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.catalog.intake import retry_series
from dicom_node.catalog.transitions import ForbiddenTransition
from dicom_node.reasons import NodeError
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake

BODY = abdomen((60, 16, 18), (20.0, 20.0, 2.5))


def retry(intake: Intake, series_instance_uid: str) -> None:
    with intake.catalog.acting_as("retry").write() as tx:
        retry_series(tx, series_instance_uid)


def test_a_refused_series_is_decided_again_under_the_settings_of_now_and_the_audit_says_who_asked(
    tmp_path: Path,
) -> None:
    write_ct_series(tmp_path / "ct", BODY, attributes={"ImageType": ["DERIVED", "SECONDARY"]})
    strict = Intake(tmp_path / "node")
    strict.decide(tmp_path / "ct")
    (refused,) = strict.series()
    assert refused.state == "REFUSED"
    strict.close()

    lenient = Intake(tmp_path / "node", admit={"derived": "allow"})
    assert [stack.admitted for stack in lenient.decide(tmp_path / "ct")] == [False]
    retry(lenient, refused.series_instance_uid)
    assert [stack.admitted for stack in lenient.decide()] == [True]
    (series,), (case,) = lenient.series(), lenient.cases()
    assert (series.state, series.revision, case.state) == ("ADMITTED", 2, "QUEUED")
    assert "RETRIED" in lenient.events("series")
    lenient.close()


def test_only_a_refused_series_can_be_decided_again(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", BODY)
    intake.decide(tmp_path / "ct")
    (series,) = intake.series()
    with pytest.raises(ForbiddenTransition):
        retry(intake, series.series_instance_uid)
    with pytest.raises(NodeError):
        retry(intake, "1.2.3")
    assert intake.series()[0].revision == 1
