"""A finished study ─► its files in the results folder, by the outputs that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.registry import ALWAYS, OutputsConfig, load_output
from lungscreen.results.finished import Finished
from lungscreen.results.folder import ResultsFolder

__all__ = ["write_study"]


def write_study(
    finished: Finished,
    folder: ResultsFolder,
    config: OutputsConfig | None = None,
    missed: Callable[[str, Exception], None] | None = None,
) -> Path:
    """Write a study's files in place of earlier ones, once all of them are whole. Returns the study's folder.

    missed: is told which output could not be made and why, and may raise; the report and the other outputs stand all
    the same. Where it is None the error ends the writing.

    Errors: `output-failed`; `internal-error` for the report itself; earlier results are whole then.
    """
    key = finished.document.key
    finished = replace(finished, earlier=folder.study(key))
    with folder.replace_study(key) as target:
        for name in (config or OutputsConfig()).names:
            _write(target, _files(name, finished, None if name == ALWAYS else missed))
    return folder.study(key)


def _files(name: str, finished: Finished, missed: Callable[[str, Exception], None] | None) -> list[NamedFile]:
    """An output's files; none where it cannot be made and somebody was told."""
    try:
        return list(load_output(name).files(finished))
    except Exception as error:  # whatever a library throws at hostile values
        if missed is None:
            raise
        missed(name, error)
        return []


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
