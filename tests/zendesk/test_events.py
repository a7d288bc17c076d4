"""Bodies of webhooks to input records."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.names import Code, Topic
from streams.testing.webhooks import session_post, ticket_event
from streams.wire import instants
from streams.zendesk.events import InputRecord, Kind, Received, Unusable, receive

AT = datetime(2026, 3, 1, 10, 0, 0, 250_000, tzinfo=UTC)
NOW = instants.micros(AT)
SIGNED_AT = "2026-03-01T10:00:01Z"


def got(body: bytes, **options: Any) -> Received:
    return receive(body, signature="c2lnbmF0dXJl", signed_at=SIGNED_AT, arrived_at=NOW, **options)


def record(body: bytes, **options: Any) -> tuple[InputRecord, dict[str, Any]]:
    found = got(body, **options).record
    assert found is not None
    assert found.value is not None
    return found, json.loads(found.value)


def refused(body: bytes) -> Unusable:
    with pytest.raises(Unusable) as why:
        got(body)
    return why.value


def test_a_ticket_event_is_an_update_with_the_snapshot_in_the_words_of_triggers() -> None:
    body = ticket_event(5158, at=AT)
    written, value = record(body)
    assert (written.topic, written.key) == (Topic.TICKETS, b"5158")
    assert value == {
        "event_id": json.loads(body)["id"],
        "ticket_id": "5158",
        "occurred_at": "2026-03-01T10:00:00.250Z",
        "ticket": {
            "status": "open",
            "priority": "high",
            "type": "question",
            "tags": ["router", "vip"],
            "group_id": "8447320466430",
            "assignee_id": "8447388090494",
            "requester_id": "8447388090494",
            "submitter_id": "8447388090494",
            "organization_id": None,
            "brand_id": "8447346621310",
            "ticket_form_id": "8646151517822",
            "custom_status_id": "8447320465790",
            "is_public": True,
            "created_at": "2026-03-01T09:00:00Z",
            "updated_at": "2026-03-01T10:00:00.250Z",
            "channel": "native_messaging",
        },
    }, "no sequence: Zendesk's groups the events of one update"


def test_what_persons_wrote_is_never_taken_over() -> None:
    comment = {"comment": {"id": 1, "body": "my password is 1234", "author": {"id": 2, "name": "Ada Example"}}}
    written, _ = record(ticket_event(7, "comment_added", at=AT, event=comment))
    for private in (b"password", b"Ada", b"router is", b"red light"):
        assert private not in (written.value or b"").lower()


@pytest.mark.parametrize(
    ("kind", "event", "changes", "is_of_the_customer"),
    [
        ("comment_added", {"comment": {"is_public": True, "author": {"is_staff": False}}}, {}, True),
        ("comment_added", {"comment": {"author": {"is_staff": False}}}, {}, True),
        ("comment_added", {"comment": {"is_public": True, "author": {"is_staff": True}}}, {}, False),
        ("comment_added", {"comment": {"is_public": False, "author": {"is_staff": False}}}, {}, False),
        ("comment_added", {"comment": {"is_public": True, "author": {}}}, {}, False),
        ("comment_added", {"comment": None}, {}, False),
        ("status_changed", {"comment": {"is_public": True, "author": {"is_staff": False}}}, {}, False),
        ("created", {}, {"actor_id": "7", "requester_id": "7"}, True),
        ("created", {}, {"actor_id": "8", "requester_id": "7"}, False),
        ("created", {}, {"actor_id": "", "requester_id": ""}, False),
    ],
)
def test_that_the_customer_wrote_is_told_by_the_time_of_the_event(
    kind: str, event: dict[str, Any], changes: dict[str, Any], is_of_the_customer: bool
) -> None:
    _, value = record(ticket_event(7, kind, at=AT, event=event, **changes))
    assert value["ticket"].get("customer_message_at") == ("2026-03-01T10:00:00.250Z" if is_of_the_customer else None)


def test_a_custom_field_comes_by_its_id_and_an_empty_one_clears() -> None:
    changed = {"custom_field": {"id": "360", "title": "Plan", "type": "tagger"}, "current": {"value": "gold"}}
    assert record(ticket_event(7, "custom_field_changed", at=AT, event=changed))[1]["ticket"]["custom_fields"] == {
        "360": "gold"
    }
    emptied = {**changed, "current": {"value": ""}}
    assert record(ticket_event(7, "custom_field_changed", at=AT, event=emptied))[1]["ticket"]["custom_fields"] == {
        "360": None
    }


def test_the_field_of_the_command_says_which_command_was_applied() -> None:
    changed = {"custom_field": {"id": "9", "title": "Command", "type": "text"}, "current": {"value": "0f6c8a5e"}}
    body = ticket_event(7, "custom_field_changed", at=AT, event=changed)
    assert record(body, command_field="9")[1]["command_id"] == "0f6c8a5e"
    assert "command_id" not in record(body, command_field="8")[1]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("soft_deleted", {}),
        ("permanently_deleted", {}),
        ("status_changed", {"status": "DELETED"}),
        ("status_changed", {"status": "SCRUBBED"}),
    ],
)
def test_a_ticket_that_is_gone_is_a_tombstone(kind: str, changes: dict[str, Any]) -> None:
    found = got(ticket_event(7, kind, at=AT, **changes))
    assert found == Received(Kind.TICKET_DELETED, InputRecord(Topic.TICKETS, b"7", None))


def test_an_archived_ticket_is_closed_and_on_hold_is_hold() -> None:
    assert record(ticket_event(7, at=AT, status="ARCHIVED"))[1]["ticket"]["status"] == "closed"
    assert record(ticket_event(7, at=AT, status="HOLD"))[1]["ticket"]["status"] == "hold"


def test_a_post_of_a_trigger_is_a_session_state_with_the_signature_as_its_id_and_time() -> None:
    written, value = record(session_post(5158, "Inactive", "User inactive or offline"))
    assert (written.topic, written.key) == (Topic.SESSIONS, b"5158")
    assert value == {
        "event_id": "c2lnbmF0dXJl",
        "ticket_id": "5158",
        "occurred_at": SIGNED_AT,
        "state": "inactive",
        "reason": "user_inactive_or_offline",
        "channel": "messaging",
    }
    assert "reason" not in record(session_post(5158, "Active"))[1]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("zen:event-type:messaging_ticket.message_added", Kind.MESSAGE),
        ("zen:event-type:user.created", Kind.UNKNOWN),
        ("something new", Kind.UNKNOWN),
    ],
)
def test_what_nobody_here_needs_gives_no_record(kind: str, expected: Kind) -> None:
    assert got(json.dumps({"type": kind, "id": "1"}).encode()) == Received(expected)


def test_a_ticket_event_of_a_type_that_is_not_known_yet_still_carries_the_snapshot() -> None:
    assert got(ticket_event(7, "new_kind_of_change", at=AT)).kind is Kind.TICKET


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"", Code.NOT_JSON, "$"),
        (b"\xff", Code.NOT_JSON, "$"),
        (b"[" * 100_000, Code.NOT_JSON, "$"),
        (b"[]", Code.INVALID, "$"),
        (b"{}", Code.INVALID, "$.type"),
        (b'{"type": 5}', Code.INVALID, "$.type"),
        (b'{"type": "zen:event-type:ticket.created"}', Code.INVALID, "$.detail"),
        (b'{"type": "zen:event-type:ticket.created", "detail": {}}', Code.INVALID, "$.detail.id"),
        (ticket_event(7, at=AT, id="8"), Code.INVALID, "$.subject"),
        (ticket_event(7, "custom_field_changed", at=AT), Code.INVALID, "$.event.custom_field"),
        (ticket_event(7, at=AT, tags={"a": 1}), Code.INVALID, "$.ticket.tags"),
        (session_post("", "active"), Code.INVALID, "$.ticket_id"),
        (session_post("7", " "), Code.INVALID, "$.state"),
        (json.dumps({"ticket_id": "7", "state": ["active"]}).encode(), Code.INVALID, "$.state"),
        (ticket_event(7, at=datetime(2030, 1, 1, tzinfo=UTC)), Code.BAD_TIMESTAMP, "$.occurred_at"),
    ],
)  # fmt: skip
def test_a_body_that_can_not_be_used_says_where_and_why(body: bytes, code: Code, path: str) -> None:
    why = refused(body)
    assert (why.code, why.path) == (code, path)
    assert why.message


def test_a_time_without_an_offset_can_not_be_used() -> None:
    event = json.loads(ticket_event(7, at=AT)) | {"time": "2026-03-01T10:00:00"}
    assert refused(json.dumps(event).encode()).path == "$.time"


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_member = st.sampled_from(
    ["id", "status", "tags", "type", "priority", "via", "group_id", "updated_at", "custom_status"]
)


@given(st.dictionaries(_member, _anything, max_size=4), st.sampled_from(["created", "custom_field_changed"]), _anything)
def test_no_body_of_a_known_shape_raises_anything_but_unusable(changes: dict[str, Any], kind: str, event: Any) -> None:
    body = json.loads(ticket_event(7, kind, at=AT))
    body["detail"] |= changes
    body["event"] = event
    try:
        found = got(json.dumps(body).encode())
    except Unusable as why:
        assert why.code in Code
    else:
        assert found.kind in (Kind.TICKET, Kind.TICKET_DELETED)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_unusable(body: bytes) -> None:
    with pytest.raises(Unusable):
        got(body)
