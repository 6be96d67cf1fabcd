"""The folder of results: the sole owner of where a study lies, what is whole and how it is replaced.

    <out>/studies/<key>/report.json …   one folder a study, replaced as a whole
    <out>/worklist.csv …                what is made from all of them (`lungscreen.outputs.tables`)
    <out>/refusals.sqlite               what was not read (`refusals`)

A study's key is a keyed hash (`lungscreen.pseudonyms`): it says nothing to who lacks the site's key.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from lungscreen.errors import InputError, OutputError, UsageError
from lungscreen.files import LEDGER_FILE, STUDIES_FOLDER, clean_leftovers, clean_scratch, replace_folder
from lungscreen.results.document import ReportDocument
from lungscreen.results.reader import MOST_BYTES, read_result
from lungscreen.results.values import UnreadableError

__all__ = ["REPORT_FILE", "REPORT_PAGE", "ResultsFolder", "Stamp", "page_link"]

REPORT_FILE = "report.json"
"""A study's folder that holds it is whole: folders are replaced at once."""

REPORT_PAGE = "report.html"
"""What the worklist links to, where it was written."""


Stamp = tuple[int, int, int]
"""Of a study's report: another stamp, another report."""


@dataclass(frozen=True)
class ResultsFolder:
    """One `--out`."""

    path: Path

    # -- where a study lies ------------------------------------------------------------------------------------------
    def study(self, key: str) -> Path:
        """The folder of a study's files."""
        return self.path / STUDIES_FOLDER / key

    def report(self, key: str) -> Path:
        """A study's report.json."""
        return self.study(key) / REPORT_FILE

    def link(self, key: str) -> str:
        """What a page in the results folder links to: the study's page, or its report.json where none was written."""
        only_data = self.report(key).is_file() and not (self.study(key) / REPORT_PAGE).is_file()
        return page_link(key, REPORT_FILE if only_data else REPORT_PAGE)

    # -- what is whole -----------------------------------------------------------------------------------------------
    def study_keys(self) -> list[str]:
        """Of all studies that have whole results, sorted."""
        return sorted(path.parent.name for path in self.path.glob(f"{STUDIES_FOLDER}/[!.]*/{REPORT_FILE}"))

    def stamp(self, key: str) -> Stamp:
        """Of a study's report.

        Errors: OSError where there is none.
        """
        status = self.report(key).stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def read(self, key: str) -> ReportDocument:
        """A study's report.

        Errors: `UnreadableError` where there is none, it is damaged, or it is another study's.
        """
        document = read_result(self.report(key))
        if document.key != key:
            raise UnreadableError("key: of another study")
        return document

    def reports(self) -> Iterator[tuple[str, ReportDocument]]:
        """Every study's report, with its key, one at a time.

        Errors: `input-missing` where there is none, `table-unreadable` for a report that cannot be read.
        """
        keys = self.study_keys()
        if not keys:
            raise InputError("input-missing", "expected a folder that `lungscreen screen` wrote", str(self.path))
        for key in keys:
            try:
                document = read_result(self.report(key))
            except UnreadableError as error:
                reason = f"no report of this software: {error}"
                raise InputError("table-unreadable", reason, str(self.report(key))) from None
            yield key, document

    def seal(self, key: str) -> dict[str, str]:
        """What a study's folder holds, to be told from later: the hash of its report, the sizes of its other files.

        Errors: `output-failed` where it cannot be read.
        """
        try:
            files = sorted(path for path in self.study(key).iterdir() if path.is_file())
            return {path.name: _mark(path) for path in files}
        except OSError as error:
            raise OutputError("output-failed", f"cannot be read: {error.strerror}", str(self.study(key))) from None

    def is_intact(self, key: str, seal: Mapping[str, str]) -> bool:
        """Whether a study's files are there as they were written; more of them may have been added."""
        try:
            return all(_mark(self.study(key) / name) == mark for name, mark in seal.items())
        except OSError:
            return False

    def remove_study(self, key: str) -> None:
        """A study's files go: they are of somebody else."""
        shutil.rmtree(self.study(key), ignore_errors=True)

    # -- how it is replaced ------------------------------------------------------------------------------------------
    def make(self, inputs: Iterable[Path] = (), *, may_be_away: bool = False) -> None:
        """Make the folder, and see that it is none of the inputs, and that one of them exists.

        may_be_away: inputs that were read into this folder before may be gone for a while.
        Errors: `usage`, `input-missing`, `output-failed`.
        """
        inputs = tuple(inputs)
        known = may_be_away and (self.path / LEDGER_FILE).exists()
        if inputs and not known and not any(map(os.path.lexists, inputs)):
            missing = ", ".join(map(str, inputs))
            raise UsageError("input-missing", "no such file or folder: nothing was read", missing)
        if self.path.resolve() in {path.resolve() for path in inputs}:
            reason = "the results cannot go into the input itself: name another folder with --out"
            raise UsageError("usage", reason, str(self.path))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError("output-failed", f"cannot make the folder: {error.strerror}", str(self.path)) from None

    def clean(self) -> None:
        """Put right what a crashed run left, at the start of a run."""
        clean_scratch()
        clean_leftovers(self.path)
        clean_leftovers(self.path / STUDIES_FOLDER)

    def replace_study(self, key: str) -> AbstractContextManager[Path]:
        """An empty folder that takes the study's place when the block ends well, and vanishes when it does not.

        Errors: `output-failed`; earlier results are whole then.
        """
        return replace_folder(self.study(key))

    def take_study(self, key: str) -> dict[str, bytes]:
        """A study's files by name, taken out of the folder: they go to another one."""
        files = {path.name: path.read_bytes() for path in sorted(self.study(key).glob("*"))}
        shutil.rmtree(self.study(key), ignore_errors=True)
        with suppress(OSError):  # others may be there
            (self.path / STUDIES_FOLDER).rmdir()
        return files


def _mark(path: Path) -> str:
    """Errors: OSError where it is no plain file."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    if path.name == REPORT_FILE and status.st_size <= MOST_BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return str(status.st_size)


def page_link(key: str, name: str = REPORT_PAGE) -> str:
    """From a page in the results folder to a file of a study."""
    return f"{STUDIES_FOLDER}/{key}/{name}"
