"""The table of the benchmark of objects: what it judges, and what it leaves to be read."""

from __future__ import annotations

from bench.result_objects import Column, Run, report
from dicom_node.values.results import ObjectKind


def run(cpu: float, *, proven: bool = True) -> Run:
    writing = {"cpu": cpu, "wall": 3 * cpu}
    sizes = {"seg": {"files": 1, "bytes": 9_900_000}, "surface": {"files": 1, "bytes": 2_100_000}}
    return {"writing": writing, **({"proving": {"cpu": 1.0, "wall": 1.0}} if proven else {}), "kinds": sizes}


def test_the_processor_seconds_of_writing_and_proving_are_judged_and_the_peer_s_are_not() -> None:
    own = Column("all", (run(4.0), run(20.0), run(5.0)))
    peer = Column("dcmqi, seg", (run(50.0, proven=False),))
    made = report({}, [own, peer])
    whole, seg, surface = made.limits
    assert (whole.value, whole.limit, whole.kept) == (6.0, 10.0, True)
    assert (seg.value, seg.kept) == (9.9, True)
    assert (surface.value, surface.kept) == (2.1, False)
    assert ["writing, wall s", 15.0, 150.0] in made.rows
    assert ["proving, cpu s", 1.0, None] in made.rows
    assert [f"{ObjectKind.SR}, MB", None, None] in made.rows
    made.show(as_json=False)
    made.show(as_json=True)
