"""lungscreen reads low-dose chest CT for lung-cancer screening. For research use; not a diagnosis.

    folder ─► Series ─► Volume ─► Lungs ─► Candidate… ─► Finding… ─► Report ─► files
            series   volume    lungs     detect        classify    report

`lungscreen.pipeline` shows the whole chain on one page. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

__version__ = "0.1.0"

__all__ = ["RESEARCH_USE", "CallableStage", "__version__"]

RESEARCH_USE = "For research use only. Not a diagnosis."
"""Stands on everything that this software writes."""


class CallableStage(ModuleType):
    """The package `lungscreen.detect` is a stage; called, it is the function of that name of `lungscreen.api`."""

    def __call__(self, *words: Any, **options: Any) -> Any:
        """See `lungscreen.api.detect`."""
        from lungscreen import api

        return api.detect(*words, **options)


def __getattr__(name: str) -> Any:
    """`lungscreen.screen` and `lungscreen.detect`, imported when they are asked for: see `lungscreen.api`."""
    if name == "screen":
        from lungscreen import api

        return api.screen
    if name == "detect":
        import importlib

        return importlib.import_module("lungscreen.detect")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
