"""Signatures of Zendesk's webhooks."""

from __future__ import annotations

import pytest

from streams.core.model import SECOND
from streams.wire import instants
from streams.zendesk.signatures import Verdict, sign, verify

AT = "2026-03-01T10:00:00Z"
NOW = instants.read(AT) or 0
HOUR = 3600 * SECOND
BODY = '{"état": "✓"}'.encode()


def judged(signature: str | None, timestamp: str | None = AT, body: bytes = BODY, now: int = NOW) -> Verdict:
    return verify(signature, timestamp, body, [b"old", b"new"], now=now, max_age=HOUR)


@pytest.mark.parametrize("secret", [b"old", b"new"])
def test_each_secret_is_taken_so_that_one_can_be_changed(secret: bytes) -> None:
    assert judged(sign(secret, AT, BODY)) is Verdict.VALID


def test_an_empty_body_can_be_signed() -> None:
    assert judged(sign(b"new", AT, b""), body=b"") is Verdict.VALID


@pytest.mark.parametrize(
    ("signature", "timestamp", "body"),
    [
        (None, AT, BODY),
        ("", AT, BODY),
        (sign(b"new", AT, BODY), None, BODY),
        (sign(b"other", AT, BODY), AT, BODY),
        (sign(b"new", AT, BODY), "2026-03-01T10:00:01Z", BODY),
        (sign(b"new", AT, BODY), AT, BODY + b" "),
        (sign(b"new", AT, BODY)[:-1], AT, BODY),
        ("ÿ\udcff", AT, BODY),
        (sign(b"new", "yesterday", BODY), "yesterday", BODY),
    ],
    ids=["none", "empty", "no timestamp", "other secret", "other time", "other body", "cut", "no text", "no time"],
)
def test_anything_else_is_invalid(signature: str | None, timestamp: str | None, body: bytes) -> None:
    assert judged(signature, timestamp, body) is Verdict.INVALID


def test_a_right_signature_is_too_old_after_max_age_and_not_before() -> None:
    signature = sign(b"new", AT, BODY)
    assert judged(signature, now=NOW + HOUR) is Verdict.VALID
    assert judged(signature, now=NOW + HOUR + 1) is Verdict.TOO_OLD
    assert judged(sign(b"other", AT, BODY), now=NOW + HOUR + 1) is Verdict.INVALID, "age tells strangers nothing"
