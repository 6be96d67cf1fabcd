"""Find every CT series in the input and put each study's series in the order in which to read them.

    files, folders, DICOMDIRs, zip archives ─► Inventory of Studies of Series

A header pass only: no pixel is touched, nothing is unpacked to disk, nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lungscreen.dicomfile import LONGEST_WHERE, plain_value, quiet_pydicom
from lungscreen.errors import Refusal
from lungscreen.kernels import classify_kernel
from lungscreen.records import Inventory, Source
from lungscreen.series.config import SeriesConfig
from lungscreen.series.files import list_sources
from lungscreen.series.images import make_image_studies
from lungscreen.series.rejects import Rejects
from lungscreen.series.scan import scan_sources
from lungscreen.series.studies import make_studies
from lungscreen.sources import SourceReader

__all__ = ["SeriesConfig", "classify_kernel", "find_series", "group_sources"]


def find_series(inputs: Sequence[Path], config: SeriesConfig | None = None, *, skip: Path | None = None) -> Inventory:
    """Every study in the input, its series ordered: the one to read first, then the stand-ins.

    skip: a folder that is not searched where it lies inside an input (the results of an earlier run).

    Nothing is raised for bad input: what is not read is in `Inventory.refused` and `Study.not_read`, with its code.
    A stand-in is in `Study.series` and, as `series-other-chosen`, in `Study.not_read`.
    """
    rejects = Rejects()
    with SourceReader() as reader, quiet_pydicom():
        sources, failed = list_sources(inputs, config or SeriesConfig(), reader, rejects, skip)
        pile = scan_sources(sources, reader, rejects)
        studies, refused = make_studies(pile, reader)
    studies += make_image_studies(pile.images)
    bad = {row.where for row in failed}
    empty = [
        Refusal(plain_value(place, LONGEST_WHERE), "no-ct", "holds no CT image", "file")
        for place in dict.fromkeys(str(path) for path in inputs)
        if place not in pile.places and plain_value(place, LONGEST_WHERE) not in bad
    ]
    left = [row for place in rejects.places() for row in rejects.rows(place)]
    return Inventory(tuple(studies), (*failed, *empty, *refused, *left))


def group_sources(sources: Sequence[Source]) -> Inventory:
    """The same for files and archive members that are known already: every study among them.

    Nothing is raised for bad input, as in `find_series`.
    """
    rejects = Rejects()
    with SourceReader() as reader, quiet_pydicom():
        pile = scan_sources([("", source) for source in sources], reader, rejects)
        studies, refused = make_studies(pile, reader)
    studies += make_image_studies(pile.images)
    left = [row for place in rejects.places() for row in rejects.rows(place)]
    return Inventory(tuple(studies), (*refused, *left))
