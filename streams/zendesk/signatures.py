"""Signatures of Zendesk's webhooks: Base64 of HMAC-SHA256 over the timestamp header, followed by the raw body."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from enum import Enum

from streams.core.model import Micros
from streams.wire import instants

SIGNATURE = "X-Zendesk-Webhook-Signature"
TIMESTAMP = "X-Zendesk-Webhook-Signature-Timestamp"


class Verdict(Enum):
    """What a signature says about a request."""

    VALID = "valid"
    INVALID = "invalid"
    """No secret of ours gives this signature, or a header is missing."""
    TOO_OLD = "too old"
    """The signature is right, but it was made too long ago."""


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the signature of a body that is sent at `timestamp`.

    >>> sign(b"secret", "2026-03-01T10:00:00Z", b"{}")
    'YjckIb6zd+cQvz1t8PufU9xSTPwzxmbatBvqu+grm+o='
    """
    return base64.b64encode(hmac.digest(secret, timestamp.encode() + body, hashlib.sha256)).decode()


def verify(
    signature: str | None,
    timestamp: str | None,
    body: bytes,
    secrets: Sequence[bytes],
    *,
    now: Micros,
    max_age: Micros,
) -> Verdict:
    """Check a request against every secret, in a time that does not depend on which of them fits, or how nearly."""
    if not signature or not timestamp:
        return Verdict.INVALID
    given = signature.encode("utf-8", "surrogateescape")
    signed = timestamp.encode("utf-8", "surrogateescape") + body
    fits = False
    for secret in secrets:
        expected = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256))
        fits |= hmac.compare_digest(expected, given)
    if not fits:
        return Verdict.INVALID
    signed_at = instants.read(timestamp)
    if signed_at is None:
        return Verdict.INVALID
    return Verdict.TOO_OLD if signed_at < now - max_age else Verdict.VALID
