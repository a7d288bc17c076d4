"""Entries of the rules topic, as bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streams.core.revisions import Entry, EntryKind
from streams.wire import instants
from streams.wire.rule_entries import BadEntryError, decode_entry, encode_entry

AT = instants.read("2026-03-01T10:00:00Z") or 0


@pytest.mark.parametrize(
    ("entry", "members"),
    [
        (
            Entry(number=1, kind=EntryKind.LIVE, published_at=AT, author="ada", reason="wär's", ruleset="0123456789ab",
                  source="triggers: []\n", based_on=None, effective_from=AT + 1_500_000),
            {"number": 1, "kind": "live", "published_at": "2026-03-01T10:00:00Z", "author": "ada", "reason": "wär's",
             "ruleset": "0123456789ab", "source": "triggers: []\n", "based_on": None,
             "effective_from": "2026-03-01T10:00:01.500Z"},
        ),
        (
            Entry(number=12, kind=EntryKind.STOP, published_at=AT, author=None, reason="runaway", triggers=("a", "b")),
            {"number": 12, "kind": "stop", "published_at": "2026-03-01T10:00:00Z", "author": None, "reason": "runaway",
             "triggers": ["a", "b"]},
        ),
        (
            Entry(number=13, kind=EntryKind.RESUME, published_at=AT, triggers="all"),
            {"number": 13, "kind": "resume", "published_at": "2026-03-01T10:00:00Z", "author": None, "reason": None,
             "triggers": "all"},
        ),
        (
            Entry(number=14, kind=EntryKind.SHADOW_OFF, published_at=AT),
            {"number": 14, "kind": "shadow_off", "published_at": "2026-03-01T10:00:00Z", "author": None,
             "reason": None},
        ),
    ],
    ids=["live", "stop", "resume", "shadow_off"],
)  # fmt: skip
def test_an_entry_has_the_members_of_its_kind_and_is_read_back(entry: Entry, members: dict[str, Any]) -> None:
    key, value = encode_entry(entry)
    assert key == str(entry.number).encode()
    assert json.loads(value) == members
    assert decode_entry(key, value) == entry


LIVE = {"number": 1, "kind": "live", "published_at": "2026-03-01T10:00:00Z", "ruleset": "a", "source": "b"}


def test_without_effective_from_a_revision_holds_from_its_publishing() -> None:
    assert decode_entry(b"1", json.dumps(LIVE).encode()).effective_from == AT


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (b"1", None, "truncated"),
        (b"1", b"{", "truncated"),
        (b"2", json.dumps(LIVE).encode(), "its key is b'2', and its number 1"),
        (None, json.dumps(LIVE).encode(), "its key is None"),
        (b"1", json.dumps(LIVE | {"kind": "new"}).encode(), "kind"),
        (b"1", json.dumps(LIVE | {"source": None}).encode(), "no source"),
        (b"1", json.dumps(LIVE | {"published_at": "today"}).encode(), "published_at: 'today' is not a time"),
        (b"1", json.dumps(LIVE | {"kind": "stop"}).encode(), "does not say which triggers"),
    ],
)
def test_what_is_no_entry_says_why(key: bytes | None, value: bytes | None, why: str) -> None:
    with pytest.raises(BadEntryError) as error:
        decode_entry(key, value)
    assert why in str(error.value)
