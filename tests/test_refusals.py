"""The one store of what was not read: rows stay until what they are of is looked at again."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from lungscreen.errors import Refusal
from lungscreen.results.refusals import REFUSALS_FILE, RefusalStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RefusalStore]:
    opened = RefusalStore(tmp_path)
    yield opened
    opened.close()


def bad(where: str) -> Refusal:
    return Refusal(where, "not-dicom", "no image", "file")


def places(store: RefusalStore) -> list[str]:
    return [row.where for row in store.rows()]


def test_a_study_s_rows_are_replaced_together(store: RefusalStore) -> None:
    first, second = Refusal("1.1", "no-ct", "a", "study", "1.1", "P1"), Refusal("1.2", "slice-gap", "b", "study", "1.2")
    store.keep_study("k1", [first, first])
    store.keep_study("k2", [second])
    assert store.rows() == [first, second]
    store.keep_study("k1", [])
    assert store.rows() == [second]


def test_rows_stay_until_their_input_is_searched_again(store: RefusalStore) -> None:
    store.keep_input(Path("/one"), [bad("/one/bad.dcm")])
    store.keep_input(Path("/one.zip"), [bad("/one.zip!x")])
    store.keep_input(Path("/two"), [bad("/two/bad.dcm"), bad("/two/deep/worse.dcm")])
    store.keep_input(Path("/one"), [])
    assert places(store) == ["/one.zip!x", "/two/bad.dcm", "/two/deep/worse.dcm"], "a name that begins alike is another"
    store.keep_input(Path("/two/deep"), [bad("/two/deep/new.dcm")])
    assert places(store) == ["/one.zip!x", "/two/bad.dcm", "/two/deep/new.dcm"], "a folder of an input was searched"
    store.keep_input(Path("/two"), [])
    assert places(store) == ["/one.zip!x"], "the folder above was searched"
    store.keep_input(Path("/one.zip"), [])
    assert places(store) == []


def test_a_run_tells_of_its_own_inputs_and_studies(store: RefusalStore) -> None:
    """And of objects that belong to no study; earlier exams that an earlier run was given are not its own."""
    store.keep_input(Path("/one"), [bad("/one/a")])
    store.keep_input(Path("/two"), [bad("/two/b")])
    store.keep_study("k1", [Refusal("1.1", "no-ct", "a", "study", "1.1")])
    store.keep_study("k2", [Refusal("1.2", "no-ct", "a", "study", "1.2")])
    store.keep_strangers([Refusal("1.3", "not-ct", "1 object", "series", "1.3")])
    store.keep_priors([Refusal("1.4", "prior-other-patient", "x", "study", "1.4")])
    assert [row.where for row in store.of_run([Path("/two")], {"k2"})] == ["/two/b", "1.3", "1.2"]
    assert len(store.rows()) == 6


def test_what_is_kept_is_there_when_it_is_opened_again_and_nobody_else_reads_it(tmp_path: Path) -> None:
    first = RefusalStore(tmp_path)
    first.keep_study("k1", [Refusal("1.1\udcff", "no-ct", "=1", "study", "1.1", "P")])
    first.keep_input(Path("/in\udcff"), [])
    first.close()
    again = RefusalStore(tmp_path)
    assert again.rows() == [Refusal("1.1\udcff", "no-ct", "=1", "study", "1.1", "P")]
    again.close()
    assert stat.S_IMODE((tmp_path / REFUSALS_FILE).stat().st_mode) == 0o600
