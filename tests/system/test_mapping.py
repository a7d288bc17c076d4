"""Records of another shape, live: topics of other names, another key, envelopes, and a worker that is killed midway."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.kafka_kit import topics
from tests.kafka_kit.broker import Broker
from tests.system.waiting import eventually
from tests.system.worker import ROOT, Worker, lapse, settings

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_PARTITIONS = 2
_TICKETS, _SESSIONS = "crm.tickets", "chat.presence"
_CONFLUENT_PREFIX = b"\x00\x00\x00\x00\x07"
_SCHEMA_HEADER = ("__value_schema_id", b"\x01" + bytes(16))

_PRESENCE = """
session-states:
  encoding: confluent-json
  envelope: cloudevents
  key: {form: json, ticket_id: conversation.ticket}
  members:
    event_id: ce_id
    occurred_at: ce_time
    state: presence
    reason: cause
  values:
    state: {online: active, away: inactive}
    reason: {lost_connection: user_inactive_or_offline, "*": null}
"""

_TRIGGERS = """
triggers:
  - id: solve-abandoned
    title: Solve abandoned conversations
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: messaging_session_inactive_reason, operator: is, value: user_inactive_or_offline}
    actions:
      - {field: status, value: solved}
"""


class _Desk:
    """Sends what a helpdesk and a chat of their own make of a ticket; both topics have it in the same partition."""

    def __init__(self, producer: AIOKafkaProducer, prefix: str) -> None:
        self._producer, self._prefix = producer, prefix

    async def ticket(self, number: int, status: str = "open", updated_at: str | None = None) -> None:
        """Send the ticket object of Zendesk's API, behind a schema id in a header."""
        ticket = {
            "id": number,
            "status": status,
            "subject": "Où est mon colis ? 荷物はどこ",
            "via": {"channel": "native_messaging"},
            "tags": ["größe"],
            "updated_at": updated_at or _now(),
        }
        await self._send(_TICKETS, number, str(number).encode(), json.dumps(ticket).encode(), [_SCHEMA_HEADER])

    async def presence(self, number: int, presence: str, cause: str | None = None) -> None:
        """Send a CloudEvent in structured mode behind Confluent's prefix, with a key that is JSON."""
        event = {
            "specversion": "1.0",
            "id": f"{number}-{presence}",
            "type": "chat.presence",
            "source": "/chat",
            "time": _now(),
            "data": {"presence": presence, "cause": cause},
        }
        key = json.dumps({"conversation": {"ticket": number}}).encode()
        await self._send(_SESSIONS, number, key, _CONFLUENT_PREFIX + json.dumps(event).encode(), [])

    async def _send(self, topic: str, number: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        await self._producer.send_and_wait(
            self._prefix + topic, value, key=key, partition=number % _PARTITIONS, headers=headers
        )


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"


async def test_mapped_topics_make_each_command_once_through_a_kill(kafka: Broker, topic_prefix: str, tmp_path: Path):
    triggers, mapping = tmp_path / "triggers.yaml", tmp_path / "mapping.yaml"
    triggers.write_text(_TRIGGERS)
    mapping.write_text((ROOT / "deploy" / "mappings" / "zendesk-ticket.yaml").read_text() + _PRESENCE)
    env = settings(
        kafka.bootstrap,
        topic_prefix,
        triggers,
        mapping=str(mapping),
        tickets_topic=_TICKETS,
        sessions_topic=_SESSIONS,
    )
    inputs = [topic_prefix + _TICKETS, topic_prefix + _SESSIONS]
    await topics.create(kafka.bootstrap, inputs, _PARTITIONS, {"compression.type": "zstd"})
    made = await asyncio.to_thread(lapse, "topics", "create", env=env)
    assert made.returncode == 0, made.stdout + made.stderr

    async def commands() -> list[dict]:
        found = await topics.read(kafka.bootstrap, f"{topic_prefix}action-commands", _PARTITIONS)
        return [json.loads(each.value) for each in found]

    async def until_commands(count: int) -> None:
        for _ in range(240):
            if len(await commands()) >= count:
                return
            await asyncio.sleep(0.25)
        raise AssertionError(f"{len(await commands())} of {count} commands. The log ends:\n{worker.tail()}")

    worker = Worker("mapped", env, tmp_path)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, compression_type="lz4")
    await producer.start()
    try:
        worker.start()
        await eventually(lambda: worker.get("/readyz") is not None, 60, "the worker is not ready")
        desk, left = _Desk(producer, topic_prefix), []
        for half in (range(1, 21), range(21, 41)):
            for number in half:
                # Every fourth ticket is solved already, and every fifth customer leaves for a reason without a rule.
                await desk.ticket(number, "solved" if number % 4 == 0 else "open")
                await desk.presence(number, "online")
                await desk.presence(number, "away", "closed_window" if number % 5 == 0 else "lost_connection")
                if number % 4 and number % 5:
                    left.append(str(number))
            if half.start == 1:
                await desk.ticket(99, updated_at="yesterday")
                await until_commands(len(left) // 2)
                worker.kill()
                worker.start()
        await until_commands(len(left))
        await topics.until_no_lag(kafka.bootstrap, f"{topic_prefix}lapse", inputs, _PARTITIONS, within=60)
        assert worker.stop() == 0, worker.tail()
    finally:
        worker.kill()
        await producer.stop()
    written = await commands()
    assert Counter(each["ticket_id"] for each in written) == Counter(left)
    assert all(each["actions"] == [{"field": "status", "value": "solved"}] for each in written)
    (letter,) = await topics.read(kafka.bootstrap, f"{topic_prefix}dead-letters", _PARTITIONS)
    headers = {name: value.decode() for name, value in letter.headers}
    assert headers["lapse.error.code"] == "invalid"
    assert "updated_at" in headers["lapse.error.path"]
    assert b'"yesterday"' in letter.value
    assert worker.tracebacks() == []
