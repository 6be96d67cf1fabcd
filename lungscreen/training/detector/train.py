"""Training of the detector: prepared shards → network.

    shards ─► engine of samples ─► steps (warm-up, stable, decay; running mean) ─► checkpoint, curves
                     ▲ false marks, hard cubes │ every `mine_every` steps
                     └─────────────────────────┘

Batches follow from their number and marks are mined at fixed steps, so a run that was stopped continues exactly
(`lungscreen.training.loop`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.detect.network import NoduleNet, build_network, describe
from lungscreen.errors import OutputError, UsageError
from lungscreen.operating_points import OPERATING_POINTS
from lungscreen.training.detector.curves import draw_curves, log_measured
from lungscreen.training.detector.loader import load_batches
from lungscreen.training.detector.measure import RATES, DetectorFigures, measure, mine
from lungscreen.training.detector.pretraining import pretrain
from lungscreen.training.detector.recipe import DetectorTraining, learning_rate
from lungscreen.training.detector.samples import MinedMarks
from lungscreen.training.detector.sides import TrainingData, read_sides
from lungscreen.training.loop import Course, Leg, LoopConfig, TrainingState, resume, run_loop
from lungscreen.weights import WeightsFile, add_weights, load_tensors

__all__ = ["detection_loss", "train_detector"]


Progress = Callable[[str], None]
Batch = tuple[Tensor, Tensor]


# -- the run ---------------------------------------------------------------------------------------------------------
def train_detector(
    config: DetectorTraining,
    shards: Path,
    out: Path,
    progress: Progress = lambda _: None,
    begin_with: Sequence[WeightsFile] = (),
    prepared: Sequence[Path] = (),
) -> NoduleNet:
    """Train, or go on with the run in `out`, to `config.schedule.steps`. Returns the EMA network.

    shards: folder of `lungscreen.training.detector.data`.
    prepared: folders of `lungscreen data prepare`, divided by their index.
    out: gets checkpoint.pt, losses.csv, measured.csv, and curves.png where matplotlib is installed, and weights/ at the
        end.
    begin_with: weights of earlier runs, of the same architecture, that this one begins with the mean of; without them
        it begins by chance. Networks that went on from the same weights may be averaged (Wortsman et al. 2022); others
        may not. Errors: `config-invalid` when `out` holds a run of another recipe or beginning, `weights-invalid`,
        `training-diverged`, `training-data-invalid`, `output-failed`.
    """
    if begin_with and config.pretraining.steps:
        raise UsageError("config-invalid", "a run begins with weights or with pre-training, not with both")
    device = _device(config.device)
    data = read_sides(config, shards, prepared)
    for line in data.said:
        progress(line)
    network, mean, optimiser = _start(config, device, begin_with)
    identity = [config.identity, *(file.sha256[:8] for file in begin_with)]
    if data.identity:
        identity.append(data.identity[:8])
    state = TrainingState("-".join(identity), network, optimiser, mean)
    out.mkdir(parents=True, exist_ok=True)
    course = _DetectorCourse(config, data, network, mean, device, out, progress)
    checkpoint, log = out / "checkpoint.pt", out / "losses.csv"
    if resume(state, course, checkpoint, [log, course.table]):
        progress(f"going on from step {state.step}")
    else:
        _begin(course, state.identity, bool(begin_with))
    schedule = config.schedule
    loop = LoopConfig(schedule.steps, schedule.clip, schedule.ema, average_buffers=False)
    run_loop(state, course, loop, checkpoint, log, progress)
    draw_curves(out)
    _export(mean, config, course.measured, out / "weights")
    return mean


def _begin(course: _DetectorCourse, identity: str, with_weights: bool) -> None:
    """What a new run does before its first step: pre-training, or mining with the weights that it begins with."""
    config = course.config
    if config.pretraining.steps:
        backbone = pretrain(config, course.data.engine, identity, course.out, course.device, course.progress)
        for network in (*course.replicas, course.mean):
            _begin_with_backbone(network, backbone)
    elif with_weights and config.schedule.mine_every:
        course.mine()


def _export(network: NoduleNet, config: DetectorTraining, measured: DetectorFigures | None, folder: Path) -> None:
    """`weights/` with manifest: the running mean, and operating points where there was something to choose them by."""
    points: dict[str, float] = {}
    if measured is not None:
        by_rate = dict(zip(RATES, measured.thresholds, strict=True))
        points = {name: by_rate[rate] for name, rate in OPERATING_POINTS.items()}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.cpu() for key, value in network.state_dict().items()}
    version = f"{config.identity[:8]}-{config.schedule.steps}"
    try:
        add_weights(folder, "detector", tensors, version, describe(config.architecture), {"operating_points": points})
    except OSError as error:
        raise OutputError("output-failed", f"cannot write the weights: {error}", str(folder)) from None


@dataclass(eq=False)
class _DetectorCourse(Course[Batch]):
    """Batches of the data engine; what the network marks wrongly, or finds hard, is drawn more often after each mining.

    replicas: `network` first; the others share its weights, have gradients of their own and run beside it in threads.
    """

    config: DetectorTraining
    data: TrainingData
    network: NoduleNet
    mean: NoduleNet
    device: torch.device
    out: Path
    progress: Progress
    measured: DetectorFigures | None = None
    replicas: list[NoduleNet] = field(init=False)
    pool: ThreadPoolExecutor | None = field(init=False)

    def __post_init__(self) -> None:
        self.replicas = [self.network, *(_twin(self.network) for _ in range(self.config.schedule.replicas - 1))]
        self.pool = ThreadPoolExecutor(len(self.replicas)) if len(self.replicas) > 1 else None

    @property
    def table(self) -> Path:
        return self.out / "measured.csv"

    def next_stop(self, step: int) -> int:
        """The next step at which something is done besides learning."""
        schedule = self.config.schedule
        every = [n for n in (schedule.mine_every, schedule.measure_every, schedule.save_every) if n]
        return min([schedule.steps, *((step // n + 1) * n for n in every)])

    def rate(self, step: int) -> float:
        return learning_rate(step, self.config.schedule)

    def batches(self, first: int, stop: int) -> Iterator[Batch]:
        engine, schedule = self.data.engine, self.config.schedule

        def make(number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            batch = engine.batch(number, schedule.batch)
            return batch.hu, batch.targets

        return load_batches(make, first, stop, schedule.workers)

    def learn(self, batch: Batch) -> dict[str, float]:
        hu, targets = (part.to(self.device) for part in batch)
        schedule = self.config.schedule
        count = (targets[:, 0] == 1).mul(targets[:, 1]).sum().clamp(min=1)

        def learn_part(part: int) -> list[float]:
            network = self.replicas[part]
            network.train().zero_grad()
            mine = slice(part, None, len(self.replicas))
            with torch.autocast(hu.device.type, torch.bfloat16):
                out = network(hu[mine].contiguous(memory_format=torch.channels_last_3d))
            heat, size, offset = detection_loss(out.float(), targets[mine], count)
            loss = heat + schedule.size_weight * size + schedule.offset_weight * offset
            loss.backward()  # type: ignore[no-untyped-call]
            return [float(value.detach()) for value in (loss, heat, size, offset)]

        parts = list(self.pool.map(learn_part, range(len(self.replicas)))) if self.pool else [learn_part(0)]
        _gather(self.replicas)
        sums = [sum(values) for values in zip(*parts, strict=True)]
        return dict(zip(("loss", "heat", "size", "offset"), sums, strict=True))

    def describe(self, leg: Leg) -> str:
        speed = (leg.stop - leg.first) * self.config.schedule.batch / leg.seconds
        return f"step {leg.stop}: loss {leg.loss:.4f}, {speed:.1f} patches a second"

    def end_leg(self, step: int) -> None:
        schedule, data = self.config.schedule, self.data
        last = step == schedule.steps
        if _due(step, schedule.mine_every) and not last:
            self.mine()
            self.progress(f"step {step}: mined {sum(map(len, data.engine.mined.scans.values()))} marks")
        if data.cubes and schedule.measure_every and (last or _due(step, schedule.measure_every)):
            self.measured = measure(self.mean, data.hu, data.cubes, data.scans, self.device)
            log_measured(self.table, step, self.measured)
            self.progress(f"step {step}: {self.measured.line()}")

    def mine(self) -> None:
        """Let the running mean look for what it marks wrongly: the engine draws it from now on."""
        engine = self.data.engine
        engine.mined = mine(self.mean, engine, self.config.schedule.mine_per_scan, self.device)

    def content(self) -> dict[str, Any]:
        mined = self.data.engine.mined
        marks = {name: torch.from_numpy(np.asarray(found)) for name, found in mined.scans.items()}
        return {"marks": marks, "cubes": dict(mined.cubes)}

    def restore(self, content: dict[str, Any]) -> None:
        for replica in self.replicas[1:]:
            replica.load_state_dict(content["network"])
        marks = {name: found.numpy() for name, found in content["marks"].items()}
        self.data.engine.mined = MinedMarks(marks, content["cubes"])


@torch.no_grad()
def _gather(replicas: Sequence[NoduleNet]) -> None:
    """The replicas' gradients go to the first, and the mean of their batch statistics to all."""
    if len(replicas) == 1:
        return
    for same in zip(*(r.parameters() for r in replicas), strict=True):
        for other in same[1:]:
            if same[0].grad is not None and other.grad is not None:
                same[0].grad.add_(other.grad)
    _share_statistics(replicas)


def _share_statistics(replicas: Sequence[NoduleNet]) -> None:
    for kept in zip(*(r.buffers() for r in replicas), strict=True):
        if kept[0].is_floating_point():
            mean = torch.stack(kept).mean(0)
            for buffer in kept:
                buffer.copy_(mean)


def detection_loss(out: Tensor, targets: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(heat, size, offset): CenterNet's focal loss (α 2, β 4) and L1 at the centres, each divided by `count`.

    out: (n, 5, …), see `NoduleNet`.
    targets: (n, 6, …), see `make_targets`.
    count: of centres, in `targets` if None.
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


def _start(
    config: DetectorTraining, device: torch.device, begin_with: Sequence[WeightsFile] = ()
) -> tuple[NoduleNet, NoduleNet, torch.optim.Optimizer]:
    """Network, running mean, optimiser."""
    torch.manual_seed(config.seed)
    network = NoduleNet(config.architecture)
    if begin_with:
        parts = [build_network(config.architecture, load_tensors(file)).state_dict() for file in begin_with]
        network.load_state_dict({key: torch.stack([p[key].float() for p in parts]).mean(0) for key in parts[0]})
    network = network.to(device)
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    mean = copy.deepcopy(network).eval().requires_grad_(False)
    plain = [p for p in network.parameters() if p.ndim < 2]
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(
        groups,
        lr=config.schedule.rate,
        weight_decay=config.schedule.weight_decay,
        fused=True,
    )
    return network, mean, optimiser


def _twin(network: NoduleNet) -> NoduleNet:
    """Another network with the same weights in memory, and gradients and batch statistics of its own."""
    twin = copy.deepcopy(network)
    for own, shared in zip(twin.parameters(), network.parameters(), strict=True):
        own.data = shared.data
    return twin


def _begin_with_backbone(network: NoduleNet, backbone: dict[str, Tensor]) -> None:
    """Take over what was learned without labels; the last layer stays as chance made it."""
    network.load_state_dict({**network.state_dict(), **backbone})


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
