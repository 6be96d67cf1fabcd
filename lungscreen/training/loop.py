"""The loop that every network is trained by.

    Course ─► batches of a leg ─► learn (gradients) ─► step, running mean ─► log, words, `end_leg`, checkpoint ─► next
    leg

A leg is the run of steps between two stops. A run is a function of its recipe, its data and its seed: a course draws
its batches from the number of the step, and the checkpoint, written at the end of each leg, holds everything else. A
run that was stopped therefore continues exactly as if it had not been.
"""

from __future__ import annotations

import csv
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from lungscreen.errors import LungscreenError, OutputError, WeightsError
from lungscreen.training.checkpoint import load_checkpoint, save_checkpoint

__all__ = [
    "Course",
    "Leg",
    "LoopConfig",
    "TrainingState",
    "append_rows",
    "forget_after",
    "resume",
    "run_loop",
    "update_mean",
]

Net = TypeVar("Net", bound=nn.Module)
Batch = TypeVar("Batch")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class LoopConfig:
    """How a course is run.

    steps: number of the last one, counted from the run's beginning.
    clip: largest norm of a gradient.
    ema: highest decay of the running mean of the weights.
    average_buffers: whether batch statistics are averaged as the weights are; they are running means already, and
        otherwise taken over.
    """

    steps: int
    clip: float
    ema: float = 0.0
    average_buffers: bool = True


@dataclass(eq=False)
class TrainingState(Generic[Net]):
    """Everything of a run that changes, which is what its checkpoint holds.

    identity: hash of the recipe and the data.
    mean: the running mean of the weights, where one is kept; it is what ships.
    step: steps done.
    """

    identity: str
    network: Net
    optimiser: torch.optim.Optimizer
    mean: Net | None = None
    step: int = 0


@dataclass(frozen=True)
class Leg:
    """The steps `first` to `stop` - 1: the mean of their losses, and how long they took."""

    first: int
    stop: int
    loss: float
    seconds: float


class Course(ABC, Generic[Batch]):
    """What is learned, and from what: a training tells the loop."""

    @abstractmethod
    def next_stop(self, step: int) -> int:
        """The step, above `step`, at which the leg ends."""

    @abstractmethod
    def rate(self, step: int) -> float:
        """Learning rate of step number `step`, counted from 0."""

    @abstractmethod
    def batches(self, first: int, stop: int) -> Iterable[Batch]:
        """The batches of the steps `first` to `stop` - 1. What is drawn follows from these numbers and the seed."""

    @abstractmethod
    def learn(self, batch: Batch) -> dict[str, float]:
        """Set the network's gradients by a batch, and nothing else. Returns the losses; "loss" is their sum."""

    @abstractmethod
    def describe(self, leg: Leg) -> str:
        """A line of progress."""

    def end_leg(self, step: int) -> None:  # noqa: ARG002 (for those that do more)
        """What else is done at a stop, before the checkpoint is written: measuring, looking for false marks."""
        return

    def content(self) -> dict[str, Any]:
        """What the checkpoint holds beside the state."""
        return {}

    def restore(self, content: dict[str, Any]) -> None:  # noqa: ARG002 (as above)
        """Take `content` back.

        Errors: KeyError, ValueError or RuntimeError where it is not there.
        """
        return


def run_loop(
    state: TrainingState[Net],
    course: Course[Batch],
    config: LoopConfig,
    checkpoint: Path | None = None,
    log: Path | None = None,
    progress: Progress = lambda _: None,
) -> None:
    """Train from `state.step` to `config.steps`. `state` changes.

    checkpoint: written at the end of each leg.
    log: CSV file that gets a row of losses a step. Errors: `training-diverged` where a loss is not finite (the last
        checkpoint stands), `output-failed`.
    """
    while state.step < config.steps:
        began, first = time.perf_counter(), state.step
        stop = min(config.steps, course.next_stop(first))
        rows = [_take_step(state, course, config, batch) for batch in course.batches(first, stop)]
        if log:
            append_rows(log, rows)
        loss = sum(row["loss"] for row in rows) / len(rows)
        progress(course.describe(Leg(first, stop, loss, time.perf_counter() - began)))
        course.end_leg(stop)
        if checkpoint:
            save_checkpoint({**_content(state), **course.content()}, checkpoint)


def resume(state: TrainingState[Net], course: Course[Batch], checkpoint: Path, logs: Iterable[Path] = ()) -> bool:
    """Continue a run from its checkpoint, if there is one; returns whether there was. Rows of `logs` beyond it are cut.

    Errors: `config-invalid` for the checkpoint of another run, `training-data-invalid` where it cannot be read.
    """
    if not checkpoint.exists():
        return False
    content = load_checkpoint(checkpoint, state.identity)
    try:
        state.network.load_state_dict(content["network"])
        if state.mean is not None:
            state.mean.load_state_dict(content["ema"])
        state.optimiser.load_state_dict(content["optimiser"])
        state.step = int(content["step"])
        course.restore(content)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = f"cannot read the checkpoint: {error}"
        raise LungscreenError("training-data-invalid", reason, str(checkpoint)) from None
    for log in logs:
        forget_after(log, state.step)
    return True


# -- one step --------------------------------------------------------------------------------------------------------
def _take_step(state: TrainingState[Net], course: Course[Batch], config: LoopConfig, batch: Batch) -> dict[str, float]:
    """Down the gradient of the loss, its norm at most `config.clip`. Returns the row of the log.

    Errors: `training-diverged` where a loss is not finite: the weights have not been changed then.
    """
    rate = course.rate(state.step)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    losses = course.learn(batch)
    if not math.isfinite(sum(losses.values())):
        reason = f"the loss is {losses} at step {state.step + 1}: the last checkpoint stands; try a lower rate"
        raise WeightsError("training-diverged", reason)
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.clip)
    state.optimiser.step()
    if state.mean is not None:
        update_mean(state.mean, state.network, config, state.step)
    state.step += 1
    return {"step": state.step, "rate": rate, **losses}


@torch.no_grad()
def update_mean(mean: nn.Module, network: nn.Module, config: LoopConfig, step: int) -> None:
    """The running mean follows the network after step number `step`, counted from 0; its decay rises to
    `config.ema`.
    """
    decay = min(config.ema, (1 + step) / (10 + step))
    kept: list[torch.Tensor] = list(mean.parameters())
    torch._foreach_lerp_(kept, [p.detach() for p in network.parameters()], 1 - decay)
    for buffer, now in zip(mean.buffers(), network.buffers(), strict=True):
        if config.average_buffers and buffer.dtype.is_floating_point:
            buffer.lerp_(now, 1 - decay)
        else:
            buffer.copy_(now)


def _content(state: TrainingState[Net]) -> dict[str, Any]:
    return {
        "identity": state.identity,
        "step": state.step,
        "network": state.network.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        **({} if state.mean is None else {"ema": state.mean.state_dict()}),
    }


# -- the log ---------------------------------------------------------------------------------------------------------
def append_rows(path: Path, rows: list[dict[str, float]]) -> None:
    """Append rows to a CSV file, which starts with their names.

    Errors: `output-failed`.
    """
    try:
        new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            if new:
                writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise OutputError("output-failed", f"cannot write: {error}", str(path)) from None


def forget_after(path: Path, step: int) -> None:
    """Cut the rows of steps that the checkpoint has not seen: these steps will be done again."""
    if not path.exists():
        return
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if int(row.split(",")[0]) <= step]
    path.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")
