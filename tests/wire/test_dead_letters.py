"""Dead letters of records that do not fit into their topic are cut in a fixed order, and say so."""

from __future__ import annotations

import hashlib

import pytest

from streams.core.inputs import DeadLetter
from streams.core.model import Rejection
from streams.core.names import Topic
from streams.wire import encode
from streams.wire.capture import CapturedRecord
from streams.wire.encode import Encoded
from tests.wire.test_contracts import VALIDATORS

VALUE, KEY, OWN = b"v" * 1000, b"k" * 500, [("own", b"h" * 300)]
NOT_JSON = Rejection("not_json", "$", "no")


def size(letter: Encoded) -> int:
    return (
        len(letter.key or b"") + len(letter.value or b"") + sum(len(name) + len(data) for name, data in letter.headers)
    )


def letter(limit: int, value: bytes | None = VALUE, rejection: Rejection = NOT_JSON) -> Encoded:
    record = CapturedRecord(7, 1000, KEY, value, OWN)
    return encode.dead_letter(DeadLetter(Topic.TICKETS, record, rejection), 3, "p.x", lambda cut: size(cut) <= limit)


@pytest.mark.parametrize(
    ("limit", "key", "own", "omitted"),
    [(1500, KEY, True, None), (1000, KEY, False, b"headers"), (600, None, False, b"headers,key")],
)
def test_what_does_not_fit_is_left_out_value_first_then_headers_then_key(limit, key, own, omitted):
    found = letter(limit)
    said = dict(found.headers)
    assert (found.key, found.value, "own" in said, said.get("lapse.source.omitted")) == (key, None, own, omitted)
    assert said["lapse.error.code"] == b"not_json", "its own code, not too_large"
    assert said["lapse.source.topic"] == b"p.x"
    assert said["lapse.source.size"] == b"1000"
    assert said["lapse.source.sha256"] == hashlib.sha256(VALUE).hexdigest().encode()
    VALIDATORS["dead-letter-headers"].validate(
        {name: data.decode() for name, data in found.headers if name.startswith("lapse.")}
    )


def test_what_fits_is_carried_whole():
    found = letter(10_000)
    assert (found.key, found.value, found.headers[0]) == (KEY, VALUE, OWN[0])
    assert "lapse.source.size" not in dict(found.headers)


def test_a_tombstone_has_no_value_that_could_be_left_out():
    said = dict(letter(900, value=None).headers)
    assert said["lapse.source.omitted"] == b"headers"
    assert "lapse.source.size" not in said
