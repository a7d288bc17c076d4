"""Commands are CloudEvents in Kafka's binary mode, as the official SDK reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from cloudevents.core.exceptions import CloudEventValidationError

from streams.testing.driver import Driver
from streams.wire.writes import Write
from tests.core.stories import RULES, SETTINGS, START_MS, rfc3339


@pytest.fixture(scope="module")
def commands() -> list[Write]:
    """The command of a lapse at once, and that of a wait."""
    driver = Driver(RULES, SETTINGS)
    ticket = {"ticket_id": "ä1", "occurred_at": rfc3339(START_MS), "ticket": {"status": "open", "tags": ["vip"]}}
    session = {"ticket_id": "ä1", "occurred_at": rfc3339(START_MS), "state": "active"}
    driver.pipe("ticket-updates", "ä1", ticket, START_MS)
    driver.pipe("session-states", "ä1", session, START_MS)
    left = {**session, "state": "inactive", "occurred_at": rfc3339(START_MS + 1)}
    driver.pipe("session-states", "ä1", left, START_MS + 1)
    driver.advance(START_MS + 10_000)
    found = driver.read("action-commands")
    assert len(found) == 2
    return found


def message(command: Write, **headers: bytes) -> KafkaMessage:
    return KafkaMessage(headers={**dict(command.headers), **headers}, key=command.key, value=command.value or b"")


def test_the_official_sdk_reads_every_command(commands: list[Write]):
    for command in commands:
        event = from_kafka_event(message(command))
        body = json.loads(command.value or b"")
        assert event.get_specversion() == "1.0"
        assert event.get_id() == body["command_id"]
        assert event.get_type() == "lapse.action-command.v1"
        assert event.get_source() == "lapse"
        assert event.get_subject() == body["ticket_id"] == "ä1"
        assert event.get_time() == datetime.fromisoformat(body["issued_at"]).astimezone(UTC)
        assert event.get_datacontenttype() == "application/json"
        assert event.get_data() == body


def test_the_official_sdk_refuses_a_command_without_a_type(commands: list[Write]):
    with pytest.raises(CloudEventValidationError):
        from_kafka_event(message(commands[0], ce_type=b""))
