"""A process that ends with the one that started it, even where that is killed and can tell nobody."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

__all__ = ["end_with"]

_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when the thread that started it ends. It outlives exec(2)."""


def end_with(parent: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Get a signal when the parent ends.

    parent: its number, which tells whether it has ended already.

    Elsewhere than on Linux nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(how))
    if os.getppid() != parent:
        os._exit(1)
