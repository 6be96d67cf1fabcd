"""Whole runs on very small studies and networks of a few lines: what is done, put back, refused and said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_inbox import add_dicom, add_image, add_stub, forget
from batch_models import MODELS, TRAPPED, load
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from lungscreen.batch import BatchConfig, BatchRun, Ended, Models, run_batch
from lungscreen.batch.audit import audit_text, read_audit
from lungscreen.batch.ledger import Ledger, TaskRow
from lungscreen.batch.status import read_status, retry_studies, status_text
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.clinical import read_clinical
from lungscreen.errors import LungscreenError, OutputError, UsageError
from lungscreen.logs import LOG, start_logs
from lungscreen.pipeline import Networks, Pipeline, read_pipeline
from lungscreen.records import WeightsUsed

QUICK = BatchConfig(
    workers=1,
    threads=1,
    keep_free_mb=0.0,
    poll_s=0.2,
    quiet_s=0.6,
    hole_s=2.0,
    full_wait_s=0.2,
    away_limit_s=1.0,
    grace_s=10.0,
)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def night(inbox: Path, out: Path, **options: Any) -> BatchRun:
    return BatchRun([inbox], out, read_pipeline("screening"), **{"engine": "here", "config": QUICK} | options)


def rows(out: Path) -> dict[str, TaskRow]:
    ledger = Ledger(out, read_only=True)
    try:
        return {row.key: row for row in ledger.rows()}
    finally:
        ledger.close()


def run(inbox: Path, out: Path, **options: Any) -> Ended:
    return run_batch(night(inbox, out, **options), models=MODELS)


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


# -- nothing twice ---------------------------------------------------------------------------------------------------
def test_a_study_is_read_once_per_pipeline(inbox: Path, tmp_path: Path) -> None:
    add_image(inbox, 1)
    add_stub(inbox, 2)
    out = tmp_path / "out"
    first = run(inbox, out)
    assert (first.how, first.states["done"], first.states["refused"]) == ("finished", 1, 1)
    assert run(inbox, out).states == first.states
    assert len(read_audit(out)) == 2, "the second run had nothing to do"
    other = Models(load, (WeightsUsed("detector", "test 2", "2" * 64),))
    run_batch(night(inbox, out), models=other)
    assert len(read_audit(out)) == 4
    assert len({row["weights"][0]["version"] for row in read_audit(out)}) == 2


def test_results_that_were_whole_when_the_night_was_killed_count(inbox: Path, tmp_path: Path) -> None:
    """Killed between the rename and the ledger's commit: the study is done, not done again."""
    add_image(inbox, 1)
    out = tmp_path / "out"
    run(inbox, out)
    (key,) = rows(out)
    before = rows(out)[key]
    report = out / "studies" / key / "report.json"
    stamp = report.stat().st_mtime_ns
    ledger = Ledger(out)
    ledger.retry()
    ledger._db.execute("UPDATE study SET state = 'running', facts = '{}'")
    ledger.close()
    run(inbox, out)
    after = rows(out)[key]
    assert (after.state, after.interruptions, dict(after.facts)) == ("done", 1, dict(before.facts))
    assert report.stat().st_mtime_ns == stamp


def test_new_slices_make_a_study_new_and_the_old_result_stays_until_then(inbox: Path, tmp_path: Path) -> None:
    folder = add_dicom(inbox, 1)
    held = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns)[-1]
    held.rename(tmp_path / "late.dcm")
    out = tmp_path / "out"
    run(inbox, out)
    (key,) = rows(out)
    slices = json.loads((out / "studies" / key / "report.json").read_text())["series"]["slices"]
    shutil.move(tmp_path / "late.dcm", held)

    def full(*_: object, **__: object) -> None:
        raise OutputError("output-failed", "no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lungscreen.batch.study.write_study", full)
        with pytest.raises(OutputError):
            run(inbox, out, config=replace(QUICK, full_limit_s=0.0))
    assert (out / "studies" / key / "report.json").is_file(), "the old result stays"
    assert rows(out)[key].state == "waiting"
    assert rows(out)[key].attempts == 0
    run(inbox, out)
    assert json.loads((out / "studies" / key / "report.json").read_text())["series"]["slices"] == slices + 1


def test_an_inbox_that_was_emptied_takes_no_result_with_it(inbox: Path, tmp_path: Path) -> None:
    add_image(inbox, 1)
    out = tmp_path / "out"
    run(inbox, out)
    forget(inbox)
    add_image(inbox, 2)
    run(inbox, out)
    assert [row.state for row in rows(out).values()] == ["done", "done"]


# -- attempts --------------------------------------------------------------------------------------------------------
@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "trap"
    monkeypatch.setenv("LUNGSCREEN_TEST_TRAP", str(file))
    return file


@pytest.mark.parametrize(
    ("trapped", "code"),
    [("die", "worker-died"), ("hang", "time-limit"), ("memory", "out-of-memory"), ("error", "internal-error")],
)
def test_two_bad_attempts_fail_a_study_and_the_night_goes_on(
    trapped: str, code: str, inbox: Path, tmp_path: Path, trap: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    add_image(inbox, 1)
    add_image(inbox, 2)
    trap.write_text(f"{trapped}\n{trapped}\n")
    out = tmp_path / "out"
    config = replace(QUICK, study_limit_s=6.0 if trapped == "hang" else 300.0)
    engine = "local" if trapped in ("die", "hang") else "here"
    ended = run_batch(night(inbox, out, engine=engine, config=config), models=TRAPPED)
    assert (ended.states["done"], ended.states["failed"]) == (1, 1), ended.refusals
    (failed,) = (row for row in rows(out).values() if row.state == "failed")
    assert (failed.code, failed.attempts) == (code, 2)
    assert code in (out / "refused.csv").read_text()
    assert f"failed,{code}" in (out / "worklist.csv").read_text()
    assert "DOE^JANE" not in "".join(capfd.readouterr())
    assert retry_studies(out, code) == 1
    run_batch(night(inbox, out), models=TRAPPED)
    assert read_status(out)["done"] == 2


def test_a_worker_that_dies_once_costs_one_attempt(inbox: Path, tmp_path: Path, trap: Path) -> None:
    add_image(inbox, 1)
    trap.write_text("die\n")
    ended = run_batch(night(inbox, tmp_path / "out", engine="local"), models=TRAPPED)
    assert ended.states["done"] == 1
    assert [row["outcome"] for row in read_audit(tmp_path / "out")] == ["died", "done"]


def load_nothing(pipeline: Pipeline) -> Networks:
    os._exit(3)


def test_workers_that_never_start_end_the_run(inbox: Path, tmp_path: Path) -> None:
    add_image(inbox, 1)
    with pytest.raises(LungscreenError, match="worker-died"):
        run_batch(night(inbox, tmp_path / "out", engine="local"), models=Models(load_nothing, ()))
    (row,) = rows(tmp_path / "out").values()
    assert (row.state, row.attempts, row.interruptions) == ("waiting", 0, 0)


def test_three_interruptions_then_last_and_alone_then_failed(inbox: Path, tmp_path: Path) -> None:
    add_image(inbox, 1)
    out = tmp_path / "out"
    run(inbox, out)
    (key,) = rows(out)
    for count in range(4):
        ledger = Ledger(out)
        if count == 0:
            ledger.enter([], "p")
        # of another input than the results on disk: a run that is stopped at once may have entered the files anew
        ledger._db.execute("UPDATE study SET state = 'running', input = 'new'")
        ledger.close()
        if count < 3:
            run_batch(night(inbox, out), models=MODELS, stopped=lambda: True)
            row = rows(out)[key]
            assert (row.state, row.interruptions, row.alone) == ("waiting", count + 1, count == 2)
    run_batch(night(inbox, out), models=MODELS, stopped=lambda: True)
    assert (rows(out)[key].state, rows(out)[key].code) == ("failed", "interrupted")


# -- stopping, locking, disks, clocks, shares ------------------------------------------------------------------------
def test_two_runs_on_one_folder(inbox: Path, tmp_path: Path) -> None:
    from lungscreen.batch.lock import hold_lock

    (tmp_path / "out").mkdir()
    with hold_lock(tmp_path / "out"), pytest.raises(UsageError, match="out-in-use"):
        run(inbox, tmp_path / "out")


def test_sigterm_finishes_or_puts_back_within_the_grace(inbox: Path, tmp_path: Path, trap: Path) -> None:
    """A study that hangs is put back at no cost; the run ends in time and holds no lock."""
    add_image(inbox, 1)
    trap.write_text("hang\n")
    script = Path(__file__).with_name("batch_night.py")
    path = os.pathsep.join([str(script.parent), str(script.parents[1])])
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, str(script), str(inbox), str(out), "trapped"], env={**os.environ, "PYTHONPATH": path}
    )
    wait_for(lambda: trap.read_text() == "")
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 1
    assert time.monotonic() - start < 30
    (row,) = rows(out).values()
    assert (row.state, row.attempts, row.interruptions) == ("waiting", 0, 0)
    assert run(inbox, out).states["done"] == 1


def test_a_disk_that_is_full_for_a_while_costs_no_attempt(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_image(inbox, 1)
    import lungscreen.batch.study as study

    write, calls = study.write_study, []

    def full_twice(*words: Any) -> Any:
        calls.append(1)
        if len(calls) < 3:
            raise OutputError("output-failed", "no space left on device")
        return write(*words)

    monkeypatch.setattr(study, "write_study", full_twice)
    assert run(inbox, tmp_path / "out").states["done"] == 1
    (row,) = rows(tmp_path / "out").values()
    assert row.attempts == 0
    assert [a["outcome"] for a in read_audit(tmp_path / "out")] == ["not written", "not written", "done"]


def test_a_full_disk_starts_nothing_and_ends_the_run_after_its_limit(inbox: Path, tmp_path: Path) -> None:
    add_image(inbox, 1)
    with pytest.raises(OutputError, match="are free"):
        run(inbox, tmp_path / "out", config=replace(QUICK, keep_free_mb=1e12, full_limit_s=0.5))
    (row,) = rows(tmp_path / "out").values()
    assert row.state == "waiting"
    assert read_audit(tmp_path / "out") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB; skips where mounting is not allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_is_really_full(inbox: Path, tmp_path: Path, small_disk: Path) -> None:
    """ENOSPC in mid-batch: the run ends with its code, nothing half-written counts, and with room it goes on."""
    for number in range(3):
        add_image(inbox, number)
    with pytest.raises(OutputError):
        run(inbox, small_disk / "out", config=replace(QUICK, full_limit_s=0.5))
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    assert run(inbox, small_disk / "out").states["done"] == 3
    assert not list((small_disk / "out").rglob(".*"))


def test_a_ledger_on_a_read_only_folder(inbox: Path, tmp_path: Path, small_disk: Path) -> None:
    add_image(inbox, 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match="output-failed"):
        run(inbox, small_disk / "out")


def test_a_clock_that_is_set_back(inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the time to come again, and nothing is read twice."""
    real = time.time
    shift = iter([0.0, *[-86_400.0] * 10_000])
    monkeypatch.setattr("lungscreen.batch.ledger.time.time", lambda: real() + next(shift))
    add_image(inbox, 1)
    add_image(inbox, 2)
    assert run(inbox, tmp_path / "out").states["done"] == 2
    assert run(inbox, tmp_path / "out").states["done"] == 2
    assert len(read_audit(tmp_path / "out")) == 2
    assert read_status(tmp_path / "out")["done"] == 2


def test_an_inbox_that_goes_away_in_the_night_and_comes_back(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its studies are neither refused nor failed: they wait, and are read when it is back."""
    add_image(inbox, 1)
    add_dicom(inbox, 2)
    out = tmp_path / "out"
    import lungscreen.batch.supervisor as supervisor

    study = supervisor.Night._take_found

    def take_and_unmount(self: Any) -> None:
        before = self.ledger.counts()["waiting"]
        study(self)
        if self.ledger.counts()["waiting"] > before and inbox.exists():
            inbox.rename(tmp_path / "elsewhere")

    with monkeypatch.context() as patch:
        patch.setattr(supervisor.Night, "_take_found", take_and_unmount)
        ended = run(inbox, out)
    assert ended.states["waiting"] == 2
    assert {a["outcome"] for a in read_audit(out)} == {"away"}
    (tmp_path / "elsewhere").rename(inbox)
    assert run(inbox, out).states["done"] == 2


# -- watching --------------------------------------------------------------------------------------------------------
def test_watching_takes_what_is_complete(inbox: Path, tmp_path: Path) -> None:
    """A study that is being written waits; one with a hole waits longer; a late slice of a complete one makes it
    new.
    """
    stop = threading.Event()
    out = tmp_path / "out"
    thread = threading.Thread(
        target=run_batch, args=(night(inbox, out, watch=True),), kwargs={"models": MODELS, "stopped": stop.is_set}
    )
    thread.start()
    try:
        wait_for((out / "ledger.sqlite").exists)
        whole = add_dicom(tmp_path / "elsewhere", 1)
        target = inbox / "arriving"
        target.mkdir()
        paths = sorted(whole.iterdir())
        for number, path in enumerate(paths):
            shutil.copy(path, target / path.name)
            if number % 20 == 0:
                time.sleep(0.3)
                assert not list(out.glob("studies/*/report.json")), "it is still arriving"
        wait_for(lambda: list(out.glob("studies/*/report.json")))
        wait_for(lambda: read_status(out)["done"] == 1)
    finally:
        stop.set()
        thread.join()
    (report,) = out.glob("studies/*/report.json")
    assert json.loads(report.read_text())["series"]["slices"] == len(paths)
    assert len(read_audit(out)) == 1


def test_watching_goes_on_at_once_with_what_waited(inbox: Path, tmp_path: Path) -> None:
    """A study that was complete when the last night ended is not waited for again."""
    add_image(inbox, 1)
    out = tmp_path / "out"
    run(inbox, out)
    ledger = Ledger(out)
    ledger._db.execute("UPDATE study SET state = 'waiting'")
    ledger.close()
    ended = run_batch(
        night(inbox, out, watch=True, config=replace(QUICK, quiet_s=300.0)),
        models=MODELS,
        stopped=lambda: read_status(out)["done"] == 1,
    )
    assert ended.states["done"] == 1


def test_a_hole_is_waited_for_and_then_taken_as_it_is(inbox: Path, tmp_path: Path) -> None:
    from pydicom import dcmread

    folder = add_dicom(inbox, 1)
    by_place = sorted(
        folder.iterdir(), key=lambda p: float(dcmread(p, stop_before_pixels=True).ImagePositionPatient[2])
    )
    for path in by_place[20:26]:
        path.unlink()
    start = time.monotonic()
    out = tmp_path / "out"
    ended = run_batch(
        night(inbox, out, watch=True),
        models=MODELS,
        stopped=lambda: (out / "ledger.sqlite").exists() and read_status(out)["refused"] == 1,
    )
    assert ended.states["refused"] == 1
    assert time.monotonic() - start >= QUICK.hole_s
    assert next(iter(rows(out).values())).code == "slice-gap"


# -- what is said ----------------------------------------------------------------------------------------------------
NAME, IDENTITY, UID = "MARKEDNAME", "MARKEDID77", "1.2.826.0.1.31337"


@pytest.fixture
def marked(inbox: Path) -> Path:
    """Studies whose names, IDs, UIDs and folders can be searched for: one to read, one to refuse, one to fail."""
    tags = {"PatientID": IDENTITY, "PatientName": f"{NAME}^Jane", "AccessionNumber": f"ACC{IDENTITY}"}
    add_dicom(inbox / IDENTITY, 1, tags=tags).rename(inbox / IDENTITY / f"{NAME} study")
    folder = add_stub(inbox / IDENTITY, 31337)
    assert folder.is_dir()
    add_image(inbox / f"{IDENTITY} images", 3).rename(inbox / f"{IDENTITY} images" / f"{NAME}.mha")
    return inbox


def test_nobody_is_named(marked: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], trap: Path) -> None:
    """Every byte of logs, metrics, night.*, ledger and file names; the index and the reports are the ones left out."""
    out = tmp_path / "out"
    trap.write_text("error\n")
    for _ in range(2):
        start_logs(as_json=True)
        try:
            run_batch(night(marked, out, engine="local"), models=TRAPPED)
        finally:
            LOG.handlers.clear()
    seen = capfd.readouterr()
    assert "study done" in seen.err
    words = (NAME, IDENTITY, UID, "ID31337", str(marked), "Name^Nr")
    texts = {"logs": (seen.out + seen.err).encode()}
    for name in ("metrics.prom", "night.json", "night.html", "ledger.sqlite", "run.lock"):
        texts[name] = (out / name).read_bytes()
    texts["file names"] = "\n".join(p.relative_to(out).as_posix() for p in out.rglob("*")).encode()
    for where, content in texts.items():
        for word in words:
            assert word.lower().encode() not in content.lower(), f"{word} in {where}"
    assert IDENTITY in (out / "worklist.csv").read_text(), "the worklist says whose they are"
    assert IDENTITY.encode() in (out / "index.sqlite").read_bytes()
    audit = json.dumps(read_audit(out)) + audit_text(read_audit(out))
    assert not [word for word in words if word in audit]


def test_identified_keeps_patient_ids(marked: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(marked, out, identified=True)
    assert IDENTITY in (out / "night.json").read_text()
    assert f"{NAME}^Jane" not in (out / "night.json").read_text()
    with pytest.raises(UsageError, match="key-differs"):
        run(marked, out)


def test_the_pages_of_the_night(inbox: Path, tmp_path: Path) -> None:
    add_image(inbox, 1)
    add_stub(inbox, 2)
    out = tmp_path / "out"
    run(inbox, out)
    page, document = (out / "night.html").read_text(), json.loads((out / "night.json").read_text())
    assert (document["studies"], document["done"], document["refused"]) == (2, 1, 1)
    (refused,) = document["not_read"]
    assert refused["code"] == "too-few-slices"
    assert refused["meaning"] in page
    assert refused["action"] in page
    (ranked,) = document["ranked"]
    assert (out / ranked["report"]).is_file()
    assert f"href='{ranked['report']}'" in page
    assert "research use" in page
    assert set(document["seconds"]) >= {"headers", "volume", "lungs", "detect", "study"}
    assert all(entry["peak_mb"] > 10 for entry in document["seconds"].values())
    families = {f.name: f for f in text_string_to_metric_families((out / "metrics.prom").read_text())}
    assert {s.labels["state"]: s.value for s in families["lungscreen_studies"].samples}["refused"] == 1


def test_status_retry_and_audit_from_the_command_line(
    inbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_stub(inbox, 2)
    out = tmp_path / "out"
    run(inbox, out)
    assert main(["batch", "status", str(out)]) == ExitCode.OK
    assert "refused        1" in capsys.readouterr().out
    assert main(["batch", "status", str(out), "--json"]) == ExitCode.OK
    status = json.loads(capsys.readouterr().out)
    assert (status["refused"], status["at_work"], status["codes"][0]["code"]) == (1, False, "too-few-slices")
    assert main(["batch", "audit", str(out), "--json"]) == ExitCode.OK
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["outcome"], entry["code"]) == ("refused", "too-few-slices")
    assert main(["batch", "audit", str(out)]) == ExitCode.OK
    assert "too-few-slices" in capsys.readouterr().out
    assert main(["batch", "retry", str(out), "--code", "no-such-code"]) == ExitCode.USAGE
    assert main(["batch", "retry", str(out), "--code", "too-few-slices"]) == ExitCode.OK
    assert read_status(out)["waiting"] == 1
    assert main(["batch", "status", str(tmp_path)]) == ExitCode.USAGE
    assert not list(out.glob("*-wal")), "looking leaves nothing behind"


def test_a_status_says_when_it_will_be_done() -> None:
    status = {"waiting": 3, "running": 1, "done": 4, "refused": 0, "failed": 0, "codes": []}
    text = status_text({**status, "studies_per_hour": 12.0, "done_at": "2026-01-01T06:30+00:00", "at_work": True})
    assert "12 studies per hour" in text
    assert "06:30" in text


@pytest.mark.parametrize(
    "words",
    [["--until", "25:00"], ["--shard", "3/2"], ["--shard", "x"], ["--workers", "0"], ["--key-file", "nowhere"]],
    ids=" ".join,
)
def test_a_wrong_command_line_does_nothing(words: list[str], inbox: Path, tmp_path: Path) -> None:
    try:
        code = main(["batch", "run", str(inbox), "--out", str(tmp_path / "out"), *words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == ExitCode.USAGE
    assert not (tmp_path / "out" / "ledger.sqlite").exists()


def test_the_command_ends_with_its_code(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command line, with networks of a few lines in a worker process."""
    monkeypatch.setattr("lungscreen.batch.run.shipped_models", lambda _: MODELS)
    add_image(inbox, 1)
    words = ["batch", "run", str(inbox), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(words) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out" / "worklist.html")]
    add_stub(inbox, 2)
    assert main([*words, "--shard", "1/1"]) == ExitCode.SOME_REFUSED
    (tmp_path / "c.csv").write_text("patient_id,priority\nID002,urgent\n")
    read_clinical(tmp_path / "c.csv")
    assert main([*words, "--clinical", str(tmp_path / "c.csv"), "--until", "00:00"]) == ExitCode.SOME_REFUSED


def test_shards_have_folders_of_their_own_and_one_key(inbox: Path, tmp_path: Path) -> None:
    for number in range(4):
        add_stub(inbox, number)
    out = tmp_path / "out"
    found: list[str] = []
    for part in (1, 2):
        run(inbox, out, shard=(part, 2))
        found += rows(out / f"shard-{part}-of-2")
    assert len(found) == len(set(found)) == 4
    other = tmp_path / "other key"
    other.write_bytes(b"y" * 64)
    other.chmod(0o600)
    with pytest.raises(UsageError, match="key-differs"):
        run(inbox, out, shard=(1, 2), key_file=other)
    with pytest.raises(UsageError, match="number of shards"):
        run(inbox, out, shard=(1, 3))
    with pytest.raises(UsageError, match="expected a shard"):
        run(inbox, out, shard=(3, 2))


# -- progress --------------------------------------------------------------------------------------------------------
def test_a_bar_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from lungscreen.batch.progress import progress_bar

    counts = {"waiting": 3, "running": 1, "done": 2, "refused": 1, "failed": 0}
    progress_bar(lambda: counts)()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress_bar(lambda: counts)()
    assert "3/7" in capsys.readouterr().err


# -- inputs of other kinds -------------------------------------------------------------------------------------------
def test_two_images_of_one_name_are_two_studies_and_say_so(inbox: Path, tmp_path: Path) -> None:
    for part in ("a", "b"):
        add_image(inbox / part, 1)
    out = tmp_path / "out"
    assert run(inbox, out).states["done"] == 2
    reports = [json.loads(path.read_text()) for path in out.glob("studies/*/report.json")]
    assert {r["exam"]["study_uid"] for r in reports} == {"scan001", "scan001-2"}
    assert all("same-file-name" in {n["code"] for n in r["notices"]} for r in reports)


def test_objects_that_are_no_ct_are_said_once(inbox: Path, tmp_path: Path) -> None:
    """Beside the CT of their study, or as of no study where there is none."""
    from dicom_factory import make_series

    report = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}
    make_series(inbox / "alone", slices=2, tags=report, study_uid="1.2.9", series_uid="1.2.9.1")
    ended = run(inbox, tmp_path / "out")
    assert ended.studies == 0
    assert [(r.code, r.where) for r in ended.refusals if r.code == "not-ct"] == [("not-ct", "1.2.9.1")]
    add_stub(inbox, 9)
    make_series(inbox / "beside", slices=2, tags=report, study_uid="1.2.826.0.1.9", series_uid="1.2.826.0.1.9.5")
    refusals = run(inbox, tmp_path / "out").refusals
    assert sorted(r.where for r in refusals if r.code == "not-ct") == ["1.2.826.0.1.9.5", "1.2.9.1"]
