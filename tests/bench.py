"""`make bench`: seconds per stage and peak memory of one study from DICOM to report, in a process of its own.

The real 304-slice study (512 x 512, 1 mm) where the folder of real data is there, else a full-size phantom; three cold
runs, the median counts. Compare figures of one run only: machines are noisy. Then the detector beside the RetinaNet of
MONAI's model zoo, each on the same cube of tissue; then studies an hour, cold and in batches.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.bench_batch import measure_throughput

if TYPE_CHECKING:
    from lungscreen.detect import Detector

RUNS = 3

CHEST_ML = 360.0 * 360.0 * 325.0 / 1000
"""512 x 512 x 260 voxels at the bundle's spacing: what a whole chest comes to."""


def main() -> None:
    """Measure, print a table, write bench.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tile-mm", type=float, default=90.0, help="side of the cube for the two detectors")
    parser.add_argument("--studies", type=int, default=12, help="of the batches")
    parser.add_argument("--only", choices=("study", "detectors", "batch"), help="one part")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    parts = {
        "study": lambda: measure_study(args),
        "detectors": lambda: compare_detectors(args.tile_mm, args.out),
        "batch": lambda: print("\n".join(measure_throughput(args.out, args.studies))),
    }
    for name, part in parts.items():
        if args.only in (None, name):
            part()


def measure_study(args: argparse.Namespace) -> None:
    """One study from DICOM to report, and what starting costs."""
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
        peak = max(r["stages_peak_mib"].get(stage, 0.0) for r in runs)
        print(f"  {stage:<10} {statistics.median(r['stages_s'][stage] for r in runs):6.2f} s {peak:6.0f} MiB peak")
    for command in (["-c", "import lungscreen"], ["-m", "lungscreen.cli.main", "--help"]):
        seconds = min(_seconds(command) for _ in range(5))
        print(f"  python {' '.join(command):<40} {seconds:5.2f} s")


def compare_detectors(side_mm: float, out: Path) -> None:
    """Seconds of the shipped detector and of the zoo's RetinaNet on a cube of noise, and what a chest would take.

    The RetinaNet has the zoo's size and random numbers that find nothing: the work is the same, but for choosing boxes.
    Both run as they would on this machine (bfloat16 where its processor computes in it), each in one tile.
    """
    if find_spec("monai") is None:
        print("no MONAI here: the detector was not compared with its RetinaNet")
        return
    import torch

    from lungscreen.detect import DetectConfig, load_detector

    detectors = {"shipped": load_detector(config=DetectConfig()), "RetinaNet": _retinanet()}
    seconds, millilitres = {}, {}
    for name, detector in detectors.items():
        steps = np.broadcast_to(detector.spacing_mm, 3)
        shape = [round(side_mm / step / 16) * 16 for step in steps]
        hu = np.random.default_rng(0).integers(-1000, 100, shape).astype(np.int16)
        detector.find_marks(hu[:16, :32, :32], None)
        start = time.perf_counter()
        detector.find_marks(hu, None)
        seconds[name] = time.perf_counter() - start
        millilitres[name] = float(np.prod(shape) * np.prod(steps) / 1000)
    chest = {name: seconds[name] / millilitres[name] * CHEST_ML for name in detectors}
    result = {
        "tile_s": seconds,
        "tile_ml": millilitres,
        "chest_ml": CHEST_ML,
        "chest_s_scaled": chest,
        "ratio": chest["RetinaNet"] / chest["shipped"],
        "threads": torch.get_num_threads(),
    }
    (out / "bench-detectors.json").write_text(json.dumps(result, indent=1) + "\n")
    for name in detectors:
        print(
            f"  {name:<10} {seconds[name]:6.2f} s for {millilitres[name]:.0f} ml, scaled: {chest[name]:.0f} s a chest"
        )
    print(f"  the RetinaNet takes {result['ratio']:.0f} times as long ({result['threads']} threads)")


def _retinanet() -> Detector:
    """The zoo's network at its full size, with numbers that find nothing."""
    import torch

    from lungscreen.detect import DetectConfig
    from lungscreen.detect.bundle import read_bundle
    from lungscreen.detect.bundle.retinanet import BundleDetector, build_retinanet, empty_retinanet
    from tests.bundle_factory import CONFIG, write_bundle

    with tempfile.TemporaryDirectory() as folder:
        bundle = read_bundle(write_bundle(Path(folder), CONFIG))
    tensors = {}
    for key, empty in empty_retinanet(bundle).state_dict().items():
        tensor = torch.zeros(empty.shape) if key.endswith(("bias", "mean")) else torch.ones(empty.shape)
        if empty.ndim > 1:
            tensor = torch.randn(empty.shape) * (2 / empty[0].numel()) ** 0.5
        tensors[key] = tensor.to(empty.dtype)
    tensors["classification_head.cls_logits.weight"] *= 0
    tensors["classification_head.cls_logits.bias"] -= 20
    return BundleDetector(bundle, build_retinanet(bundle, tensors), DetectConfig())


def _screen(study: Path) -> dict[str, Any]:
    """One cold run; seconds and peak memory of each stage as the run's own ledger has them."""
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        _run("screen", str(study), "--out", out)
        wall = time.perf_counter() - start
        with closing(sqlite3.connect(Path(out) / "ledger.sqlite")) as ledger:
            ((seconds, peaks),) = ledger.execute("SELECT seconds, peak_mb FROM study").fetchall()
    stages, memory = json.loads(seconds), json.loads(peaks)
    # The stopwatch resets the process's own high-water mark: the largest of the stages counts as well.
    peak = max([resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, *memory.values()])
    return {"wall_s": wall, "peak_mib": peak, "stages_s": stages, "stages_peak_mib": memory}


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "lungscreen.cli.main", *words], check=True, stdout=subprocess.DEVNULL)


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
