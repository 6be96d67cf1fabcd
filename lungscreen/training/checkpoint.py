"""Checkpoints: written whole or not at all, and never taken for another run's."""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from lungscreen.errors import LungscreenError, OutputError, UsageError

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Whole or not at all: a disk that fills up leaves the checkpoint that was there.

    Errors: `output-failed`.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise OutputError("output-failed", f"cannot write the checkpoint: {error}", str(path)) from None


def load_checkpoint(path: Path, identity: str) -> dict[str, Any]:
    """What was saved, if it is of the run with this identity.

    Errors: `config-invalid` for another run's, `training-data-invalid` where it cannot be read.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = content["identity"]
    except (OSError, KeyError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise LungscreenError("training-data-invalid", f"cannot read the checkpoint: {error}", str(path)) from None
    if found != identity:
        raise UsageError(
            "config-invalid", "the folder holds a run of another recipe or data: choose a new one", str(path)
        )
    return content
