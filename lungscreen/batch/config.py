"""How a night is run: limits, waits, workers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BatchConfig"]


@dataclass(frozen=True)
class BatchConfig:
    """The settings of a run; none of them changes a result."""

    workers: int | None = None
    """Processes that read studies; by cores and memory where None."""
    threads: int | None = None
    """Threads of each worker; the cores shared out where None."""
    worker_memory_mb: float | None = None
    """Memory that a worker may take before the study that it has costs an attempt; its share of the machine's where
    None."""
    study_limit_s: float = 1800.0
    """A study that takes longer costs an attempt."""
    load_limit_s: float = 600.0
    """A worker that has not loaded its networks after this long is ended."""
    most_attempts: int = 2
    """Attempts after which a study is failed."""
    most_interruptions: int = 3
    """A study that was running at so many interruptions is run last and alone, once."""
    grace_s: float = 20.0
    """What is running when the run is asked to stop may take this long to finish; then it is put back."""
    poll_s: float = 10.0
    """Watching: from the end of one look at the inputs to the next."""
    quiet_s: float = 60.0
    """Watching: a study to which nothing was added for so long, and which has no hole, is complete."""
    hole_s: float = 900.0
    """Watching: a study that keeps a hole for so long is taken as it is."""
    keep_free_mb: float = 200.0
    """No study is started while `--out` has less space than this."""
    full_wait_s: float = 30.0
    """How long to wait before looking at a full disk again."""
    full_limit_s: float = 1800.0
    """A disk that stays full for so long ends the run."""
    away_limit_s: float = 1800.0
    """Studies whose files cannot be reached are tried again for so long; then they wait for the next run."""
    tables_every_s: float = 300.0
    """How often worklist and morning page are written while studies are being read."""

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "worker_memory_mb", "most_attempts", "most_interruptions"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1")
        for name in ("study_limit_s", "load_limit_s", "poll_s", "full_wait_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0")
        for name in ("grace_s", "quiet_s", "hole_s", "keep_free_mb", "full_limit_s", "away_limit_s", "tables_every_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more")
