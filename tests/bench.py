"""`make bench`: seconds per stage and peak memory of one study from DICOM to report, in a process of its own.

The real 304-slice study (512 x 512, 1 mm) where the folder of real data is there, else a full-size phantom; three cold
runs, the median counts. Compare figures of one run only: machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUNS = 3


def main() -> None:
    """Measure, print a table, write bench.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    study = args.shared / "data" / "dicom" / "NSCLC-Radiogenomics-R01-001"
    name = "real study, 304 slices"
    if not study.is_dir():
        study, name = args.out / "phantom", "full-size phantom"
        if not study.is_dir():
            _run("phantom", "--out", str(study), "--size", "full", "--seed", "1")
    runs = [_screen(study) for _ in range(RUNS)]
    result = {"study": name, "runs": runs, "median_wall_s": statistics.median(r["wall_s"] for r in runs)}
    (args.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{name}: {result['median_wall_s']:.1f} s from DICOM to report, {max(r['peak_mib'] for r in runs):.0f} MiB peak"
    )
    for stage in runs[0]["stages_s"]:
        print(f"  {stage:<10} {statistics.median(r['stages_s'][stage] for r in runs):6.2f} s")
    for command in (["-c", "import lungscreen"], ["-m", "lungscreen.cli.main", "--help"]):
        seconds = min(_seconds(command) for _ in range(5))
        print(f"  python {' '.join(command):<40} {seconds:5.2f} s")


def _screen(study: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        _run("screen", str(study), "--out", out)
        wall = time.perf_counter() - start
        report = json.loads(next(Path(out).glob("studies/*/report.json")).read_text())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"wall_s": wall, "peak_mib": peak, "stages_s": report["provenance"]["seconds"]}


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "lungscreen.cli.main", *words], check=True, stdout=subprocess.DEVNULL)


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
