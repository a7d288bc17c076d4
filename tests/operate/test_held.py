"""Held commands are listed, released once and discarded, whoever asks at the same time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.core.cycle import Rules
from streams.core.engine import Engine
from streams.core.errors import Failed, Refused
from streams.core.model import Command, FieldValue, Lapse, Withdrawal
from streams.core.names import Output
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import require_topics
from streams.operate import held as module
from streams.operate.held import RELEASED_AT, read_held, settle
from streams.rules.triggers import parse_triggers
from streams.testing.builders import session_state, ticket_update
from streams.wire import encode
from tests.worker.kit import TRIGGERS, Running, config_for, producing, read_all, send, topics

AT = 1_772_359_200_000_000
NOW = AT + 3_600_000_000


def a_command(ticket: str, trigger: str = "solve") -> Command:
    lapse = Lapse(f"s-{ticket}", AT, AT, 1, "active", None, "web", "user_inactive_or_offline", "web", "00-ab-cd-01")
    actions = (FieldValue("status", "solved"),)
    return Command(
        f"00000000-0000-5000-8000-{ticket:0>12}", ticket, AT, lapse, 0, ((trigger, trigger),), actions, {}, "0" * 12
    )


async def with_held(config: KafkaConfig, *held: Command | Withdrawal) -> KafkaConfig:
    async with producing(config) as producer:
        for one in held:
            key, value, headers = encode.held(one, "lapse")
            await producer.send_and_wait(config.topic(Output.HELD_COMMANDS), value, key, partition=1, headers=headers)
    return config


async def test_what_waits_is_what_has_no_marker(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    await with_held(config, a_command("1"), a_command("2"), Withdrawal("1", a_command("1").command_id), a_command("3"))
    assert [held.command.ticket_id for held in await read_held(config)] == ["2", "3"]


async def test_a_release_writes_the_command_as_it_was_with_one_header_more_and_once(
    kafka: Any, topic_prefix: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    await with_held(config, a_command("1"), a_command("2", "tag"))
    done = await settle(config, "released", lambda held: held.triggers == ["solve"], lambda: NOW)
    assert (done.commands, done.passed_over, done.written) == (1, 1, {"solve": 1})
    assert (await settle(config, "released", lambda held: held.triggers == ["solve"], lambda: NOW)).commands == 0
    [record] = await read_all(config, config.topic(Output.COMMANDS))
    written = encode.command(a_command("1"), "lapse")
    assert (record.partition, record.key, record.value) == (1, written.key, written.value)
    assert list(record.headers) == [*written.headers, (RELEASED_AT, b"2026-03-01T11:00:00Z")]
    assert (await settle(config, "discarded", lambda _: True, lambda: NOW)).commands == 1
    assert await read_held(config) == []
    states = [json.loads(one.value).get("state") for one in await read_all(config, config.topic(Output.HELD_COMMANDS))]
    assert states == [None, None, "released", "discarded"]
    assert len(await read_all(config, config.topic(Output.COMMANDS))) == 1


async def test_of_two_releases_at_once_and_one_that_dies_each_command_is_written_once(
    kafka: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    await with_held(config, *(a_command(str(number)) for number in range(30)))
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    calls = 0

    def dies() -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("killed between two transactions")
        return NOW

    with pytest.raises(RuntimeError):
        await settle(config, "released", lambda _: True, dies)
    ends = await asyncio.gather(
        *(settle(config, "released", lambda _: True, lambda: NOW) for _ in range(2)), return_exceptions=True
    )
    assert all(isinstance(end, Failed) or not isinstance(end, BaseException) for end in ends)
    await settle(config, "released", lambda _: True, lambda: NOW)
    ids = [json.loads(one.value)["command_id"] for one in await read_all(config, config.topic(Output.COMMANDS))]
    assert sorted(ids) == [a_command(str(number)).command_id for number in range(30)]


async def test_a_worker_holds_in_the_transaction_of_the_round_and_the_command_line_releases(
    kafka: Any, topic_prefix: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix), 1)
    parsed = parse_triggers("limit: {count: 1, per: 1h}\n" + TRIGGERS)
    assert parsed.ruleset is not None
    worker = Running(config)
    worker.worker._engine = Engine(Rules(parsed.ruleset))
    records = []
    for ticket in ("1", "2", "3"):
        records += [
            ticket_update(ticket, at="2026-03-01T10:00:00Z", status="open"),
            session_state(ticket, "inactive", "user_inactive_or_offline", at=f"2026-03-01T10:05:0{ticket}Z"),
        ]
    await send(config, records, 1)
    worker.start()
    await worker.until(lambda: worker.notes.taken == 6)
    await send(config, [session_state("3", "active", at="2026-03-01T10:06:00Z")], 1)
    await worker.until(lambda: worker.notes.taken == 7)
    await worker.stop()
    settings = ["--brokers", ",".join(config.brokers), "--topic-prefix", config.topic_prefix]

    def lapse(*arguments: str) -> str:
        found = CliRunner().invoke(app, ["held", *arguments, *settings], catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.stdout

    listed = [json.loads(line) for line in (await asyncio.to_thread(lapse, "list", "--json")).splitlines()]
    assert [(one["ticket_id"], one["triggers"]) for one in listed] == [("2", ["solve-abandoned"])]
    passed = await asyncio.to_thread(lapse, "release", "--before", "2026-03-01T10:05:02Z", "--json")
    assert json.loads(passed) == {"released": 0, "passed_over": 1, "triggers": {}}
    assert "1 command released" in await asyncio.to_thread(lapse, "release", "--trigger", "solve-abandoned")
    commands = [json.loads(one.value) for one in await read_all(config, config.topic(Output.COMMANDS))]
    assert [one["ticket_id"] for one in commands] == ["1", "2"]
    assert commands[1] == listed[0]["command"]


async def test_a_worker_with_a_limit_refuses_to_start_without_the_topic(kafka: Any, topic_prefix: str) -> None:
    with pytest.raises(Refused, match="held-commands does not exist"):
        await require_topics(config_for(kafka, topic_prefix), holds=True)
