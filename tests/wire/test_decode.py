"""Whatever the bytes, decoding gives an update or a reason; it never raises."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.model import Rejection, SessionUpdate, TicketUpdate
from streams.core.names import Topic
from streams.core.plain import PlainTicket
from streams.wire.capture import CapturedRecord
from streams.wire.decode import MAX_BYTES, Code, decode

NOW = 1_772_359_200_000_000
NOW_MS = NOW // 1000


def _decode(topic: Topic, value: bytes | None, *, key: bytes | None = b"5158", timestamp: int = NOW_MS) -> Any:
    found = decode(topic, 3, CapturedRecord(7, timestamp, key, value), NOW)
    # Records of a shape that was seen before, in whichever test, take the plain path.
    return found.whole() if isinstance(found, PlainTicket) else found


def _ticket(**members: Any) -> bytes:
    return json.dumps(
        {"ticket_id": "5158", "occurred_at": "2026-03-01T10:00:00Z", "ticket": {"status": "open"}} | members
    ).encode()


def _session(**members: Any) -> bytes:
    return json.dumps(
        {"ticket_id": "5158", "occurred_at": "2026-03-01T10:00:00Z", "state": "active"} | members
    ).encode()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_members = st.sampled_from(
    [
        "ticket_id",
        "occurred_at",
        "ticket",
        "state",
        "reason",
        "session_id",
        "channel",
        "event_id",
        "sequence",
        "command_id",
    ]
)


@given(st.sampled_from(list(Topic)), st.none() | st.binary(max_size=200), st.none() | st.binary(max_size=12))
@settings(max_examples=500, deadline=None)
def test_arbitrary_bytes_never_raise(topic: Topic, value: bytes | None, key: bytes | None) -> None:
    assert isinstance(_decode(topic, value, key=key), TicketUpdate | SessionUpdate | Rejection)


@given(st.sampled_from(list(Topic)), st.dictionaries(_members, _json, max_size=4))
@settings(max_examples=500, deadline=None)
def test_any_json_in_any_member_never_raises(topic: Topic, members: dict[str, Any]) -> None:
    value = _ticket(**members) if topic is Topic.TICKETS else _session(**members)
    assert isinstance(_decode(topic, value), TicketUpdate | SessionUpdate | Rejection)


@given(st.dictionaries(st.text(max_size=12), _json, max_size=6))
@settings(max_examples=500, deadline=None)
def test_what_is_kept_of_a_ticket_can_be_written_to_its_row(members: dict[str, Any]) -> None:
    from streams.core.model import TicketRow
    from streams.wire.rows import MsgpackRows

    update = _decode(Topic.TICKETS, _ticket(ticket=members))
    if isinstance(update, TicketUpdate):
        codec = MsgpackRows()
        fields = {name: value for name, value in (update.changes or {}).items() if value is not None}
        assert codec.decode_ticket(codec.encode_ticket(TicketRow(fields, None, 0))).fields == fields


@pytest.mark.parametrize(
    ("value", "code", "path"),
    [
        (b"", Code.NOT_JSON, "$"),
        (b"null", Code.INVALID, "$"),
        (b"[]", Code.INVALID, "$"),
        (b'{"ticket_id": []', Code.NOT_JSON, "$"),
        (b'{"x": "\xff", "ticket_id": "5158"}', Code.NOT_JSON, "$"),
        (_ticket(ticket=None), Code.INVALID, "$.ticket"),
        (_ticket(ticket_id=""), Code.INVALID, "$.ticket_id"),
        (_ticket(ticket_id=1.5), Code.INVALID, "$.ticket_id"),
        (_ticket(sequence=-1), Code.INVALID, "$.sequence"),
        (_ticket(occurred_at="2026-03-01T10:00:00"), Code.INVALID, "$.occurred_at"),
        (_ticket(occurred_at="0001-01-01T00:00:00+10:00"), Code.INVALID, "$.occurred_at"),
        (_ticket(ticket={"tags": 5}), Code.INVALID, "$.ticket.tags"),
        (_ticket(ticket={"custom_fields": [{"value": 1}]}), Code.INVALID, "$.ticket.custom_fields[0]"),
        (b'{"occurred_at": "2026-03-01T10:00:00Z", "ticket": {}}', Code.INVALID, "$.ticket_id"),
        (_ticket(ticket_id="5159"), Code.KEY_MISMATCH, "$.ticket_id"),
        (_ticket(occurred_at="2026-03-01T10:05:00.001Z"), Code.BAD_TIMESTAMP, "$.occurred_at"),
        (b" " * (MAX_BYTES + 1), Code.TOO_LARGE, "$"),
        (b'{"x": ' + b"[" * 64 + b"]" * 64 + b"}", Code.TOO_LARGE, "$"),
    ],
)
def test_a_bad_ticket_update_is_told_what_is_wrong_and_where(value: bytes, code: Code, path: str) -> None:
    found = _decode(Topic.TICKETS, value)
    assert isinstance(found, Rejection)
    assert (found.code, found.path) == (code, path)
    assert found.message


def test_brackets_inside_strings_do_not_nest() -> None:
    assert isinstance(_decode(Topic.TICKETS, _ticket(ticket={"subject": '"[' * 80})), TicketUpdate)


def test_sixty_four_levels_are_not_too_deep() -> None:
    value = _ticket(deep=json.loads("[" * 63 + "]" * 63))
    assert isinstance(_decode(Topic.TICKETS, value), TicketUpdate)


@pytest.mark.parametrize("key", [None, b""])
def test_a_record_without_key_says_so_before_anything_else(key: bytes | None) -> None:
    assert _decode(Topic.SESSIONS, b"{broken", key=key).code == Code.MISSING_KEY


def test_a_tombstone_ahead_of_the_clock_is_a_bad_timestamp() -> None:
    assert _decode(Topic.SESSIONS, None, timestamp=NOW_MS + 300_001).code == Code.BAD_TIMESTAMP
    assert isinstance(_decode(Topic.SESSIONS, None, timestamp=NOW_MS + 300_000), SessionUpdate)


def test_an_integer_beyond_sixty_four_bits_is_kept_as_text() -> None:
    update = _decode(Topic.TICKETS, _ticket(ticket={"weight": 2**70, "group_id": 2**53 + 1}))
    assert update.changes == {"weight": str(2**70), "group_id": str(2**53 + 1)}


def test_the_event_id_falls_back_to_the_header_then_to_the_place() -> None:
    value = _session(event_id=None)
    headers = (("ce_id", b"from-header"),)
    assert decode(Topic.SESSIONS, 3, CapturedRecord(7, NOW_MS, b"5158", value, headers), NOW).event_id == "from-header"
    assert _decode(Topic.SESSIONS, value).event_id == "session-states/3/7"


@pytest.mark.parametrize("small", [True, False])
def test_the_short_way_and_the_long_way_through_the_members_agree(small: bool) -> None:
    from streams.wire.decode import _ticket_changes

    members = {
        "status": "On hold",
        "priority": "__NULL__",
        "group_id": 360,
        "subject": "x",
        "note": "",
        "public": True,
        "score": 1.5,
        "tags": "b a b",
        "custom_fields": {"11": "x", "12": "", "13": None, "14": ["p", "q"], "15": {"no": 1}},
        "object": {"dropped": 1},
    }
    assert _ticket_changes(dict(members), small=small) == (
        {
            "status": "hold",
            "priority": None,
            "group_id": "360",
            "subject": "x",
            "note": None,
            "public": True,
            "score": 1.5,
            "object": None,
            "tags": ["b", "a"],
            "custom_fields_11": "x",
            "custom_fields_12": None,
            "custom_fields_13": None,
            "custom_fields_14": ["p", "q"],
            "custom_fields_15": None,
        },
        0,
    )


def test_only_the_records_own_instant_needs_a_colon_in_its_offset() -> None:
    nested = {"occurred_at": "2026-03-01T09:00:00+0100"}
    update = _decode(Topic.TICKETS, _ticket(occurred_at="2026-03-01T10:30:00+01:00", ticket=nested))
    assert isinstance(update, TicketUpdate)
    rejection = _decode(Topic.TICKETS, _ticket(occurred_at="2026-03-01T10:30:00+0100"))
    assert (rejection.code, rejection.path) == (Code.INVALID, "$.occurred_at")


def test_rows_of_the_version_before_tombstones_had_an_instant_decode() -> None:
    from streams.core.model import OrderKey
    from streams.wire.rows import MsgpackRows

    old = msgspec.msgpack.encode([{"status": "open"}, [NOW, ["e-1"], 4], NOW])
    row = MsgpackRows().decode_ticket(old)
    assert row.order == OrderKey(NOW, ("e-1",), 4, deleted_at=None)


_spellings = st.sampled_from(
    ["360", "360.0", "9007199254740993.0", "3.6e2", "-0.0", "1.5", "1e300", "1e400", '"360.0"']
)


@given(_spellings, st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_quick_and_the_exact_decoding_of_numbers_agree(number: str, half: bool) -> None:
    """Half a surrogate pair in a member that is ignored leads the same record through the exact decoding."""
    head = '{"ticket_id": "5158", "occurred_at": "2026-03-01T10:00:00Z", "preview": "%s", ' % (
        "\\ud83d" if half else "u"
    )
    ticket = '"ticket": {"group_id": %s, "weight": %s, "custom_fields": {"1": %s, "x": [%s]}}}' % ((number,) * 4)
    other = head.replace("\\ud83d" if half else '"u"', "u" if half else '"\\ud83d"') + ticket
    one, two = _decode(Topic.TICKETS, (head + ticket).encode()), _decode(Topic.TICKETS, other.encode())
    assert (one.changes, one.event_id) == (two.changes, two.event_id)


@pytest.mark.parametrize("timestamp", [-(2**63), -62_135_596_800_001])
@pytest.mark.parametrize("tombstone", [True, False])
def test_a_record_timestamp_before_the_year_one_is_a_bad_timestamp(timestamp: int, tombstone: bool) -> None:
    rejection = _decode(Topic.SESSIONS, None if tombstone else _session(), timestamp=timestamp)
    assert (rejection.code, rejection.path) == (Code.BAD_TIMESTAMP, "$timestamp")


def test_no_timestamp_is_a_time_like_any_other() -> None:
    assert _decode(Topic.SESSIONS, _session(), timestamp=-1).timestamp == -1000


@pytest.mark.parametrize("number", ["1" * 5000, "1e999999999", "-" + "9" * 5000, "1" * 900 + ".0"])
@pytest.mark.parametrize("member", ["ticket_id", "event_id", "sequence", "other"])
def test_numbers_beyond_every_bound_never_raise(number: str, member: str) -> None:
    value = '{"occurred_at": "2026-03-01T10:00:00Z", "ticket_id": "5158", "ticket": {"score": %s}, "%s": %s}'
    found = _decode(Topic.TICKETS, (value % (number, member, number)).encode())
    assert isinstance(found, TicketUpdate | Rejection)
