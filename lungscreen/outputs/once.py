"""What several outputs of a study need is made once for all of them, and let go with the study."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from lungscreen.results.finished import Finished

__all__ = ["once_per_study"]

Made = TypeVar("Made")


def once_per_study(make: Callable[[Finished], Made]) -> Callable[[Finished], Made]:
    """Keep what a function makes of a study for as long as the study is there.

    make: its result is shared, so nobody changes it, and must not hold the study.
    """
    made: WeakKeyDictionary[Finished, Made] = WeakKeyDictionary()

    @wraps(make)
    def get(finished: Finished) -> Made:
        if finished not in made:
            made[finished] = make(finished)
        return made[finished]

    return get
