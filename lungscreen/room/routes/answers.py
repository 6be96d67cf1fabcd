"""Answers that many routes share: problems, as the OpenAPI tells of them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

__all__ = ["ANSWERS", "ProblemAnswer"]


class ProblemAnswer(BaseModel):
    """RFC 9457.

    code: stable; see docs/reference/room-api.md.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str


_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}

ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": _CONTENT}
    for status, words in {
        401: "Not signed in, or a wrong password",
        403: "Not allowed, or from another site",
        404: "Not there, or not yours",
        409: "Not in this state",
        412: "Changed meanwhile",
        413: "Too large",
        415: "Another kind of body",
        422: "Does not fit",
        428: "If-Match is missing",
        429: "Too often",
        503: "Not ready",
    }.items()
}
