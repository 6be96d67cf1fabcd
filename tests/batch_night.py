"""A night in a process of its own, for tests that kill it: python batch_night.py INBOX NIGHT."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from batch_models import MODELS, TRAPPED

from lungscreen.batch import BatchConfig, BatchRun, run_batch
from lungscreen.pipeline import read_pipeline

if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    inbox, out = map(Path, sys.argv[1:3])
    models = TRAPPED if "trapped" in sys.argv else MODELS
    config = BatchConfig(workers=1, threads=1, keep_free_mb=0.0, grace_s=4.0)
    ended = run_batch(
        BatchRun([inbox], out, read_pipeline("screening"), config=config), stopped=stop.is_set, models=models
    )
    sys.exit(0 if ended.how == "finished" else 1)
