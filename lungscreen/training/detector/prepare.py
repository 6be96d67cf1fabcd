"""What a recipe needs of annotated data ─► shards, made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lungscreen.errors import UsageError
from lungscreen.training.detector.data import prepare_cubes, prepare_scans
from lungscreen.training.detector.phantoms import prepare_phantoms
from lungscreen.training.detector.recipe import DetectorTraining

__all__ = ["prepare_data"]


def prepare_data(
    config: DetectorTraining, folders: Sequence[Path], shards: Path, progress: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Make the shards that the recipe's split names, where they are not there yet.

    folders: annotated data that the split names, one at most, and folders of `lungscreen data prepare`, which are told
        by their index.json.
    shards: folder that the shards go to. Returns the folders of `lungscreen data prepare`. Errors: `usage` where the
        split names data and no folder holds them, or several may; as `prepare_cubes` and `prepare_scans`.
    """
    prepared = [folder for folder in folders if (folder / "index.json").is_file()]
    named = [folder for folder in folders if folder not in prepared]
    if len(named) not in ((1,) if config.split.names_data else (0, 1)):
        reason = "--data: expected one folder that holds what the recipe names, and any of `data prepare`"
        raise UsageError("usage", reason)
    if config.split.names_data and not (shards / "cubes.json").exists():
        progress("preparing cubes")
        prepare_cubes(named[0], shards)
    if config.split.scans:
        progress("preparing scans")
        prepare_scans(named[0], shards, config.split.scans, progress)
    prepare_phantoms(shards, config.split.phantoms)
    return prepared
