import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from safetensors.torch import load, save

from dissm_engine.bundle import MANIFEST, Bundle, write_bundle
from dissm_engine.errors import BundleError
from dissm_engine.manifest import Manifest


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    target = tmp_path / "bundle"
    shutil.copytree(Bundle.shipped(), target)
    return target


def test_the_shipped_bundle_loads_and_names_itself() -> None:
    bundle = Bundle.load()
    assert len(bundle.digest) == 64
    assert [str(stage.name) for stage in bundle.model.agent.stages] == ["translation", "scale", "rotation", "non_rigid"]
    assert bundle.manifest.files.keys() >= {"shape.safetensors", "pose.safetensors", "refine.safetensors"}


def test_the_manifest_is_read_without_loss() -> None:
    stated = json.loads((Bundle.shipped() / MANIFEST).read_text())
    assert Manifest.from_json(stated).to_json() == stated


def test_a_bundle_that_is_read_and_written_again_is_the_same_model(tmp_path: Path) -> None:
    shipped = Bundle.load()
    figures = {file.name: file.read_bytes() for file in (Bundle.shipped() / "figures").iterdir()}
    card = (Bundle.shipped() / "model_card.md").read_text(encoding="utf-8")
    write_bundle(
        tmp_path,
        shipped.model,
        name=shipped.name,
        version=shipped.version,
        card=card,
        provenance=shipped.manifest.provenance,
        figures=figures,
    )
    again = Bundle.load(tmp_path)
    assert again.weights_digest == shipped.weights_digest
    assert again.manifest.to_json() == shipped.manifest.to_json() | {"created": again.manifest.created}


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
    with pytest.raises(BundleError, match="cannot be used"):
        Bundle.load(copy)


def test_no_bundle_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle"):
        Bundle.load(tmp_path / "nowhere")


def rewritten(folder: Path, file: str, content: bytes) -> None:
    """Another content for a file, and a manifest that agrees with it."""
    (folder / file).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][file] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_weights_that_the_manifest_does_not_vouch_for_are_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    del manifest["files"]["refine.safetensors"]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"does not list refine\.safetensors"):
        Bundle.load(copy)


def test_weights_that_are_no_numbers_are_refused(copy: Path) -> None:
    tensors = load((copy / "pose.safetensors").read_bytes())
    tensors["canvas.mean_mm"][0] = float("nan")
    rewritten(copy, "pose.safetensors", save(tensors))
    with pytest.raises(BundleError, match=r"canvas\.mean_mm holds values that are no numbers"):
        Bundle.load(copy)


@pytest.mark.parametrize(("section", "value"), [("trust", None), ("architecture", None), ("trust", float("nan"))])
def test_a_manifest_that_lacks_a_section_or_a_number_is_one_clear_error(
    copy: Path, section: str, value: float | None
) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    if value is None:
        del manifest[section]
    else:
        manifest[section]["bias"] = value
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="cannot be used"):
        Bundle.load(copy)


def test_a_bundle_whose_networks_were_shown_other_images_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["preprocessing"]["hu_window"] = [-100, 300]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="trained with the preprocessing"):
        Bundle.load(copy)


def test_another_card_leaves_the_digest_of_the_weights_as_it_is(copy: Path) -> None:
    before = Bundle.load(copy)
    rewritten(copy, "model_card.md", b"another card")
    after = Bundle.load(copy)
    assert after.weights_digest == before.weights_digest
    assert after.digest != before.digest


def test_a_damaged_zip_is_one_clear_error(copy: Path, tmp_path: Path) -> None:
    packed = tmp_path / "bundle.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in copy.rglob("*"):
            archive.write(file, file.relative_to(copy))
        weights = archive.getinfo("refine.safetensors")
    content = bytearray(packed.read_bytes())
    first = weights.header_offset + 1000
    content[first : first + 400] = bytes(255 - value for value in content[first : first + 400])
    packed.write_bytes(content)
    with pytest.raises(BundleError):
        Bundle.load(packed)
