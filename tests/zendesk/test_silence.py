"""`lapse ingest --silence`: refusals, and as a process on a real broker through kill -9."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.core.model import SECOND
from streams.core.names import Topic
from streams.kafka.config import KafkaConfig
from streams.testing.traffic import Record
from streams.wire import instants
from tests.kafka_kit.broker import Broker
from tests.worker.kit import config_for, read_all, send, topics
from tests.zendesk.ingesting import Silence, counted

PARTITIONS = 2
MINUTE = 60 * SECOND
WAIT = 15 * MINUTE
WITHIN = 120.0


def test_without_a_channel_that_has_a_wait_it_refuses_and_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["ingest", "--silence", "--log-format", "text"])
    assert done.exit_code == 2
    assert "LAPSE_SILENCE (`mobile=15m,whatsapp=30m`)" in done.stderr


def test_it_receives_nothing_so_there_is_nothing_to_replay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["ingest", "--silence", "--replay", "-"])
    assert done.exit_code == 2
    assert "leave --replay out" in done.stderr


def message(ticket: str, at: int) -> Record:
    """A comment of the customer, as `lapse ingest` writes it when it arrives at once."""
    value = {
        "event_id": f"{ticket}-{at}",
        "ticket_id": ticket,
        "occurred_at": instants.text(at),
        "ticket": {"status": "open", "channel": "mobile", "customer_message_at": instants.text(at)},
    }
    return Record(Topic.TICKETS, ticket.encode(), json.dumps(value).encode(), at // 1000)


States = dict[str, list[tuple[str, str]]]
"""State and time of every session state, by ticket, in order."""


async def states(config: KafkaConfig) -> States:
    found: States = defaultdict(list)
    for record in await read_all(config, config.topic("session-states")):
        value = json.loads(record.value)
        assert value.get("reason") == ("silent" if value["state"] == "inactive" else None)
        found[value["ticket_id"]].append((value["state"], value["occurred_at"]))
    return found


async def until(process: Silence, look: Callable[[], Awaitable[Any]], done: Callable[[Any], Any]) -> None:
    deadline = time.monotonic() + WITHIN
    while not done(found := await look()):
        assert process.running, process.log
        assert time.monotonic() < deadline, f"{found}\n{process.log}"
        await asyncio.sleep(0.25)


@pytest.mark.system
async def test_every_silence_and_return_is_written_once_through_a_kill(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    config = await topics(config_for(kafka, topic_prefix, silence={"mobile": WAIT}), PARTITIONS)
    now = time.time_ns() // 1000 // SECOND * SECOND
    first, again, soon = now - 40 * MINUTE, now - 20 * MINUTE, now - WAIT + 2 * SECOND
    tickets = [str(5000 + number) for number in range(40)]
    whole = [
        ("inactive", instants.text(first + WAIT)),
        ("active", instants.text(again)),
        ("inactive", instants.text(again + WAIT)),
    ]
    # The last one ends by the clock: no record comes after it.
    expected = {**dict.fromkeys(tickets, whole), "waits": [("inactive", instants.text(soon + WAIT))]}

    def started() -> Silence:
        # With a name of its own in the group, the second one need not wait until the group misses the first.
        given = {"silence": '{"mobile": "15m"}', "act_from": "beginning", "instance_id": "silence-0"}
        return Silence(kafka.bootstrap, topic_prefix, tmp_path, **given)

    async def written() -> States:
        return await states(config)

    await send(config, [message("waits", soon), *(message(ticket, first) for ticket in tickets[:20])], PARTITIONS)
    process = started()
    try:
        await until(process, written, bool)
        process.kill()
        await send(config, [message(ticket, first) for ticket in tickets[20:]], PARTITIONS)
        await send(config, [message(ticket, again) for ticket in tickets], PARTITIONS)
        process = started().until_ready(WITHIN)

        async def metrics() -> str:
            return process.get("/metrics")[1]

        await until(
            process, written, lambda found: all(len(found[ticket]) >= len(of) for ticket, of in expected.items())
        )
        await until(process, metrics, lambda text: counted(text, "lapse_silence_states_total", state="active"))
        assert process.stop() == 0, process.log
    finally:
        if process.running:
            process.kill()
    assert await states(config) == expected
    assert "Traceback" not in process.log
