"""Progress bars: on a terminal only, and without a lock between processes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping

__all__ = ["progress_bar", "quiet_progress"]


def quiet_progress() -> None:
    """Tqdm makes a semaphore of the system's for its bars, which stays behind when the process is killed: here threads
    alone share a terminal, and a lock of this process does.
    """
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


def progress_bar(counts: Callable[[], Mapping[str, int]]) -> Callable[[], None]:
    """What to call now and then to show how many studies have ended; nothing where nobody looks."""
    if not sys.stderr.isatty():
        return lambda: None
    from tqdm import tqdm

    bar = tqdm(desc="studies", unit="study", total=0, leave=False)

    def show() -> None:
        found = counts()
        bar.total = sum(found.values())
        bar.n = bar.total - found["waiting"] - found["running"]
        bar.refresh()

    return show
