"""The table of the delineation benchmark: what it judges, and against what."""

from __future__ import annotations

from bench.delineation import Column, Run, _report


def run(seconds: float, **further: object) -> Run:
    return {
        "load_seconds": 1.0,
        "stage_seconds": {"pose": 1.0, "refine": seconds - 1},
        "seconds": seconds,
        "cpu_seconds": seconds,
        "peak_bytes": 1.4e9,
        "dsc": 0.97,
        "bundle": {"version": "1"},
        **further,
    }


def test_the_slowest_runs_are_compared_and_an_older_version_says_nothing_of_rounds() -> None:
    own = Column("ordinary", False, (run(5.0, rounds=1), run(6.0, rounds=2)))
    other = Column("ordinary", True, (run(10.0), run(8.0)))
    report = _report({}, [own, other])
    ratio = report.limits[-1]
    assert (ratio.value, ratio.limit, ratio.kept) == (0.6, 0.7, True)
    assert len(report.limits) == 3
    assert ["rounds of fit and refinement", 2, None] in report.rows
    report.show(as_json=False)
    report.show(as_json=True)
