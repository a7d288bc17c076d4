"""The demo's helpdesk: does what commands ask, says so once, and keeps it over what the written plays send."""

from __future__ import annotations

import json

import pytest

from streams.core.model import TicketUpdate
from streams.demo.desk import Desk
from streams.testing import builders
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode

NOW = "2026-03-01T12:00:05Z"


def update(**members) -> builders.Record:
    return builders.ticket_update("1", **{"status": "open", "tags": ["vip"], **members})


def apply(desk: Desk, *actions: tuple[str, object], command_id: str = "c-1") -> dict:
    command = {
        "command_id": command_id,
        "ticket_id": "1",
        "actions": [{"field": field, "value": value} for field, value in actions],
    }
    record = desk.apply(command, NOW, builders.millis(NOW))
    found = decode(record.topic, 0, CapturedRecord(0, record.timestamp, record.key, record.value), 2**62)
    assert isinstance(found, TicketUpdate)
    assert found.command_id == command_id
    return json.loads(record.value)["ticket"]


def sent(desk: Desk, record: builders.Record) -> dict:
    return json.loads(desk.through(record).value)["ticket"]


def test_a_command_comes_back_as_a_ticket_update_with_its_id():
    desk = Desk()
    desk.through(update())
    ticket = apply(desk, ("status", "solved"), ("custom_fields_7", "x"), ("add_tags", ["abandoned"]))
    assert ticket == {
        "status": "solved",
        "custom_fields": {"7": "x"},
        "tags": ["abandoned", "vip"],
        "updated_at": NOW,
    }


def test_what_a_command_set_stays_over_later_updates_but_the_status_is_the_customers():
    desk = Desk()
    desk.through(update())
    apply(desk, ("status", "solved"), ("priority", "low"), ("add_tags", ["abandoned"]))
    ticket = sent(desk, update(status="open", priority="high", tags=["vip", "late"]))
    assert ticket == {"status": "open", "priority": "low", "tags": ["abandoned", "late", "vip"]}


@pytest.mark.parametrize(
    ("action", "tags"),
    [
        (("remove_tags", ["vip"]), []),
        (("set_tags", ["only"]), ["only"]),
        (("notification_user", ["1", "a", "b"]), ["vip"]),
    ],
)
def test_every_kind_of_action_on_tags(action, tags):
    desk = Desk()
    desk.through(update())
    assert apply(desk, action)["tags"] == tags


@pytest.mark.parametrize(
    "record",
    [
        builders.bad_record("not_json"),
        builders.bad_record("invalid"),
        builders.ticket_deleted("1"),
        builders.session_state("1"),
    ],
)
def test_what_is_no_ticket_update_goes_through_untouched(record):
    desk = Desk()
    apply(desk, ("priority", "low"))
    assert desk.through(record) is record
