"""The one reader of results: bounded, checked, and never silently half-read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_examples import document_of, make_finding, make_report, make_volume, write_report

from lungscreen.errors import InputError
from lungscreen.results.folder import ResultsFolder
from lungscreen.results.reader import MOST_BYTES, read_document, read_result
from lungscreen.results.values import MOST_ROWS, UnreadableError


def document() -> dict[str, Any]:
    return document_of(make_report(make_finding(make_volume(), category="4A")))


def put(value: Any, place: tuple[str | int, ...]) -> dict[str, Any]:
    """A report with one value replaced."""
    whole = document()
    inner: Any = whole
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("schema",), "other", "not a report of this software"),
        (("schema_version",), "2.0", "of a version to come"),
        (("schema_version",), "1.x", "schema_version"),
        (("key",), "../../etc", "key: expected"),
        (("patient",), None, "patient: expected a value"),
        (("patient", "name"), 7, "patient.name: expected a text"),
        (("candidates",), -1, "candidates: out of bounds"),
        (("candidates",), 1.5, "candidates: expected a number"),
        (("candidates",), True, "candidates: expected a number"),
        (("findings",), {"0": 1}, "findings: expected a list"),
        (("findings",), [None] * (MOST_ROWS + 1), "findings: a list of another length"),
        (("findings", 0, "position_mm"), [1.0, 2.0], "position_mm: a list of another length"),
        (("findings", 0, "position_mm", 1), None, "position_mm[1]: expected a number"),
        (("findings", 0, "measurement", "long_axis_mm"), 1e300, "long_axis_mm: expected a finite number"),
        (("findings", 0, "malignancy", "probability"), 1.01, "probability: out of bounds"),
        (("findings", 0, "type"), "metal", "type: an unknown word"),
        (("findings", 0, "location", "side"), ["left"], "side: an unknown word"),
        (("provenance", "seconds"), {"a": "b"}, "seconds: expected a number"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(place: tuple[str | int, ...], value: Any, said: str) -> None:
    """The place, never the value, which may be a name."""
    with pytest.raises(UnreadableError) as refused:
        read_document(put(value, place))
    assert said in str(refused.value)
    assert "metal" not in str(refused.value)


def test_a_field_that_is_missing_is_refused() -> None:
    whole = document()
    del whole["findings"][0]["measurement"]["volume_mm3"]
    with pytest.raises(UnreadableError, match="volume_mm3: missing"):
        read_document(whole)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}', b'{"a": -Infinity}', b"1" * 5000, b'"report"', b"null", b"[]"],
)
def test_files_that_are_no_report(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(UnreadableError):
        read_result(tmp_path / "report.json")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """A sparse file of a gigabyte costs no memory."""
    with (tmp_path / "report.json").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UnreadableError, match="larger than any report"):
        read_result(tmp_path / "report.json")


def test_hostile_texts_become_one_bounded_line() -> None:
    read = read_document(put("a\r\nb\x1b[2J\u202e" + "x" * 100_000, ("exam", "description")))
    assert read.exam.description is not None
    assert read.exam.description.startswith("a  b[2J")
    assert read.exam.description.isprintable()
    assert len(read.exam.description) <= 201


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    ("patient",), ("exam", "date"), ("findings",), ("findings", 0), ("findings", 0, "measurement"),
    ("lungs", "right_ml"), ("findings", 0, "risks"), ("provenance", "options"), ("findings", 0, "position_mm"),
    ("priors",), ("notices",),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), JSON, st.booleans())
def test_any_value_in_any_place_is_read_or_refused(place: tuple[str | int, ...], value: Any, foreign: bool) -> None:
    """No other exception, whatever stands there."""
    try:
        read = read_document(put(value, place), foreign=foreign)
    except UnreadableError:
        return
    assert read.key == document()["key"]


# -- the folder ------------------------------------------------------------------------------------------------------
def test_a_folder_gives_its_reports_and_says_which_it_cannot_read(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    with pytest.raises(InputError, match="input-missing"):
        list(folder.reports())
    study = write_report(make_report(), tmp_path)
    (tmp_path / "studies" / ".half.new").mkdir()
    assert [(key, report.key) for key, report in folder.reports()] == [(study.name, study.name)]
    study.rename(study.with_name("0" * 12))
    assert folder.study_keys() == ["0" * 12]
    with pytest.raises(UnreadableError, match="of another study"):
        folder.read("0" * 12)
    folder.report("0" * 12).write_text("{")
    with pytest.raises(InputError, match="table-unreadable: no report of this software"):
        list(folder.reports())
    with pytest.raises(UnreadableError, match="FileNotFoundError"):
        folder.read("1" * 12)
