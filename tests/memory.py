"""A command ─► the most memory that it and all its processes have at once, sampled; pages that they share count once.

`python -m tests.memory -- lungscreen screen FOLDER --out OUT` prints it.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Use", "watch_command"]

EVERY_S = 0.1


@dataclass(frozen=True)
class Use:
    """What a command took. status: its exit status, None where it was ended for its time."""

    peak_mb: float
    seconds: float
    processor_s: float
    status: int | None
    output: str


def watch_command(command: Sequence[str], longest_s: float = 600.0) -> Use:
    """Run a command and watch its whole process tree (Linux)."""
    begin, peak, before = time.monotonic(), 0.0, _processor_s()
    process = subprocess.Popen(list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None:
        peak = max(peak, sum(map(_share_mb, _tree(process.pid))))
        if time.monotonic() - begin > longest_s:
            for one in reversed(_tree(process.pid)):
                subprocess.run(["kill", "-9", str(one)], check=False)
            break
        time.sleep(EVERY_S)
    seconds = time.monotonic() - begin
    late = seconds > longest_s
    output = process.communicate()[0]
    return Use(peak, seconds, _processor_s() - before, None if late else process.returncode, output)


def _processor_s() -> float:
    """Of all children that ended, theirs with them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tree(root: int) -> list[int]:
    """A process and all that it started."""
    found, waiting = [root], [root]
    while waiting:
        for path in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            try:
                children = [int(number) for number in path.read_text().split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found


def _share_mb(process: int) -> float:
    """Proportional set size: a page that n processes share counts as an nth for each."""
    try:
        found = re.search(r"^Pss:\s*(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    """The command stands behind `--`."""
    use = watch_command(sys.argv[sys.argv.index("--") + 1 :])
    sys.stdout.write(f"{use.peak_mb:.0f} MiB, {use.seconds:.1f} s, status {use.status}\n{use.output[-2000:]}")


if __name__ == "__main__":
    main()
