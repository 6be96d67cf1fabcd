"""How the input is searched."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SeriesConfig"]


@dataclass(frozen=True)
class SeriesConfig:
    """Limits on what is opened; the rules of the choice are data in `lungscreen.series.choice`."""

    most_archive_members: int = 50_000
    """Members of one zip archive."""
    most_member_mb: float = 2048.0
    """One member of a zip archive, unpacked, in MB."""
    most_archive_mb: float = 32768.0
    """All members of a zip archive, unpacked, in MB."""
    most_ratio: float = 200.0
    """Unpacked size over packed size of an archive, or of a member above 4 MB."""

    def __post_init__(self) -> None:
        for name in ("most_archive_members", "most_member_mb", "most_archive_mb", "most_ratio"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0")
