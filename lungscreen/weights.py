"""The one door for weights: manifest with sha256, model card, safetensors. No pickles.

    weights/manifest.json   {"schema": 1, "weights": {"detector": {"file", "sha256", "version", "card",
    "architecture"}}} weights/NAME.safetensors
    weights/NAME.md         the card: data, licence, figures with their protocol, limits

Numbers that belong to the weights (operating points, calibration) stand in `"parameters"` of the manifest entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungscreen.config import packaged_folder
from lungscreen.errors import WeightsError

if TYPE_CHECKING:
    import torch

__all__ = ["WeightsFile", "add_weights", "find_weights", "has_weights", "load_tensors", "sha256_of"]


@dataclass(frozen=True)
class WeightsFile:
    """One entry of the manifest, its file checked."""

    name: str
    path: Path
    sha256: str
    version: str
    architecture: Mapping[str, Any] = field(default_factory=dict)
    """What the network's constructor needs."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Operating points, calibration: numbers measured with these very weights."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_weights(name: str, folder: Path | None = None) -> WeightsFile:
    """The manifest's entry of that name, its file's hash checked.

    Errors: `weights-invalid`.
    """
    folder = folder or packaged_folder("weights")
    manifest = folder / "manifest.json"
    try:
        entry = json.loads(manifest.read_text(encoding="utf-8"))["weights"][name]
        path = folder / Path(entry["file"]).name
        found = WeightsFile(
            name, path, entry["sha256"], entry["version"], entry.get("architecture", {}), entry.get("parameters", {})
        )
        actual = sha256_of(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError("weights-invalid", f"no usable entry for {name!r}: {error!r}", str(manifest)) from None
    if actual != found.sha256:
        raise WeightsError("weights-invalid", f"expected sha256 {found.sha256}, got {actual}", str(path))
    return found


def has_weights(name: str, folder: Path) -> bool:
    """Whether a folder's manifest has an entry of that name; False where it cannot be read."""
    try:
        return name in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["weights"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load_tensors(weights: WeightsFile) -> dict[str, torch.Tensor]:
    """The tensors of a weights file, as float32.

    Errors: `weights-invalid`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {key: tensor.float() for key, tensor in load_file(weights.path).items()}
    except (OSError, SafetensorError) as error:
        raise WeightsError("weights-invalid", f"cannot read: {error}", str(weights.path)) from None


def add_weights(
    folder: Path,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    version: str,
    architecture: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> WeightsFile:
    """Write tensors as fp16 safetensors and put their entry into the folder's manifest (made if absent)."""
    import torch
    from safetensors.torch import save_file

    half = {key: (t.half() if t.dtype == torch.float32 else t).contiguous() for key, t in tensors.items()}
    path = folder / f"{name}.safetensors"
    save_file(half, path)
    path.chmod(0o644)
    manifest = folder / "manifest.json"
    content: dict[str, Any] = {"schema": 1, "weights": {}}
    if manifest.exists():
        content = json.loads(manifest.read_text(encoding="utf-8"))
    content["weights"][name] = {
        "file": path.name,
        "sha256": sha256_of(path),
        "version": version,
        "card": f"{name}.md",
        "architecture": dict(architecture),
        "parameters": dict(parameters),
    }
    manifest.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return find_weights(name, folder)
