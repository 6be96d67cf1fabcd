"""What an output is: it takes a finished study and yields named files.

Adding one: a file in this folder with a class that has `files`, and a line in `registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from lungscreen.results.finished import Finished

__all__ = ["NamedFile", "Output"]


@dataclass(frozen=True)
class NamedFile:
    """A file of a study's folder.

    content: text, bytes, or for what is large a function that writes it into an open file.
    """

    name: str
    content: str | bytes | Callable[[BinaryIO], None]


class Output(Protocol):
    """One kind of output. Made without arguments; it keeps nothing between studies."""

    def files(self, finished: Finished) -> Iterable[NamedFile]:
        """The files of a study, for its folder.

        Errors: `internal-error` where what is to be written fits no result; it costs this study only.
        """
        ...
