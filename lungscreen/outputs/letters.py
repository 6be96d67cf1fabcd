"""The fonts of our PDF files, and the characters that they have."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from lungscreen.results.text import plain

if TYPE_CHECKING:
    from fpdf import FPDF

__all__ = ["FONT", "add_fonts", "in_letters"]

FONT = "DejaVu"

_MISSING = "□"
"""In the place of a character that the fonts lack."""


def add_fonts(pdf: FPDF) -> None:
    """Embed the package's fonts in a file, upright and bold."""
    for style, name in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
        with as_file(files("lungscreen.outputs").joinpath("fonts", name)) as path:
            pdf.add_font(FONT, style, str(path))


def in_letters(pdf: FPDF, text: str, longest: int = 600) -> str:
    """A bounded line in characters that the fonts have."""
    font: Any = pdf.fonts[FONT.lower()]
    known = font.cmap
    return "".join(c if ord(c) in known else _MISSING for c in plain(text, longest))
