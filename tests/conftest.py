"""What the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


def shared_folder(*parts: str) -> Path:
    """A place in the folder `shared` beside the checkout (real CT); skips, saying so, where it is absent."""
    path = Path(__file__).resolve().parents[2].joinpath("shared", *parts)
    if not path.exists():
        pytest.skip(f"no real data here: {path.name} is not beside the checkout")
    return path
