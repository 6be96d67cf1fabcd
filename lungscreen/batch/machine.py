"""Cores and memory that this process may use ─► how many workers, with how many threads each.

A container's limits count, not the machine's size (cgroup v2 and v1).
"""

from __future__ import annotations

import re
import resource
from dataclasses import dataclass
from pathlib import Path

from lungscreen.batch.config import BatchConfig
from lungscreen.threads import own_cores

__all__ = ["WORKER_MB", "Machine", "look_at_machine", "memory_limit_mb", "resident_mb", "share_out"]

WORKER_MB = 4096
"""Memory that a worker is given room for. On a scan of 304 slices its two processes took 0.6 and 1.2 GiB at most."""

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")

SPARE_SHARE = 0.1
"""Of the memory, what workers may not take together."""

NO_LIMIT_BYTES = 1 << 60
"""cgroup v1 writes a number near 2**63 for "no limit"."""


@dataclass(frozen=True)
class Machine:
    """What may be used."""

    cores: float
    memory_mb: float


def look_at_machine(root: Path = CGROUP, own: Path = OWN_CGROUP, meminfo: Path = MEMINFO) -> Machine:
    """Cores by affinity and cgroup quota, memory by size and cgroup limit; at least one core."""
    cores = float(own_cores())
    memory = _total_memory(meminfo)
    for folder in _cgroup_folders(root, own):
        cores = min(cores, _quota(folder))
        memory = min(memory, _limit(folder))
    return Machine(max(1.0, cores), memory / 2**20)


def share_out(machine: Machine, config: BatchConfig) -> tuple[int, int]:
    """Workers and threads of each: one worker a core as far as memory goes, left-over cores as threads."""
    by_memory = max(1, int(machine.memory_mb // WORKER_MB))
    workers = config.workers or max(1, min(int(machine.cores), by_memory))
    threads = config.threads or max(1, int(machine.cores) // workers)
    return workers, threads


def memory_limit_mb(machine: Machine, config: BatchConfig, workers: int) -> float:
    """What one worker may take: as configured, or its share of the memory."""
    return config.worker_memory_mb or (1 - SPARE_SHARE) * machine.memory_mb / workers


def resident_mb(process: int) -> float:
    """Memory that a process has in use now; 0 where it has ended, or the system does not tell."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0.0
    return int(pages) * resource.getpagesize() / 2**20


def _total_memory(meminfo: Path) -> float:
    try:
        found = re.search(r"MemTotal:\s*(\d+) kB", meminfo.read_text(encoding="ascii"))
    except OSError:
        found = None
    return float(found[1]) * 1024 if found else WORKER_MB * 2.0**20


def _cgroup_folders(root: Path, own: Path) -> list[Path]:
    """Where limits of this process may stand: its own group and every one above it."""
    folders = [root, root / "memory", root / "cpu"]
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        base = root / controllers.split(",")[0] if controllers else root
        parts = [part for part in path.split("/") if part not in ("", "..")]
        folders += [base.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    return folders


def _quota(folder: Path) -> float:
    """Cores that a group may use."""
    quota, period = ([*_words(folder / "cpu.max"), "", ""])[:2]
    if not quota:
        quota = "".join(_words(folder / "cpu.cfs_quota_us"))
        period = "".join(_words(folder / "cpu.cfs_period_us"))
    try:
        return float(quota) / float(period) if float(quota) > 0 and float(period) > 0 else float("inf")
    except ValueError:
        return float("inf")


def _limit(folder: Path) -> float:
    """Bytes of memory that a group may use."""
    for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
        words = _words(folder / name)
        if words and words[0].isdecimal() and int(words[0]) < NO_LIMIT_BYTES:
            return float(words[0])
    return float("inf")


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
