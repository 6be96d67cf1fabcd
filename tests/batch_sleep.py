"""Readers that sleep instead of reading: what they take is known, so that the scheduling shows. Imported by name."""

from __future__ import annotations

import time
from concurrent.futures import Future

from batch_models import USED, load

from lungscreen.batch import Models, ray_cluster
from lungscreen.batch.engines import Event
from lungscreen.batch.study import Outcome, Work
from lungscreen.batch.tasks import Task
from lungscreen.pipeline import Networks, Pipeline

SHORT_S, LONG_S = 1.5, 120.0


def load_short(pipeline: Pipeline) -> Networks:
    """From now on this reader sleeps 1.5 s a study."""
    return _sleep(pipeline, SHORT_S)


def load_long(pipeline: Pipeline) -> Networks:
    """From now on this reader sleeps two minutes a study."""
    return _sleep(pipeline, LONG_S)


def _sleep(pipeline: Pipeline, seconds: float) -> Networks:
    def sleep_over(task: Task, work: Work, networks: Future[Networks]) -> Event:
        time.sleep(seconds)
        return Event("done", task, Outcome(task.key, "refused", "not-ct"))

    ray_cluster.carry_out = sleep_over
    return load(pipeline)


SHORT, LONG = Models(load_short, USED), Models(load_long, USED)
