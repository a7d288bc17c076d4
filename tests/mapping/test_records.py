"""What a mapping makes of a record, and which expression a dead letter names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.model import MILLISECOND, Rejection, SessionUpdate, TicketUpdate
from streams.core.names import Code, Topic
from streams.mapping.files import load_mapping
from streams.mapping.records import Mapper, mapped
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode

AT = 1_772_359_500_000
NOW = AT * MILLISECOND


@pytest.fixture
def mapping(tmp_path):
    def made(text):
        path = tmp_path / "mapping.yaml"
        path.write_text(text)
        mappers = {topic: Mapper(one) for topic, one in load_mapping(path).items()}
        return mapped(decode, mappers)

    return made


def record(value, key=b"5", headers=(), offset=3):
    data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return CapturedRecord(offset, AT, key, data, headers)


TICKETS = """
ticket-updates:
  deleted: gone
  members:
    occurred_at: at
    ticket: whole
    ticket.status: state
    ticket.priority: prio
  values:
    ticket.status: {"1": open, "true": solved, "?": null, "*": pending}
"""


def test_the_ticket_id_comes_from_the_key_when_no_expression_says_otherwise(mapping):
    update = mapping(TICKETS)(Topic.TICKETS, 0, record({"at": "2026-03-01T10:00:00Z", "state": "1"}), NOW)
    assert isinstance(update, TicketUpdate)
    assert (update.ticket_id, update.changes) == ("5", {"status": "open"})
    assert update.event_id == "ticket-updates/0/3"


@pytest.mark.parametrize(
    ("state", "status"), [("1", "open"), (1, "open"), (True, "solved"), ("?", None), ("else", "pending")]
)
def test_a_table_of_values_replaces_what_it_lists_and_the_rest_by_its_star(mapping, state, status):
    update = mapping(TICKETS)(Topic.TICKETS, 0, record({"at": "2026-03-01T10:00:00Z", "state": state}), NOW)
    assert update.changes == {"status": status}


def test_null_clears_and_what_is_absent_stays(mapping):
    step = mapping(TICKETS)
    assert step(Topic.TICKETS, 0, record({"at": "2026-03-01T10:00:00Z", "prio": None}), NOW).changes == {
        "priority": None
    }
    whole = {"at": "2026-03-01T10:00:00Z", "whole": {"type": "task", "status": "new"}, "state": "1"}
    assert step(Topic.TICKETS, 0, record(whole), NOW).changes == {"type": "task", "status": "open"}


def test_a_record_that_says_so_deletes_its_ticket_at_its_timestamp(mapping):
    update = mapping(TICKETS)(Topic.TICKETS, 0, record({"gone": True}), NOW)
    assert isinstance(update, TicketUpdate)
    assert (update.ticket_id, update.changes, update.occurred_at) == ("5", None, NOW)
    assert mapping(TICKETS)(Topic.TICKETS, 0, record(None), NOW) == update


@pytest.mark.parametrize(
    ("value", "code", "path"),
    [
        ({"state": "1"}, Code.INVALID, "at"),
        ({"at": 5, "state": "1"}, Code.INVALID, "at"),
        ({"at": "soon", "state": "1"}, Code.INVALID, "at"),
        ({"at": "2026-03-01T10:00:00Z", "whole": [1]}, Code.INVALID, "whole"),
        ([], Code.INVALID, "at"),
        (b"{", Code.NOT_JSON, "$"),
        (b"\0\0\0\0\1{}", Code.NOT_JSON, "$"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", Code.TOO_LARGE, "$"),
        ({"at": "2030-03-01T10:00:00Z", "state": "1"}, Code.BAD_TIMESTAMP, "$.occurred_at"),
    ],
)
def test_a_dead_letter_names_the_expression_that_failed(mapping, value, code, path):
    rejection = mapping(TICKETS)(Topic.TICKETS, 0, record(value), NOW)
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.path) == (code, path)


def test_a_key_that_is_missing_is_a_missing_key(mapping):
    for key in (None, b""):
        assert mapping(TICKETS)(Topic.TICKETS, 0, record({}, key=key), NOW).code == Code.MISSING_KEY


SESSIONS = """
session-states:
  key: {form: %s}
  encoding: confluent-json
  members: {ticket_id: id, occurred_at: record_timestamp(), state: s, event_id: record_header('uid')}
"""


def test_a_json_key_gives_the_ticket_id_with_or_without_the_prefix(mapping):
    step = mapping(SESSIONS.replace("{form: %s}", "{form: json, ticket_id: t.id}"))
    for key in (b'{"t": {"id": 5}}', b'\0\0\0\0\7{"t": {"id": "5"}}'):
        update = step(Topic.SESSIONS, 0, record({"id": 5, "s": "active"}, key, (("uid", b"u-1"),)), NOW)
        assert isinstance(update, SessionUpdate)
        assert (update.ticket_id, update.event_id, update.occurred_at) == ("5", "u-1", NOW)
    assert step(Topic.SESSIONS, 0, record({"id": 6, "s": "active"}, b'{"t": {"id": 5}}'), NOW).code == Code.KEY_MISMATCH
    bad = step(Topic.SESSIONS, 0, record({"id": 6, "s": "active"}, b'{"id": 5}'), NOW)
    assert (bad.code, bad.path) == (Code.INVALID, "t.id")
    assert step(Topic.SESSIONS, 0, record({}, b"{"), NOW).code == Code.INVALID


def test_a_key_of_any_form_is_not_compared_and_cannot_delete(mapping):
    step = mapping(SESSIONS.replace("{form: %s}", "any"))
    for key in (b"tenant-1", None, b"\xff"):
        assert step(Topic.SESSIONS, 0, record({"id": 5, "s": "ended"}, key), NOW).ticket_id == "5"
        rejection = step(Topic.SESSIONS, 0, record(None, key), NOW)
        assert (rejection.code, rejection.path) == (Code.INVALID, "$key")


def test_confluents_prefix_is_skipped(mapping):
    step = mapping(SESSIONS.replace("{form: %s}", "text"))
    value = b"\0\0\0\1\2" + json.dumps({"id": "5", "s": "inactive"}).encode()
    assert step(Topic.SESSIONS, 0, record(value), NOW).state == "inactive"


CLOUD = """
session-states:
  envelope: cloudevents
  members: {ticket_id: ce_subject, event_id: ce_id, occurred_at: ce_time, state: state}
"""


@pytest.mark.parametrize("data", [{"data": {"state": "active"}}, {"data_base64": "eyJzdGF0ZSI6ICJhY3RpdmUifQ=="}])
def test_a_structured_cloudevent_is_unwrapped(mapping, data):
    event = {"specversion": "1.0", "id": "e-9", "subject": "5", "time": "2026-03-01T10:00:00Z", "type": "t", **data}
    update = mapping(CLOUD)(Topic.SESSIONS, 0, record(event), NOW)
    assert (update.event_id, update.state) == ("e-9", "active")


@pytest.mark.parametrize(
    "event", [{"id": "e-9"}, [], {"specversion": "1.0", "data_base64": "%"}, {"specversion": "1.0", "data_base64": 5}]
)
def test_what_is_no_cloudevent_is_invalid(mapping, event):
    assert mapping(CLOUD)(Topic.SESSIONS, 0, record(event), NOW).code == Code.INVALID


def test_a_topic_that_the_mapping_does_not_name_is_read_as_it_is(mapping):
    own = {"ticket_id": "5", "occurred_at": "2026-03-01T10:00:00Z", "state": "active"}
    assert mapping(TICKETS)(Topic.SESSIONS, 0, record(own), NOW).state == "active"


def test_without_mappers_decoding_is_untouched():
    assert mapped(decode, {}) is decode


MEMBERS = st.sampled_from(["at", "state", "prio", "whole", "gone", "id"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("at state prio whole gone id".split()), inner)
    ),
    max_leaves=12,
)


@given(value=json_values, key=st.binary(max_size=8) | st.none())
def test_no_value_and_no_key_make_it_raise(value, key, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    if not path.exists():
        path.write_text(TICKETS)
    step = mapped(decode, {topic: Mapper(one) for topic, one in load_mapping(path).items()})
    assert isinstance(step(Topic.TICKETS, 0, record(value, key), NOW), TicketUpdate | Rejection)
