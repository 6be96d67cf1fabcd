"""`Index`: the open index of an `--out`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lungscreen.batch.index.files import FileTable, Turn
from lungscreen.batch.index.refusals import RefusalTable
from lungscreen.batch.index.schema import INDEX_FILE, MIGRATIONS
from lungscreen.batch.index.studies import StudyTable
from lungscreen.batch.index.visit import Scan, Visit
from lungscreen.batch.tasks import Task
from lungscreen.clinical import ClinicalTable
from lungscreen.comparison import PriorTable
from lungscreen.database import guarded, open_database
from lungscreen.dicomfile import quiet_pydicom
from lungscreen.errors import Refusal
from lungscreen.pseudonyms import Pseudonyms
from lungscreen.series import SeriesConfig
from lungscreen.series.files import AGAIN_AFTER_S
from lungscreen.sources import SourceReader

__all__ = ["Index"]


class Index:
    """Which files there are, and which study each belongs to."""

    def __init__(
        self,
        out: Path,
        pseudonyms: Pseudonyms,
        config: SeriesConfig | None = None,
        clinical: ClinicalTable | None = None,
        priors: PriorTable | None = None,
        turn: Turn | None = None,
        shard: tuple[int, int] = (1, 1),
        companions: Sequence[Path] = (),
    ) -> None:
        """Errors: `ledger-invalid`, `output-failed`."""
        self._out = out
        self._config = config or SeriesConfig()
        self._turn = turn or Turn()
        path = out / INDEX_FILE
        self._db = open_database(path, MIGRATIONS, mode=0o600)
        self._guard = guarded(path)
        self._files = FileTable(self._db, pseudonyms, self._turn)
        self._refusals = RefusalTable(self._db, self._guard)
        priors = priors or PriorTable()
        self._studies = StudyTable(self._db, self._guard, pseudonyms, clinical, priors, shard, companions)

    def close(self) -> None:
        """Close it."""
        self._db.close()

    # -- looking at the inputs ---------------------------------------------------------------------------------------
    def scan(
        self, inputs: Sequence[Path], *, everything: bool = True, stop: Callable[[], bool] = lambda: False
    ) -> Scan:
        """Bring the index up to date with the inputs.

        everything: give all studies of these inputs, not only those that changed.
        stop: asked now and then; a look that is stopped is gone on with by the next one.
        """
        scan = Scan()
        with self._guard, quiet_pydicom(), SourceReader() as reader:
            self._files.begin()
            try:
                places = self._visit(inputs, reader, scan, stop)
                if not stop():
                    self._studies.update(self._files.breathe)
                    scan.withdrawn = [] if scan.disturbed else self._studies.withdrawn()
                    found = self._studies.found(places if everything else None)
                    # what of a study vanished may be back for the next look
                    scan.found = [study for study in found if study.entered or not scan.disturbed]
            finally:
                self._db.execute("COMMIT")
        return scan

    def _visit(self, inputs: Sequence[Path], reader: SourceReader, scan: Scan, stop: Callable[[], bool]) -> list[int]:
        """Look at the inputs until nothing vanishes meanwhile, but not for ever. Returns their numbers."""
        pauses = iter(AGAIN_AFTER_S)
        while True:
            scan.away.clear()
            number = self._db.execute("SELECT COALESCE(MAX(seen), 0) + 1 FROM folder").fetchone()[0]
            visit = Visit(self._files, self._out, self._config, reader, scan, number, stop)
            places = [visit.input(path) for path in dict.fromkeys(inputs)]
            # an input that vanished in the look before is waited for
            scan.disturbed = visit.is_disturbed or (scan.disturbed and bool(scan.away))
            pause = next(pauses, None) if scan.disturbed else None
            if pause is None or stop():
                return places
            self._db.execute("COMMIT")
            end = time.monotonic() + pause
            while time.monotonic() < end and not stop():
                time.sleep(0.05)
            self._files.begin()

    def mark_entered(self, keys: Iterable[str]) -> None:
        """These studies stand in the ledger as they are now."""
        with self._guard, self._turn:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("UPDATE study SET changed = 0, grown = 0 WHERE key = ?", [(key,) for key in keys])
            self._db.execute("COMMIT")

    def keep_content(self, key: str, content: str) -> None:
        """What a study's files held when it was read (`lungscreen.series.hash_unchanged`)."""
        with self._guard, self._turn:
            self._db.execute("UPDATE study SET content = ? WHERE key = ?", (content, key))

    # -- studies -----------------------------------------------------------------------------------------------------
    def has_hole(self, key: str) -> bool:
        """Whether a series of the study lacks whole slices between others, by their positions."""
        return self._studies.has_hole(key)

    def task(self, key: str, input_hash: str, attempt: int) -> Task:
        """What a worker needs to know of a study."""
        return self._studies.task(key, input_hash, attempt)

    def study_uids(self) -> list[str]:
        """Every study that was ever seen."""
        return self._studies.study_uids()

    def keys_of(self, inputs: Sequence[Path]) -> list[str]:
        """Studies that have files in these inputs."""
        return self._studies.keys_of(inputs)

    # -- what was not read -------------------------------------------------------------------------------------------
    def input_refusals(self, path: Path) -> list[Refusal]:
        """Files of this input that are no image, or cannot be read."""
        return self._refusals.of_input(path)

    def strangers(self) -> list[Refusal]:
        """DICOM objects that are no CT and belong to no study with CT."""
        return self._refusals.strangers()
