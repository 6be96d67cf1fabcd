"""Results are whole or not there: a crash at any moment leaves the old ones, and a rerun cleans up."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import pytest
from report_examples import make_finding, make_report, make_volume, write_report

from lungscreen import files
from lungscreen.errors import OutputError
from lungscreen.files import clean_scratch, replace_file, replace_folder
from lungscreen.outputs.page import whole
from lungscreen.results.folder import ResultsFolder


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_report_folder_holds_what_was_asked_for(tmp_path):
    report = make_report(make_finding(make_volume()))
    folder = write_report(report, tmp_path)
    assert sorted(_contents(folder)) == ["candidates.csv", "report.html", "report.json"]
    write_report(report, tmp_path, "masks")
    assert sorted(_contents(folder)) == [
        "candidates.csv", "findings.nii.gz", "lungs.nii.gz", "report.html", "report.json",
    ]  # fmt: skip
    write_report(report, tmp_path)
    assert "lungs.nii.gz" not in _contents(folder), "nothing of an earlier run stays"


def test_crash_while_writing_leaves_the_old_results_whole(tmp_path, monkeypatch):
    report = make_report()
    write_report(report, tmp_path)
    before = _contents(tmp_path)
    monkeypatch.setattr(whole, "report_page", _fail)
    with pytest.raises(RuntimeError):
        write_report(replace(report, cut_off=5), tmp_path)
    assert _contents(tmp_path) == before


def _fail(*args: object) -> str:
    raise RuntimeError("in the middle")


def test_full_disk_is_said_and_leaves_the_old_results_whole(tmp_path, monkeypatch):
    report = make_report()
    write_report(report, tmp_path)
    before = _contents(tmp_path)

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        write_report(replace(report, cut_off=5), tmp_path)
    assert _contents(tmp_path) == before


def test_failing_second_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
    target = tmp_path / "studies" / "abc"
    with replace_folder(target) as folder:
        (folder / "a").write_text("old")
    rename = Path.rename

    def refuse(self, to):
        if self.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError), replace_folder(target) as folder:
        (folder / "a").write_text("new")
    assert (target / "a").read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["abc"]


@pytest.mark.parametrize("moment", ["while writing", "between the renames", "before the old one went"])
def test_leftovers_of_a_killed_run_are_put_right(tmp_path, moment):
    """The folders as a kill at each moment leaves them."""
    studies = tmp_path / "studies"
    target, new, old = studies / "abc", studies / ".abc.new", studies / ".abc.old"
    for folder in {
        "while writing": (target, new),
        "between the renames": (old, new),
        "before the old one went": (target, old),
    }[moment]:
        folder.mkdir(parents=True)
        (folder / "a").write_text("half" if folder == new else "whole")
    (tmp_path / ".worklist.csv.new").write_text("half")
    ResultsFolder(tmp_path).clean()
    assert _contents(tmp_path) == {"studies/abc/a": b"whole"}


def test_scratch_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path, monkeypatch):
    """Only the lock tells them apart: nothing is known of other processes."""
    code = (
        "from lungscreen.files import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'volume.nii').write_text('a patient')\n"
        "    print(folder, flush=True)\n"
        "    input()\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=PIPE, stdout=PIPE, text=True)
    with running:
        folder = Path(running.stdout.readline().strip())
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        clean_scratch()
        monkeypatch.setattr(files, "_YOUNG_S", -1.0)
        clean_scratch()
        assert (folder / "volume.nii").read_text() == "a patient"
        running.kill()
        running.wait()
    assert folder.exists()
    monkeypatch.setattr(files, "_YOUNG_S", 60.0)
    clean_scratch()
    assert folder.exists(), "it may be that its process has not come to locking it"
    monkeypatch.setattr(files, "_YOUNG_S", -1.0)
    ResultsFolder(tmp_path / "out").clean()
    assert list(tmp_path.iterdir()) == []
    with files.scratch_folder() as mine:
        clean_scratch()
        assert mine.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_rerun_recovers_by_itself(tmp_path):
    old = tmp_path / ".abc.old"
    old.mkdir()
    (old / "a").write_text("old")
    with pytest.raises(RuntimeError), replace_folder(tmp_path / "abc"):
        raise RuntimeError
    assert (tmp_path / "abc" / "a").read_text() == "old"


def test_file_is_replaced_whole(tmp_path):
    replace_file(tmp_path / "a.csv", "é\n")
    assert (tmp_path / "a.csv").read_bytes() == b"\xc3\xa9\n"
    (tmp_path / "folder.csv" / "x").mkdir(parents=True)
    with pytest.raises(OutputError):
        replace_file(tmp_path / "folder.csv", "x")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_rights_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="denied"):
        write_report(make_report(), tmp_path)
    tmp_path.chmod(0o700)
