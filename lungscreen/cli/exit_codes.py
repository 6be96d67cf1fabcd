"""What the process says when it ends."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """Exit codes of every command. They never change their meaning."""

    OK = 0
    """Everything was read."""
    FAILED = 1
    """The command as a whole failed; the message carries the code."""
    USAGE = 2
    """The command line or a configuration is wrong; nothing was done."""
    SOME_REFUSED = 3
    """The run is complete, but some studies were refused or failed: see refused.csv."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C."""
