"""Progress bars without a lock between processes."""

from __future__ import annotations

import threading

__all__ = ["quiet_progress"]


def quiet_progress() -> None:
    """Tqdm makes a semaphore of the system's for its bars, which stays behind when the process is killed: here threads
    alone share a terminal, and a lock of this process does.
    """
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())
