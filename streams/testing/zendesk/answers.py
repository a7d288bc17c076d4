"""Answers of the API, with the shapes of error that Zendesk uses.

Zendesk has no single form of error. Four are in use, and a client meets all of them:

- described: `{"error": "RecordInvalid", "description": …, "details": {…}}`
- titled: `{"error": {"title": "Forbidden", "message": …}}`
- OAuth's: `{"error": "invalid_token", "error_description": …}`
- plain text, of rate limits, or HTML, of gateways
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """What is sent back: a status, and JSON, or a text in its stead."""

    status: int
    json: Any = None
    text: str | None = None
    headers: Mapping[str, str] = {}


class Failed(Exception):
    """Ends the work on a request with an error."""

    def __init__(self, answer: Answer) -> None:
        """Carry the answer."""
        super().__init__(f"{answer.status} {answer.text or answer.json}")
        self.answer = answer


def described(
    status: int,
    error: str,
    description: str,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Failed:
    """Return an error of the most usual shape."""
    body: dict[str, Any] = {"error": error, "description": description}
    if details is not None:
        body["details"] = details
    return Failed(Answer(status, body, headers=headers or {}))


def titled(status: int, title: str, message: str) -> Failed:
    """Return an error whose `error` is an object."""
    return Failed(Answer(status, {"error": {"title": title, "message": message}}))


def oauth(status: int, error: str, description: str) -> Failed:
    """Return an error as RFC 6749 has it."""
    return Failed(Answer(status, {"error": error, "error_description": description}))


def plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> Failed:
    """Return an error that is no JSON."""
    return Failed(Answer(status, text=text, headers=headers or {}))


# --- errors that several modules answer with -------------------------------------------------------------------------


def no_such_record() -> Failed:
    """The id is not known, or its ticket is deleted."""
    return described(404, "RecordNotFound", "Not found")


def no_such_endpoint() -> Failed:
    """The path is not known, or the account's plan does not have it: another 404 than that of a ticket."""
    return described(404, "InvalidEndpoint", "Not found")


def invalid(details: Mapping[str, Any]) -> Failed:
    """The values will not do."""
    return described(422, "RecordInvalid", "Record validation errors", details)


def unusable(description: str) -> Failed:
    """The request's form will not do."""
    return described(400, "InvalidValue", description)


def conflict() -> Failed:
    """A safe update came too late."""
    return described(
        409,
        "UpdateConflict",
        "Safe Update prevented update due to outdated ticket data. Please fetch latest ticket data and try again.",
    )


def forbidden() -> Failed:
    """The token's scope or its user may not do this."""
    return titled(403, "Forbidden", "You do not have access to this page. Please contact the account owner.")
