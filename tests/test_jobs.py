"""Detecting alone and assessing alone: a failure of a study ends as it does in a batch."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_batch_stale import box_with_study

import lungscreen.series.stage as stage_module
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main

ROOM_MB = 160
"""What a command may take beside what it has loaded."""

LIMITED = f"""
import resource, sys, torch, numpy, scipy, nibabel, pydicom, SimpleITK, jsonschema
import lungscreen.jobs.assess, lungscreen.jobs.detect
from lungscreen.cli.main import main
torch.set_num_threads(1)
torch.nn.Conv3d(1, 1, 3)(torch.zeros(1, 1, 8, 8, 8))
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ({ROOM_MB} << 20),) * 2)
sys.exit(main(sys.argv[1:]))
"""
"""The command in a process that gets no more memory: a machine that is too small for the study."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume of 300 MB, most of it a hole in the file."""
    import nibabel as nib
    import numpy as np

    path = tmp_path_factory.mktemp("large") / "large.nii"
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((512, 512, 600))
    header.set_sform(np.diag([0.7, 0.7, 0.6, 1.0]), 1)
    header.set_qform(np.diag([0.7, 0.7, 0.6, 1.0]), 1)
    header.set_xyzt_units("mm")
    header["magic"], header["vox_offset"] = b"n+1", 352
    with path.open("wb") as file:
        file.write(header.binaryblock)
        file.truncate(352 + 512 * 512 * 600 * 2)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's")
@pytest.mark.parametrize("command", ["detect", "assess"])
def test_a_study_that_does_not_fit_into_memory_is_out_of_memory(command: str, large: Path, tmp_path: Path) -> None:
    """Neither damaged nor a fault of the software: the same code as in a batch, and the run goes on to its end."""
    points = tmp_path / "points.csv"
    points.write_text("seriesuid,x_mm,y_mm,z_mm,finding\nlarge,1,2,3,mine\n")
    words = [command, str(large), "--no-lungs", "--log-json", "--out", str(tmp_path / "out")]
    words += ["--points", str(points)] if command == "assess" else []
    ran = subprocess.run([sys.executable, "-c", LIMITED, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == ExitCode.SOME_REFUSED, ran.stderr
    with (tmp_path / "out" / "refused.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["path_or_uid"], row["code"], row["scope"]) for row in csv.DictReader(file)}
    assert ("large", "out-of-memory", "study") in rows
    assert {code for _, code, _ in rows} <= {"out-of-memory", "points-without-series"}
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    ended = {("run ended", None), ("run incomplete", None)}
    assert {(event["event"], event.get("code")) for event in events} == {("study failed", "out-of-memory"), *ended}


@pytest.mark.parametrize("job", ["detect", "assess", "studies", "guard"])
def test_a_small_job_does_not_load_the_batch(job: str) -> None:
    """The batch is the largest package; what looks at one volume needs none of it."""
    code = (
        f"import sys, lungscreen.jobs.{job}; print(sorted(m for m in sys.modules if m.startswith('lungscreen.batch')))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


@pytest.mark.parametrize("command", ["detect", "assess"])
def test_an_inbox_that_is_renamed_away_for_a_moment_is_looked_at_again(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both studies are read whole, as by `batch run`: nothing is refused."""
    box, points = tmp_path / "in", tmp_path / "points.csv"
    box_with_study(box / "a")
    box_with_study(box / "b", tags={"PatientID": "P002"}, study_uid="1.2.4", series_uid="1.2.4.4")
    points.write_text("seriesuid,x_mm,y_mm,z_mm\n1.2.3.4,-50,4,320\n1.2.4.4,-50,4,320\n")
    look_into, calls = stage_module.look_into, []

    def away_after_one(*words: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            box.rename(tmp_path / "elsewhere")
            threading.Timer(0.8, lambda: (tmp_path / "elsewhere").rename(box)).start()
        return look_into(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(stage_module, "look_into", away_after_one)
    out = tmp_path / "out"
    words = ["--points", str(points)] if command == "assess" else []
    assert main([command, str(box), "--out", str(out), "--no-lungs", *words]) == ExitCode.OK
    assert len(calls) > 60, "looked at again"
    with (out / "refused.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == []
