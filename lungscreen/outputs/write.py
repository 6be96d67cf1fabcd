"""A finished study ─► its files in the results folder, by the outputs that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.registry import OutputsConfig, load_output
from lungscreen.results.finished import Finished
from lungscreen.results.folder import ResultsFolder

__all__ = ["write_study"]


def write_study(finished: Finished, folder: ResultsFolder, config: OutputsConfig | None = None) -> Path:
    """Write a study's files in place of earlier ones, once all of them are whole. Returns the study's folder.

    Errors: `output-failed`, `internal-error`; earlier results are whole then.
    """
    key = finished.document.key
    outputs = [load_output(name) for name in (config or OutputsConfig()).names]
    with folder.replace_study(key) as target:
        for output in outputs:
            _write(target, list(output.files(finished)))
    return folder.study(key)


def _write(target: Path, files: Sequence[NamedFile]) -> None:
    for file in files:
        if Path(file.name).name != file.name or (target / file.name).exists():
            raise AssertionError(f"expected a new plain file name, got {file.name!r}")
        if isinstance(file.content, str):
            (target / file.name).write_text(file.content, encoding="utf-8")
        elif isinstance(file.content, bytes):
            (target / file.name).write_bytes(file.content)
        else:
            with (target / file.name).open("wb") as opened:
                file.content(opened)
