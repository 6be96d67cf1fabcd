"""The two ways to studies: `find_series` from the inputs, `find_study` from what was remembered of one study's files.

inputs ─► Entries ─► Looks ─► Pile ─► Studies of Series, ordered
└─► remembered ─► Pile ─► the Study
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lungscreen.dicomfile import LONGEST_WHERE, plain_value, quiet_pydicom
from lungscreen.errors import Refusal
from lungscreen.records import Inventory, Study
from lungscreen.series.config import SeriesConfig
from lungscreen.series.files import AGAIN_AFTER_S, Entry, Walk
from lungscreen.series.identity import Identity, identify, identify_study, whole_identities
from lungscreen.series.images import make_image_studies
from lungscreen.series.looks import Look, look_into, renew_looks
from lungscreen.series.pile import gather_looks
from lungscreen.series.rejects import Rejects
from lungscreen.series.studies import make_studies
from lungscreen.sources import SourceReader

__all__ = ["find_series", "find_study", "group_looks", "refuse_input"]

PROGRESS_AFTER_S = 1.0
"""A progress bar appears, on a terminal, only where reading takes longer."""


def find_series(inputs: Sequence[Path], config: SeriesConfig | None = None, *, skip: Path | None = None) -> Inventory:
    """Every study in the input, its series ordered: the one to read first, then the stand-ins.

    skip: a folder that is not searched where it lies inside an input (the results of an earlier run).

    Nothing is raised for bad input: what is not read is in `Inventory.refused` and `Study.not_read`, with its code.
    A stand-in is in `Study.series` and, as `series-other-chosen`, in `Study.not_read`.
    Where something vanishes while it is looked at, the inputs are looked at again, for seconds; a file that does not
    come back is in `Inventory.refused`.
    """
    with SourceReader() as reader, quiet_pydicom():
        seen = _look_until_still(inputs, config or SeriesConfig(), skip, reader)
        inventory = _group(seen.looks, reader)
    return replace(inventory, refused=(*seen.refused, *inventory.refused))


def find_study(
    looks: Iterable[Look], identity: Identity, names: Collection[str] = (), others: Collection[Identity] = ()
) -> tuple[Study | None, tuple[Refusal, ...]]:
    """The study of that identity among files that were looked at before, and what of them belongs to no study.

    Only files that changed since are opened.
    looks: the study's files; those of its series that are of other studies; its objects that are no CT; of an image
        file, all images whose names count with it, in the order in which they were found.
    names: that occur under the patient ID, wherever.
    others: identities of other files with the study's UID.
    """
    with SourceReader() as reader, quiet_pydicom():
        now = renew_looks(looks, reader)
        inventory = _group(now, reader, {identity.patient_id: names}, {identity, *others})
    known = {identify(look.header.patient, look.header.study_uid) for look in now if look.header is not None}
    whole = whole_identities({identity, *others, *known})[identity]
    mine = [study for study in inventory.studies if identify_study(study) == whole]
    rejects = Rejects()
    for look in now:
        if look.kind == "bad":
            rejects.add("", str(look.source), look.code, look.reason)
    refused = tuple(row for row in inventory.refused if row.patient_id in ("", identity.patient_id))
    return (mine[0] if mine else None), (*refused, *rejects.rows(""))


def group_looks(looks: Iterable[Look]) -> Inventory:
    """Every study among files that were looked at before, as in `find_study`."""
    with SourceReader() as reader, quiet_pydicom():
        return _group(renew_looks(looks, reader), reader)


def refuse_input(place: Path, kinds: Collection[str], bad: Collection[tuple[str, str, str]]) -> list[Refusal]:
    """What an input holds that cannot be used, and whether there is anything else.

    kinds: of all looks at its files.
    bad: of those that cannot be used, where, code and reason.
    """
    where = plain_value(str(place), LONGEST_WHERE)
    try:
        place.stat()
    except FileNotFoundError:
        return [Refusal(where, "input-missing", "does not exist")]
    except OSError as error:
        return [Refusal(where, "file-unreadable", f"cannot be searched ({error.strerror})")]
    rejects = Rejects()
    for at, code, reason in sorted(bad):
        rejects.add(where, at, code, reason)
    rows = list(rejects.rows(where))
    if not set(kinds) - {"archive"}:
        rows.append(Refusal(where, "input-empty", "holds no file that could be an image"))
    elif not {"ct", "image", "copy"} & set(kinds) and str(place) not in {at for at, _, _ in bad}:
        rows.append(Refusal(where, "no-ct", "holds no CT image"))
    return rows


@dataclass
class _Seen:
    """What one look at the inputs gave.

    vanished: of files that were listed and gone when they were opened.
    disturbed: something vanished, a folder perhaps.
    """

    looks: list[Look] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    vanished: list[Look] = field(default_factory=list)
    disturbed: bool = False

    def note_vanished(self, looks: Iterable[Look]) -> None:
        self.vanished += (look for look in looks if look.kind == "bad")
        self.disturbed = True


def _look_until_still(inputs: Sequence[Path], config: SeriesConfig, skip: Path | None, reader: SourceReader) -> _Seen:
    """Look at the inputs until nothing vanishes meanwhile, but not for ever."""
    there = {path for path in inputs if os.path.exists(path)}  # noqa: PTH110 - unlike Path's, false where a right lacks
    seen = _look_once(inputs, config, skip, reader)
    vanished = seen.vanished
    for pause in AGAIN_AFTER_S:
        if not seen.disturbed and all(os.path.exists(path) for path in there):  # noqa: PTH110
            break
        time.sleep(pause)
        seen = _look_once(inputs, config, skip, reader)
        vanished += seen.vanished
    said = {row.where for row in seen.refused}
    gone = (look for look in dict.fromkeys(vanished) if not os.path.lexists(look.source.path))
    rejects = Rejects()
    for look in gone:
        if str(look.source) not in said:
            rejects.add("", str(look.source), look.code, look.reason)
    seen.refused += rejects.rows("")
    return seen


def _look_once(inputs: Sequence[Path], config: SeriesConfig, skip: Path | None, reader: SourceReader) -> _Seen:
    seen = _Seen()
    walk = Walk(reader, skip)
    for path in dict.fromkeys(inputs):
        looks: list[Look] = []
        for entry in _with_progress(entry for folder in walk.folders(path) for entry in folder.entries):
            made = look_into(entry, reader, config)
            looks += made
            if entry.is_file and not os.path.lexists(entry.path):
                seen.note_vanished(made)
        bad = [(str(look.source), look.code, look.reason) for look in looks if look.kind == "bad"]
        seen.refused += refuse_input(path, {look.kind for look in looks}, bad)
        seen.looks += looks
    seen.disturbed |= walk.vanished > 0
    return seen


def _group(
    looks: Iterable[Look],
    reader: SourceReader,
    names: dict[str, Collection[str]] | None = None,
    others: Collection[Identity] = (),
) -> Inventory:
    pile = gather_looks(looks)
    studies, refused = make_studies(pile, reader, names or {}, others)
    return Inventory((*studies, *make_image_studies(pile.images)), tuple(refused))


def _with_progress(entries: Iterable[Entry]) -> Iterable[Entry]:
    from tqdm import tqdm

    progress: Iterable[Entry] = tqdm(
        entries, desc="headers", unit="file", disable=None, delay=PROGRESS_AFTER_S, leave=False
    )
    return progress
