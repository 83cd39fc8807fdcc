import json
import shutil
import zipfile
from pathlib import Path

import pytest

from dissm_engine.bundle import MANIFEST, Bundle
from dissm_engine.errors import BundleError


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    target = tmp_path / "bundle"
    shutil.copytree(Bundle.shipped(), target)
    return target


def test_the_shipped_bundle_loads_and_names_itself() -> None:
    bundle = Bundle.load()
    assert len(bundle.digest) == 64
    assert [str(stage.name) for stage in bundle.agent.stages] == ["translation", "scale", "rotation", "non_rigid"]
    assert bundle.manifest["files"].keys() >= {"shape.safetensors", "pose.safetensors", "refine.safetensors"}


def test_the_shipped_bundle_is_small_enough_for_the_repository() -> None:
    assert sum(file.stat().st_size for file in Bundle.shipped().rglob("*")) < 40e6


def test_a_zip_is_the_same_bundle(copy: Path, tmp_path: Path) -> None:
    packed = tmp_path / "bundle.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in copy.rglob("*"):
            archive.write(file, file.relative_to(copy))
    assert Bundle.load(packed).digest == Bundle.load(copy).digest


def test_one_changed_byte_is_noticed(copy: Path) -> None:
    weights = copy / "refine.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"refine\.safetensors .* not what its manifest says"):
        Bundle.load(copy)


def test_a_missing_file_is_noticed(copy: Path) -> None:
    (copy / "pose.safetensors").unlink()
    with pytest.raises(BundleError, match=r"pose\.safetensors"):
        Bundle.load(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99, "files": {}}', '{"format": 1}'])
def test_a_broken_manifest_is_one_clear_error(copy: Path, content: str) -> None:
    (copy / MANIFEST).write_text(content)
    with pytest.raises(BundleError):
        Bundle.load(copy)


def test_weights_of_another_architecture_are_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["architecture"]["refine"]["widths"] = [8, 16]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    bundle = Bundle.load(copy)
    with pytest.raises(BundleError):
        bundle.refiner("cpu", half=False)


def test_no_bundle_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle"):
        Bundle.load(tmp_path / "nowhere")
