"""The demo from its input to its picture, against real processes; what it says must be what happened."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from dicom_node.demo import run_demo
from dicom_node.demo.source import given_source
from dicom_node.reasons import NodeError
from dissm_engine.bundle import Bundle
from tests.builders.ct_series import abdomen, write_ct_series
from tests.conftest import ROOT
from tests.end_to_end.analytic_node import command


def demo(given: Path | None, out: Path, **options: object) -> tuple[int, str]:
    text = io.StringIO()
    code = run_demo(given, out, console=Console(file=text, width=160), **options)  # type: ignore[arg-type]
    return code, text.getvalue()


@pytest.fixture
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The analytic node is a module of the tests."""
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
@pytest.mark.usefixtures("_at_root")
def test_the_demo_shows_both_objects_back_and_right(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", abdomen())
    (tmp_path / "ct" / "readme.txt").write_text("no image")
    code, said = demo(tmp_path / "ct", tmp_path / "out", command=command())
    assert code == 0, said
    assert "1 files are no DICOM images" in said
    assert "60 answered 0x0000" in said
    assert "DELIVERED" in said
    assert said.count("right") == 5
    assert "WRONG" not in said
    assert re.search(r"audit verify: \d+ rows, untouched", said)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["archive", "overview.png"]
    assert len(list((tmp_path / "out" / "archive").iterdir())) == 2
    with Image.open(tmp_path / "out" / "overview.png") as picture:
        assert min(picture.size) > 1000
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 60


@pytest.mark.slow
@pytest.mark.usefixtures("_at_root")
def test_the_demo_of_a_series_that_is_refused_says_why_and_fails(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", abdomen(), frame_of_reference=None)
    code, said = demo(tmp_path / "ct", tmp_path / "out", command=command())
    assert code == 1
    assert "NO_FRAME_OF_REFERENCE" in said
    assert "nothing was delivered" in said


@pytest.mark.slow
@pytest.mark.skipif(not Bundle.shipped().is_dir(), reason="bundle: none is shipped in this checkout")
def test_the_default_demo_delineates_a_phantom_by_the_shipped_bundle(tmp_path: Path) -> None:
    code, said = demo(None, tmp_path / "out")
    assert code == 0, said
    found = re.search(r"DSC against the phantom's truth: ([\d.]+)", said)
    assert found is not None
    assert float(found[1]) > 0.85


def test_no_name_in_a_tar_leads_out_of_the_folder(tmp_path: Path) -> None:
    (image,) = write_ct_series(tmp_path / "ct", abdomen(shape=(1, 32, 32)))
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w") as packed:
        for name in ("../../escaped.dcm", str(tmp_path / "absolute.dcm"), "good/image.dcm"):
            packed.add(image, arcname=name)
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
    source = given_source(hostile, tmp_path / "deep" / "unpacked")
    assert len(source.images) == 1
    assert not list(tmp_path.rglob("escaped.dcm"))
    assert not (tmp_path / "absolute.dcm").exists()
    assert len(list((tmp_path / "deep" / "unpacked").iterdir())) == 3


@pytest.mark.parametrize("what", ["missing", "empty folder", "no tar"])
def test_an_input_that_holds_nothing_to_send_is_a_clear_error(tmp_path: Path, what: str) -> None:
    given = tmp_path / "given"
    if what == "empty folder":
        given.mkdir()
    if what == "no tar":
        given.write_bytes(b"nothing like a tar")
    with pytest.raises(NodeError, match=r"given (cannot be read|holds no DICOM)"):
        given_source(given, tmp_path / "unpacked")
