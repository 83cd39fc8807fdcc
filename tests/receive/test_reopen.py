"""A person has a refused series decided again."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.catalog.transitions import ForbiddenTransition
from dicom_node.reasons import NodeError
from dicom_node.receive.series_retry import retry_series
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake

BODY = abdomen((60, 16, 18), (20.0, 20.0, 2.5))


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
    retry_series(lenient.catalog, refused.series_instance_uid, process="retry")
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
        retry_series(intake.catalog, series.series_instance_uid, process="retry")
    with pytest.raises(NodeError):
        retry_series(intake.catalog, "1.2.3", process="retry")
    assert intake.series()[0].revision == 1
