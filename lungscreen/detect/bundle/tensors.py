"""model.pt ─► tensors: unpickled once, as tensors only, then kept as safetensors beside it. Imports torch.

models/model.pt                  the bundle's, never changed
models/model.safetensors         the same numbers
models/model.safetensors.json    the hashes of both: a copy that fits neither is not used
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lungscreen.errors import WeightsError
from lungscreen.logs import LOG
from lungscreen.weights import WeightsFile, sha256_of

__all__ = ["read_tensors"]


def read_tensors(weights: WeightsFile) -> dict[str, Tensor]:
    """The bundle's state dict, numbers as float32.

    The copy as safetensors is made where the bundle's folder can be written to; elsewhere each run reads `model.pt`.
    Errors: `weights-invalid` where the file holds anything but finite tensors by name, or is damaged.
    """
    tensors = _read_copy(weights)
    if tensors is None:
        tensors = _unpickle(weights.path)
        _write_copy(weights, tensors)
    bad = [key for key, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise WeightsError("weights-invalid", f"{len(bad)} tensors hold numbers that are not finite", str(weights.path))
    return tensors


def _unpickle(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Torch's reader for weights only builds nothing else and runs no code."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever the reader throws at a hostile or damaged file
        raise WeightsError("weights-invalid", "damaged, or holds more than tensors: not read", str(path)) from None
    if isinstance(content, Mapping) and set(content) == {"model"}:
        content = content["model"]
    if not isinstance(content, Mapping) or not content or not all(map(_is_plain, content.items())):
        raise WeightsError("weights-invalid", "expected tensors by name", str(path))
    return {key: (t.float() if t.is_floating_point() else t).contiguous().clone() for key, t in content.items()}


def _is_plain(item: tuple[Any, Any]) -> bool:
    key, tensor = item
    return (
        isinstance(key, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and (tensor.is_floating_point() or tensor.dtype == torch.int64)
    )


def _read_copy(weights: WeightsFile) -> dict[str, Tensor] | None:
    """The tensors as they were kept, where the copy is whole and of these very weights."""
    copy, note = _places(weights)
    try:
        hashes = json.loads(note.read_text(encoding="utf-8"))
        if hashes != {"source_sha256": weights.sha256, "sha256": sha256_of(copy)}:
            return None
        return load_file(copy)
    except (OSError, ValueError, RecursionError, SafetensorError):
        return None


def _write_copy(weights: WeightsFile, tensors: Mapping[str, Tensor]) -> None:
    """Keep the tensors: each file whole or not at all, the hashes last. Nothing is lost where that cannot be done."""
    copy, note = _places(weights)
    folder = Path(str(weights.architecture["bundle"])).resolve()
    try:
        if copy.parent.resolve().parent != folder:  # a link that leads out of the bundle
            return
        _replace(copy, save(dict(tensors)))
        hashes = {"source_sha256": weights.sha256, "sha256": sha256_of(copy)}
        _replace(note, json.dumps(hashes).encode())
    except OSError as error:
        LOG.info("bundle not kept as safetensors", extra={"fields": {"reason": str(error.strerror)}})


def _replace(target: Path, content: bytes) -> None:
    """Through a new file of a name that nobody can have prepared."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _places(weights: WeightsFile) -> tuple[Path, Path]:
    copy = weights.path.with_suffix(".safetensors")
    return copy, copy.with_name(copy.name + ".json")
