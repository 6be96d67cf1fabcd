"""Foreign text (from headers, file names, messages) made plain before it reaches a terminal or a log."""

from __future__ import annotations

__all__ = ["plain_text"]

LONGEST = 500
"""Characters of foreign text shown at most."""


def plain_text(text: str, longest: int = LONGEST) -> str:
    """Foreign text made safe for one line of terminal or log: control characters become '?', the rest is cut."""
    line = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return line if len(text) <= longest else f"{line[:longest]}…"
