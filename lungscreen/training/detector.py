"""Training of the detector: prepared shards → network.

    shards ─► engine of samples ─► steps (warm-up, stable, decay; EMA) ─► checkpoint, curves
                     ▲ false marks, hard cubes │ every `mine_every` steps
                     └────────────────────────┘

A run is a function of its configuration, its data and its seed: batches follow from their number, marks are mined at
fixed steps, the checkpoint holds everything else, so a run that was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.detect.network import NoduleNet, build_network, describe
from lungscreen.errors import LungscreenError, OutputError, UsageError
from lungscreen.training.checkpoint import load_checkpoint, save_checkpoint
from lungscreen.training.detector_curves import append_rows, draw_curves, forget_after, log_measured
from lungscreen.training.detector_loader import load_batches
from lungscreen.training.detector_measure import RATES, Measured, measure, mine
from lungscreen.training.detector_pretraining import pretrain
from lungscreen.training.detector_recipe import DetectorTraining, Schedule, learning_rate
from lungscreen.training.detector_samples import Engine, MinedMarks
from lungscreen.training.detector_sides import read_sides
from lungscreen.weights import WeightsFile, add_weights, load_tensors

__all__ = ["OPERATING_RATES", "detection_loss", "train_detector"]


OPERATING_RATES = {"screening": 4.0, "second-reader": 1.0, "high-specificity": 0.5}
"""Operating point → false marks per 5 litres of lung (about a scan) on what is kept for choices."""


@dataclass(eq=False)
class _State:
    """All that a checkpoint holds."""

    identity: str
    """Of the recipe, and of what the run began with."""
    network: NoduleNet
    ema: NoduleNet
    optimiser: torch.optim.Optimizer
    step: int
    mined: MinedMarks
    replicas: list[NoduleNet]
    """`network` first; the others share its weights and have gradients of their own."""
    pool: ThreadPoolExecutor | None


# -- the run ---------------------------------------------------------------------------------------------------------
def train_detector(
    config: DetectorTraining,
    shards: Path,
    out: Path,
    progress: Callable[[str], None] = lambda _: None,
    begin_with: Sequence[WeightsFile] = (),
    prepared: Sequence[Path] = (),
) -> NoduleNet:
    """Train, or go on with the run in `out`, to `config.schedule.steps`. Returns the EMA network.

    shards: folder of `lungscreen.training.detector_data`.  prepared: folders of `lungscreen data prepare`,
    divided by their index.  out: gets checkpoint.pt, losses.csv, measured.csv, and
    curves.png where matplotlib is installed, and weights/ at the end.  begin_with: weights of earlier runs, of the
    same architecture, that this one begins with the mean of; without them it begins by chance. Networks that went on
    from the same weights may be averaged (Wortsman et al. 2022); others may not.
    Errors: `config-invalid` when `out` holds a run of another recipe or beginning, `weights-invalid`,
    `training-diverged`, `training-data-invalid`, `output-failed`.
    """
    if begin_with and config.pretraining.steps:
        raise UsageError("config-invalid", "a run begins with weights or with pre-training, not with both")
    device = _device(config.device)
    data = read_sides(config, shards, prepared)
    engine = data.engine
    for line in data.said:
        progress(line)
    state = _start(config, device, begin_with)
    state.identity += f"-{data.identity[:8]}" if data.identity else ""
    out.mkdir(parents=True, exist_ok=True)
    saved = out / "checkpoint.pt"
    if saved.exists():
        _restore(state, saved)
        for name in ("losses.csv", "measured.csv"):
            forget_after(out / name, state.step)
        progress(f"going on from step {state.step}")
    elif config.pretraining.steps:
        _begin_with_backbone(state, pretrain(config, engine, state.identity, out, device, progress))
    elif begin_with and config.schedule.mine_every:
        state.mined = mine(state.ema, engine, config.schedule.mine_per_scan, device)
    engine.mined = state.mined
    measured: Measured | None = None
    while state.step < config.schedule.steps:
        stop = _next_stop(state.step, config.schedule)
        _run_steps(config, state, engine, stop, device, out, progress)
        if _due(state.step, config.schedule.mine_every) and state.step < config.schedule.steps:
            state.mined = engine.mined = mine(state.ema, engine, config.schedule.mine_per_scan, device)
            progress(f"step {state.step}: mined {sum(map(len, state.mined.scans.values()))} marks")
        last = state.step == config.schedule.steps
        if data.cubes and config.schedule.measure_every and (last or _due(state.step, config.schedule.measure_every)):
            measured = measure(state.ema, data.hu, data.cubes, data.scans, device)
            log_measured(out / "measured.csv", state.step, measured)
            progress(f"step {state.step}: {measured.line()}")
        save_checkpoint(_content(state), saved)
    draw_curves(out)
    _export(state.ema, config, measured, out / "weights")
    return state.ema


def _export(network: NoduleNet, config: DetectorTraining, measured: Measured | None, folder: Path) -> None:
    """`weights/` with manifest: the running mean, and operating points where there was something to choose them by."""
    points: dict[str, float] = {}
    if measured is not None:
        by_rate = dict(zip(RATES, measured.thresholds, strict=True))
        points = {name: by_rate[rate] for name, rate in OPERATING_RATES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.cpu() for key, value in network.state_dict().items()}
    version = f"{config.identity[:8]}-{config.schedule.steps}"
    try:
        add_weights(folder, "detector", tensors, version, describe(config.architecture), {"operating_points": points})
    except OSError as error:
        raise OutputError("output-failed", f"cannot write the weights: {error}", str(folder)) from None


def _run_steps(
    config: DetectorTraining,
    state: _State,
    engine: Engine,
    stop: int,
    device: torch.device,
    out: Path,
    progress: Callable[[str], None],
) -> None:
    rows: list[dict[str, float]] = []
    began = time.perf_counter()
    first = state.step

    def make(number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        batch = engine.batch(number, config.schedule.batch)
        return batch.hu, batch.targets

    for hu, targets in load_batches(make, first, stop, config.schedule.workers):
        losses = _step(config, state, hu.to(device), targets.to(device))
        state.step += 1
        rows.append({"step": state.step, "rate": learning_rate(state.step - 1, config.schedule), **losses})
        if not math.isfinite(sum(losses.values())):
            raise LungscreenError(
                "training-diverged", f"the loss is {losses} at step {state.step}: the last checkpoint stands"
            )
    append_rows(out / "losses.csv", rows)
    mean = sum(row["loss"] for row in rows) / len(rows)
    speed = (stop - first) * config.schedule.batch / (time.perf_counter() - began)
    progress(f"step {stop}: loss {mean:.4f}, {speed:.1f} patches a second")


def _step(config: DetectorTraining, state: _State, hu: Tensor, targets: Tensor) -> dict[str, float]:
    schedule = config.schedule
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(state.step, schedule)
    count = (targets[:, 0] == 1).mul(targets[:, 1]).sum().clamp(min=1)

    def learn(part: int) -> list[float]:
        network = state.replicas[part]
        network.train().zero_grad(set_to_none=True)
        mine = slice(part, None, len(state.replicas))
        with torch.autocast(hu.device.type, torch.bfloat16):
            out = network(hu[mine].contiguous(memory_format=torch.channels_last_3d))
        heat, size, offset = detection_loss(out.float(), targets[mine], count)
        loss = heat + schedule.size_weight * size + schedule.offset_weight * offset
        loss.backward()  # type: ignore[no-untyped-call]
        return [float(value.detach()) for value in (loss, heat, size, offset)]

    parts = list(state.pool.map(learn, range(len(state.replicas)))) if state.pool else [learn(0)]
    sums = [sum(values) for values in zip(*parts, strict=True)]
    if math.isfinite(sums[0]):
        _gather(state)
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), schedule.clip)
        state.optimiser.step()
        _average(state, min(schedule.ema, (1 + state.step) / (10 + state.step)))
    return dict(zip(("loss", "heat", "size", "offset"), sums, strict=True))


@torch.no_grad()
def _gather(state: _State) -> None:
    """The replicas' gradients go to the network, and the mean of their batch statistics to all."""
    if len(state.replicas) == 1:
        return
    for same in zip(*(r.parameters() for r in state.replicas), strict=True):
        for other in same[1:]:
            if same[0].grad is not None and other.grad is not None:
                same[0].grad.add_(other.grad)
    for kept in zip(*(r.buffers() for r in state.replicas), strict=True):
        if kept[0].is_floating_point():
            mean = torch.stack(kept).mean(0)
            for buffer in kept:
                buffer.copy_(mean)


@torch.no_grad()
def _average(state: _State, decay: float) -> None:
    """The EMA takes a step; batch statistics are already running means."""
    mean: list[Tensor] = list(state.ema.parameters())
    now = [p.detach() for p in state.network.parameters()]
    torch._foreach_lerp_(mean, now, 1 - decay)
    for kept, buffer in zip(state.ema.buffers(), state.network.buffers(), strict=True):
        kept.copy_(buffer)


def detection_loss(out: Tensor, targets: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(heat, size, offset): CenterNet's focal loss (α 2, β 4) and L1 at the centres, each divided by `count`.

    out: (n, 5, …), see `NoduleNet`.  targets: (n, 6, …), see `make_targets`.  count: of centres, in `targets` if None.
    """
    logit, heat, weight = out[:, 0], targets[:, 0], targets[:, 1]
    centre = (heat == 1).float() * weight
    probability = logit.sigmoid()
    found = functional.logsigmoid(logit) * (1 - probability) ** 2 * centre
    quiet = functional.logsigmoid(-logit) * probability**2 * (1 - heat) ** 4 * weight * (heat < 1)
    count = centre.sum().clamp(min=1) if count is None else count
    size = ((out[:, 1] - targets[:, 2]).abs() * centre).sum() / count
    offset = ((out[:, 2:5] - targets[:, 3:6]).abs().sum(1) * centre).sum() / count
    return -(found.sum() + quiet.sum()) / count, size, offset


# -- state -----------------------------------------------------------------------------------------------------------
def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("config-invalid", "device: there is no usable GPU here")
    return torch.device(wanted)


def _start(config: DetectorTraining, device: torch.device, begin_with: Sequence[WeightsFile] = ()) -> _State:
    torch.manual_seed(config.seed)
    network = NoduleNet(config.architecture)
    if begin_with:
        parts = [build_network(config.architecture, load_tensors(file)).state_dict() for file in begin_with]
        network.load_state_dict({key: torch.stack([p[key].float() for p in parts]).mean(0) for key in parts[0]})
    network = network.to(device)
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    ema = copy.deepcopy(network).eval().requires_grad_(False)
    plain = [p for p in network.parameters() if p.ndim < 2]
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(
        groups,
        lr=config.schedule.rate,
        weight_decay=config.schedule.weight_decay,
        fused=True,
    )
    replicas = [network]
    for _ in range(config.schedule.replicas - 1):
        twin = copy.deepcopy(network)
        for own, shared in zip(twin.parameters(), network.parameters(), strict=True):
            own.data = shared.data
        replicas.append(twin)
    pool = ThreadPoolExecutor(len(replicas)) if len(replicas) > 1 else None
    identity = "-".join([config.identity, *(file.sha256[:8] for file in begin_with)])
    return _State(identity, network, ema, optimiser, 0, MinedMarks(), replicas, pool)


def _content(state: _State) -> dict[str, Any]:
    return {
        "identity": state.identity,
        "step": state.step,
        "network": state.network.state_dict(),
        "ema": state.ema.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "marks": {name: torch.from_numpy(np.asarray(marks)) for name, marks in state.mined.scans.items()},
        "cubes": dict(state.mined.cubes),
    }


def _restore(state: _State, path: Path) -> None:
    content = load_checkpoint(path, state.identity)
    try:
        for replica in state.replicas:
            replica.load_state_dict(content["network"])
        state.ema.load_state_dict(content["ema"])
        state.optimiser.load_state_dict(content["optimiser"])
        state.step = content["step"]
        state.mined = MinedMarks({k: v.numpy() for k, v in content["marks"].items()}, content["cubes"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise LungscreenError("training-data-invalid", f"cannot read the checkpoint: {error}", str(path)) from None


def _begin_with_backbone(state: _State, backbone: dict[str, Tensor]) -> None:
    """What was learned without labels; the last layer stays as chance made it."""
    for network in (*state.replicas, state.ema):
        network.load_state_dict({**network.state_dict(), **backbone})


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _next_stop(step: int, schedule: Schedule) -> int:
    """The next step at which something is done besides learning."""
    every = [n for n in (schedule.mine_every, schedule.measure_every, schedule.save_every) if n]
    return min([schedule.steps, *((step // n + 1) * n for n in every)])
