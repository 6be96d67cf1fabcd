"""What is sent to the routes, beside a read's content."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat

from lungscreen.room.accounts import Role
from lungscreen.room.words import PlaceMm

__all__ = ["Active", "Addendum", "ChangedUser", "Login", "NewMark", "NewPassword", "NewUser", "Password"]


class Login(BaseModel):
    """Name and password."""

    name: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=1000)]


class NewUser(BaseModel):
    """An account to make.

    password: empty for a program, which gets a token.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)]
    role: Role
    password: Annotated[str, Field(max_length=1000)] = ""
    subject: Annotated[str, Field(max_length=255)] = ""


class ChangedUser(BaseModel):
    """What changes of an account; None: nothing."""

    role: Role | None = None
    active: bool | None = None
    password: Annotated[str, Field(max_length=1000)] | None = None


class NewPassword(BaseModel):
    """One's own password, and the next one."""

    password: Annotated[str, Field(max_length=1000)]
    new: Annotated[str, Field(max_length=1000)]


class NewMark(BaseModel):
    """Where a reader clicked."""

    position_mm: PlaceMm


class Password(BaseModel):
    """The password again: it is the signature. Empty for who signs in at the site's own sign-in and just did."""

    password: Annotated[str, Field(max_length=1000)] = ""


class Active(BaseModel):
    """Seconds of work since the last call."""

    active_s: Annotated[FiniteFloat, Field(ge=0, le=86_400)]


class Addendum(BaseModel):
    """What is added to a final read."""

    text: Annotated[str, Field(min_length=1, max_length=4000)]
