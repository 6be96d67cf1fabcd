"""The loop that all trainings share, on a course that can be worked out by hand: one weight, drawn to targets."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from lungscreen.errors import LungscreenError, UsageError, WeightsError
from lungscreen.training.checkpoint import load_checkpoint, save_checkpoint
from lungscreen.training.loop import Course, Leg, LoopConfig, TrainingState, resume, run_loop

CONFIG = LoopConfig(steps=5, clip=100.0, ema=0.9)


class OneWeight(Course[float]):
    """Batches 1, 2, 3 …; the loss is half the squared distance of the weight to the batch; the rate is 0.5."""

    def __init__(self, network: nn.Linear) -> None:
        self.network = network
        self.stops: list[int] = []
        self.ruined_at = 0.0

    def next_stop(self, step: int) -> int:
        return step + 2

    def rate(self, step: int) -> float:
        return 0.5

    def batches(self, first: int, stop: int) -> Iterator[float]:
        yield from (float(n + 1) for n in range(first, stop))

    def learn(self, batch: float) -> dict[str, float]:
        self.network.zero_grad()
        loss = 0.5 * (self.network.weight - batch).square().sum()
        loss.backward()
        return {"loss": float("nan") if batch == self.ruined_at else float(loss.detach())}

    def describe(self, leg: Leg) -> str:
        return f"{leg.first}-{leg.stop}: {leg.loss:.3f}"

    def end_leg(self, step: int) -> None:
        self.stops.append(step)


def begin(mean: bool = True) -> tuple[TrainingState[nn.Linear], OneWeight]:
    networks = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    for network in networks:
        nn.init.zeros_(network.weight)
    optimiser = torch.optim.SGD(networks[0].parameters(), 1.0)
    state = TrainingState("me", networks[0], optimiser, networks[1] if mean else None)
    return state, OneWeight(networks[0])


def test_weights_mean_and_log_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    """A step of rate 0.5 goes half way; the mean keeps 0.1, 2/11, 3/12 … of itself; a leg has two steps."""
    state, course = begin()
    lines: list[str] = []
    run_loop(state, course, CONFIG, tmp_path / "c.pt", tmp_path / "log.csv", lines.append)
    weight = mean = 0.0
    losses = []
    for step in range(5):
        losses.append(0.5 * (weight - (step + 1)) ** 2)
        weight += 0.5 * (step + 1 - weight)
        mean += (1 - (1 + step) / (10 + step)) * (weight - mean)
    assert state.network.weight.item() == pytest.approx(weight)
    assert state.mean is not None
    assert state.mean.weight.item() == pytest.approx(mean)
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == pytest.approx(losses)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert course.stops == [2, 4, 5]
    assert lines == [f"{a}-{b}: {sum(losses[a:b]) / (b - a):.3f}" for a, b in ((0, 2), (2, 4), (4, 5))]


def test_the_decay_of_the_mean_is_at_most_what_was_asked_for() -> None:
    state, course = begin()
    run_loop(state, course, LoopConfig(steps=5, clip=100.0, ema=0.0))
    assert state.mean is not None
    assert state.mean.weight.item() == state.network.weight.item()


@pytest.mark.parametrize("average", [True, False])
def test_batch_statistics_are_averaged_or_taken_over(average: bool) -> None:
    network, mean = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    network.running_mean.fill_(8.0)
    network.num_batches_tracked.fill_(3)
    state = TrainingState("me", network, torch.optim.SGD(network.parameters(), 1.0), mean)

    class Still(OneWeight):
        def learn(self, batch: float) -> dict[str, float]:
            return {"loss": 0.0}

    run_loop(state, Still(nn.Linear(1, 1)), LoopConfig(1, 1.0, 0.9, average_buffers=average))
    assert mean.running_mean.item() == pytest.approx(7.2 if average else 8.0)
    assert mean.num_batches_tracked.item() == 3


def test_a_gradient_is_clipped() -> None:
    state, course = begin(mean=False)
    run_loop(state, course, LoopConfig(steps=1, clip=0.25))
    assert state.network.weight.item() == pytest.approx(0.125, rel=1e-3)


def test_a_loss_that_is_no_number_changes_no_weight_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    """The run continues from there, and the log holds each step once."""
    state, course = begin()
    course.ruined_at = 4.0
    with pytest.raises(WeightsError, match="step 4") as caught:
        run_loop(state, course, CONFIG, tmp_path / "c.pt", tmp_path / "log.csv")
    assert caught.value.code == "training-diverged"
    assert load_checkpoint(tmp_path / "c.pt", "me")["step"] == 2
    whole, same = begin()
    run_loop(whole, same, CONFIG)
    again, course = begin()
    assert resume(again, course, tmp_path / "c.pt", [tmp_path / "log.csv"])
    run_loop(again, course, CONFIG, tmp_path / "c.pt", tmp_path / "log.csv")
    assert again.network.weight.item() == whole.network.weight.item()
    assert [line.split(",")[0] for line in (tmp_path / "log.csv").read_text().splitlines()[1:]] == list("12345")


def test_checkpoints_of_others_or_without_their_parts_are_refused(tmp_path: Path) -> None:
    state, course = begin()
    assert not resume(state, course, tmp_path / "c.pt")
    run_loop(state, course, CONFIG, tmp_path / "c.pt")
    state.identity = "you"
    with pytest.raises(UsageError, match="another recipe"):
        resume(state, course, tmp_path / "c.pt")
    content = load_checkpoint(tmp_path / "c.pt", "me")
    del content["ema"]
    save_checkpoint(content, tmp_path / "c.pt")
    state.identity = "me"
    with pytest.raises(LungscreenError) as caught:
        resume(state, course, tmp_path / "c.pt")
    assert caught.value.code == "training-data-invalid"
