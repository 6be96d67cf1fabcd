"""What the tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def shared_folder(*parts: str) -> Path:
    """A place in the folder `shared` beside the checkout (real CT); skips, saying so, where it is absent."""
    path = Path(__file__).resolve().parents[2].joinpath("shared", *parts)
    if not path.exists():
        pytest.skip(f"no real data here: {path.name} is not beside the checkout")
    return path


@pytest.fixture(scope="session", autouse=True)
def own_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A configuration folder of the tests' own: no test makes or uses the key of the person who runs them."""
    folder = tmp_path_factory.mktemp("config")
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up annotated data in the layout that the detector's training reads."""
    from small_collection import write_collection

    return write_collection(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="session")
def collection_shards(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, prepared."""
    from lungscreen.training.detector.data import prepare_cubes, prepare_scans

    out = tmp_path_factory.mktemp("shards")
    prepare_cubes(collection, out)
    prepare_scans(collection, out)
    return out
