"""Weights come through one door, and a damaged file does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lungscreen.errors import WeightsError
from lungscreen.weights import add_weights, find_weights, load_tensors

TENSORS = {"a": torch.tensor([[1.5, -2.0]]), "n": torch.tensor(3)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add_weights(tmp_path, "detector", TENSORS, "1", {"width": 8}, {"screening": 0.25})
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    add_weights(folder, "classifier", TENSORS, "2", {}, {})
    found = find_weights("detector", folder)
    assert (found.version, dict(found.architecture), dict(found.parameters)) == ("1", {"width": 8}, {"screening": 0.25})
    assert torch.equal(load_tensors(found)["a"], TENSORS["a"])
    assert find_weights("classifier", folder).version == "2"


def test_one_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "detector.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="sha256"):
        find_weights("detector", folder)


def test_a_file_that_is_no_safetensors_is_refused(folder: Path) -> None:
    found = find_weights("detector", folder)
    found.path.write_bytes(b"pickle?")
    with pytest.raises(WeightsError, match="cannot read"):
        load_tensors(found)


@pytest.mark.parametrize("manifest", [None, "{", "{}", json.dumps({"weights": {"detector": {"file": "x"}}})])
def test_a_broken_manifest_is_refused(tmp_path: Path, manifest: str | None) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(WeightsError) as caught:
        find_weights("detector", tmp_path)
    assert caught.value.code == "weights-invalid"


def test_the_manifest_cannot_point_out_of_its_folder(folder: Path, tmp_path: Path) -> None:
    """Only the file's name counts."""
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("detector.safetensors", "../../detector.safetensors"))
    assert find_weights("detector", folder).path.parent == folder
