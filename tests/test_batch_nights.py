"""Nights that are disturbed: inputs that vanish for seconds or were mistyped, locks that were removed, damaged
neighbours, files that are none, a lost index.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from test_batch_stale import box_with_study, documents, run, values

import lungscreen.batch.index.visit as visit_module
from lungscreen.batch.ledger import hourly_rate
from lungscreen.batch.lock import hold_lock, is_held
from lungscreen.batch.status import read_status, status_text
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.errors import UsageError


def code_of(*words: object) -> int:
    return main([str(word) for word in words])


# -- inputs ----------------------------------------------------------------------------------------------------------
def test_an_inbox_that_is_renamed_away_for_a_moment_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = tmp_path / "in"
    box_with_study(box / "a")
    box_with_study(box / "b", tags={"PatientID": "P002"}, study_uid="1.2.4", series_uid="1.2.4.4")
    look_into, calls = visit_module.look_into, []

    def away_after_one(*words: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            box.rename(tmp_path / "elsewhere")
            threading.Timer(0.8, lambda: (tmp_path / "elsewhere").rename(box)).start()
        return look_into(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(visit_module, "look_into", away_after_one)
    ended = run(box, tmp_path / "out")
    assert ended.complete
    assert sorted(document["patient"]["patient_id"] for document in documents(tmp_path / "out")) == ["P001", "P002"]
    assert len({tuple(row[1:4]) for row in values(tmp_path / "out")}) == 1, "both are whole"


@pytest.mark.parametrize("command", ["screen", "batch run"])
def test_a_mistyped_input_is_named_and_nothing_is_written(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert code_of(*command.split(), tmp_path / "inbxo", "--out", out) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert "input-missing" in error
    assert "inbxo" in error
    assert not out.exists()


@pytest.mark.parametrize("command", ["screen", "batch run"])
def test_a_mistyped_input_beside_results_is_named_too(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results of an earlier run are no reason to take a path that leads nowhere for an empty night."""
    out, empty = tmp_path / "out", tmp_path / "inbox"
    empty.mkdir()
    code_of(*command.split(), empty, "--out", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.suffix in (".csv", ".html")}
    capsys.readouterr()
    assert code_of(*command.split(), tmp_path / "inbxo", "--out", out) == ExitCode.USAGE
    assert "inbxo" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.suffix in (".csv", ".html")}


# -- locks -----------------------------------------------------------------------------------------------------------
def test_a_lock_file_that_was_removed_lets_no_second_run_in(tmp_path: Path) -> None:
    with hold_lock(tmp_path):
        (tmp_path / "run.lock").unlink()
        with pytest.raises(UsageError, match="out-in-use"), hold_lock(tmp_path):
            pass
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


# -- files that are none ---------------------------------------------------------------------------------------------
def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


CONFIGURATIONS: dict[str, Callable[[Path], Path]] = {
    "a pipe": lambda folder: pipe(folder / "p.toml"),
    "a device": lambda folder: (folder / "p.toml").symlink_to("/dev/zero") or folder / "p.toml",
    "a number of 400 digits": lambda folder: written(folder / "p.toml", "[findings]\nmost = " + "9" * 400),
    "a length of 400 digits": lambda folder: written(folder / "p.toml", "[findings]\nleast_mm = " + "9" * 400),
    "a number of 5000 digits": lambda folder: written(folder / "p.toml", "[findings]\nmost = " + "9" * 5000),
    "nested deeply": lambda folder: written(folder / "p.toml", "a = " + "[" * 20000 + "]" * 20000),
    "bytes": lambda folder: (folder / "p.toml").write_bytes(b"\xff\xfe\x00") and folder / "p.toml",
    "very large": lambda folder: written(folder / "p.toml", "# " + "x" * (2 << 20)),
    "absent": lambda folder: folder / "p.toml",
}


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_a_configuration_that_is_none_is_said(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = CONFIGURATIONS[what](tmp_path)
    assert code_of("screen", tmp_path, "--pipeline", file, "--out", tmp_path / "out") == ExitCode.USAGE
    assert "config-invalid" in capsys.readouterr().err


def test_a_key_file_that_is_a_pipe_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box_with_study(tmp_path / "in")
    key = pipe(tmp_path / "key")
    assert code_of("screen", tmp_path / "in", "--key-file", key, "--out", tmp_path / "out") == ExitCode.USAGE
    assert "key-invalid" in capsys.readouterr().err


@pytest.mark.parametrize("make", [pipe, lambda path: path.symlink_to("/dev/zero")], ids=["a pipe", "a device"])
def test_an_earlier_report_that_is_no_file_is_said(make: Callable[[Path], object], tmp_path: Path) -> None:
    box_with_study(tmp_path / "in")
    (tmp_path / "priors").mkdir()
    make(tmp_path / "priors" / "report.json")
    ended = run(tmp_path / "in", tmp_path / "out", priors=tmp_path / "priors")
    assert ended.states["done"] == 1
    assert "prior-report-invalid" in {row.code for row in ended.refusals}


# -- ledgers ---------------------------------------------------------------------------------------------------------
DAMAGES = {
    "no JSON": "UPDATE study SET facts = '{'",
    "a list": "UPDATE study SET seconds = '[1]'",
    "no time": "UPDATE study SET finished = 'yesterday'",
    "deep": "UPDATE study SET facts = '" + "[" * 50_000 + "'",
    "no table": "DROP TABLE study",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_beside_it_ends_no_night(damage: str, tmp_path: Path) -> None:
    box_with_study(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "nights" / "1")
    with sqlite3.connect(tmp_path / "nights" / "1" / "ledger.sqlite") as db:
        db.execute(DAMAGES[damage])
    db.close()
    assert run(tmp_path / "in", tmp_path / "nights" / "2").complete
    night = json.loads((tmp_path / "nights" / "2" / "night.json").read_text(encoding="utf-8"))
    assert (night["done"], night["compared_nights"]) == (1, 0)


def test_a_lost_index_with_two_people_under_one_study_uid(tmp_path: Path) -> None:
    """In whatever order they are found again, each keeps a report of their own."""
    box = tmp_path / "in"
    for name, birth, uid in (("b", "19600102", "1.2.3.4"), ("a", "19500505", "1.2.3.5")):
        paths = box_with_study(tmp_path / name, tags={"PatientID": "P1", "PatientBirthDate": birth}, series_uid=uid)
        box.mkdir(exist_ok=True)
        shutil.move(paths[0].parent, box / name)
        run(box, tmp_path / "out")
    before = sorted((d["patient"]["birth_date"], d["category"]) for d in documents(tmp_path / "out"))
    assert [birth for birth, _ in before] == ["1950-05-05", "1960-01-02"]
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
        (tmp_path / "out" / name).unlink(missing_ok=True)
    run(box, tmp_path / "out")
    assert sorted((d["patient"]["birth_date"], d["category"]) for d in documents(tmp_path / "out")) == before


# -- status ----------------------------------------------------------------------------------------------------------
def test_no_speed_is_made_of_two_studies() -> None:
    assert hourly_rate([0.0, 0.4]) is None
    assert hourly_rate([float(n) for n in range(10)]) is None
    assert hourly_rate([10.0 * n for n in range(10)]) == 360.0


def test_what_an_interrupted_night_left_running_is_called_interrupted(tmp_path: Path) -> None:
    box_with_study(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "ledger.sqlite") as db:
        db.execute("UPDATE study SET state = 'running'")
    db.close()
    status = read_status(tmp_path / "out")
    assert (status["running"], status["interrupted"], status["at_work"]) == (0, 1, False)
    assert "interrupted       1" in status_text(status)


# -- who may read results --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "file_mode", "folder_mode"), [((), 0o640, 0o750), (("--umask", "022"), 0o644, 0o755)]
)
def test_results_are_readable_to_owner_and_group_only(
    options: tuple[str, ...], file_mode: int, folder_mode: int, tmp_path: Path
) -> None:
    """Files that name patients; an inbox without a study is enough for the tables."""
    (tmp_path / "in").mkdir()
    before = os.umask(0o022)
    try:
        code_of("screen", tmp_path / "in", "--out", tmp_path / "out", *options)
    finally:
        os.umask(before)
    for name in ("worklist.csv", "worklist.html", "refused.csv", "findings.csv", "night.html"):
        assert (tmp_path / "out" / name).stat().st_mode & 0o777 == file_mode, name
    assert (tmp_path / "out").stat().st_mode & 0o777 == folder_mode
    assert (tmp_path / "out" / "index.sqlite").stat().st_mode & 0o777 == 0o600


def test_tables_say_which_exam_a_row_is_of(tmp_path: Path) -> None:
    box_with_study(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out")
    for name, rows in (("worklist.csv", 1), ("findings.csv", 2)):
        with (tmp_path / "out" / name).open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
        assert [(row["accession_number"], row["exam_date"]) for row in found] == [("A1", "2024-05-06")] * rows, name
        columns = list(found[0])
        assert columns.index("exam_date") == columns.index("accession_number") + 1 > len(columns) - 4, "at the end"


@pytest.mark.parametrize("engine", ["here", "local"])
def test_names_that_are_no_utf8_are_read_and_written(engine: str, tmp_path: Path) -> None:
    """In the inbox and as the folder of results, as sites with old file servers have them."""
    box, out = (Path(os.fsdecode(os.fsencode(tmp_path) + name)) for name in (b"/M\xfcller", b"/Erg\xe4nzung"))
    box_with_study(box)
    Path(os.fsdecode(os.fsencode(box) + b"/Befund_M\xfcller.txt")).write_text("Dear colleague")
    assert run(box, out, engine=engine).complete
    (document,) = documents(out)
    assert len(document["findings"]) == 2
    with (out / "refused.csv").open(newline="", encoding="utf-8") as file:
        assert [row["code"] for row in csv.DictReader(file)] == ["not-dicom"]
