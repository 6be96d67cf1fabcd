"""room.toml ─► RoomConfig: how a programme reads, and what the service allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lungscreen.config import read_table, read_toml

__all__ = ["DoubleReading", "Limits", "Mode", "Oidc", "RoomConfig", "read_room_config"]

Mode = Literal["second-reader", "concurrent", "triage"]


@dataclass(frozen=True)
class DoubleReading:
    """Which studies are read twice, by suspicion tier: 1 to 10, deciles of the site's own reference nights.

    A tier is no cancer risk. Evidence for reading by tier comes from mammography; NELSON found no gain from consensus
    double reading at baseline. Policy is data, and its effect stands on the monthly page.
    tiers: those read by two people.
    uncertain: also studies with a notice, without a tier or of limited quality.
    """

    active: bool = False
    tiers: tuple[int, ...] = (10,)
    uncertain: bool = True
    least_reference: int = 100
    """Studies that deciles need; before that every study is without a tier."""
    nodule_mm: float = 6.0
    """A nodule of this mean diameter that only one of two readers has is a difference."""

    def __post_init__(self) -> None:
        if not set(self.tiers) <= set(range(1, 11)):
            raise ValueError("tiers: expected numbers from 1 to 10")
        if self.least_reference < 10:
            raise ValueError("least_reference: expected at least 10")


@dataclass(frozen=True)
class Limits:
    """What the service allows. Seconds, bytes."""

    lease_s: float = 20 * 60.0
    idle_s: float = 15 * 60.0
    """A session that nobody uses ends after this."""
    session_s: float = 12 * 3600.0
    body_bytes: int = 1024 * 1024
    upload_bytes: int = 4 * 1024**3
    upload_members: int = 20_000
    upload_ratio: float = 200.0
    uploads_a_day: int = 500
    """Of one sender."""
    wrong_passwords: int = 10
    """Within `wrong_s`, of one account or one address; then nobody gets in that way for a while."""
    wrong_s: float = 15 * 60.0
    cache_bytes: int = 20 * 1024**3
    """Of the images made ready at first opening; the longest unused go first."""
    unpacked_bytes: int = 12 * 1024**3
    """Of the studies unpacked for measuring, 240 MB for 304 slices; the longest unused go first."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0")


@dataclass(frozen=True)
class Oidc:
    """The site's own sign-in (OpenID Connect, code flow with PKCE). Off while `issuer` is empty.

    roles: value of the claim `role_claim` → role here; nobody else gets in.
    """

    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    label: str = "Sign in with the hospital's account"
    role_claim: str = "groups"
    roles: dict[str, str] = field(default_factory=dict)
    name_claim: str = "preferred_username"
    redirect_url: str = ""


@dataclass(frozen=True)
class RoomConfig:
    """Settings of one room.

    programme: its name, shown on pages.
    dicomweb: prefixes of the addresses from which studies may be fetched.
    """

    programme: str = "Lung screening"
    mode: Mode = "second-reader"
    double_reading: DoubleReading = DoubleReading()
    limits: Limits = Limits()
    oidc: Oidc = field(default_factory=Oidc)
    dicomweb: tuple[str, ...] = ()
    pipeline: str = "screening"


def read_room_config(path: Path | None) -> RoomConfig:
    """The settings of a file; without one, the defaults.

    Errors: `config-invalid`.
    """
    return RoomConfig() if path is None else read_table(RoomConfig, read_toml(path), path.stem)
