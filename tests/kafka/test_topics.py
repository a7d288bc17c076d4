"""Checking and making topics on a real broker."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.core.cycle import Rules
from streams.core.errors import Failed, Refused
from streams.core.model import SECOND
from streams.core.names import Output, Topic
from streams.kafka.config import DEFAULT_MAX_MESSAGE_BYTES, KafkaConfig
from streams.kafka.topics import check_topics, create_topics, require_topics, wanted_topics
from streams.operate.capture import capture
from streams.rules.triggers import parse_triggers
from streams.testing.builders import session_state, ticket_update
from streams.testing.driver import Driver
from streams.wire.capture import parse
from streams.worker.first_start import require_act_from
from tests.worker.kit import TRIGGERS, config_for, make_topic, producing, read_all, running, send, topics


async def test_created_topics_are_all_right(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    made = await create_topics(config, 3)
    assert made == [topic.name for topic in wanted_topics(config)]
    report = await check_topics(config)
    assert (report.problems, report.missing) == ((), ())
    assert {topic.partitions for topic in report.existing} == {3}
    found = await require_topics(config)
    assert (found.existing[0].partitions, found.warnings) == (3, ())


async def test_creating_again_makes_nothing_and_changes_nothing(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    await make_topic(config, config.topic(Output.COMMANDS), 2, retention_ms="1234567", max_message_bytes="1500000")
    made = await create_topics(config)
    assert config.topic(Output.COMMANDS) not in made
    assert len(made) == len(wanted_topics(config)) - 1
    assert await create_topics(config) == []
    kept = next(topic for topic in (await check_topics(config)).existing if topic.name == config.topic(Output.COMMANDS))
    assert (kept.partitions, kept.max_message_bytes) == (2, 1_500_000)


async def test_a_worker_does_without_an_output_that_it_does_not_write_to(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    for topic in wanted_topics(config):
        if topic.required:
            cleanup = "compact" if topic.cleanup == "compact" else "delete"
            await make_topic(config, topic.name, 2, cleanup_policy=cleanup)
    assert (await require_topics(config)).missing == ()
    others = (Output.HELD_COMMANDS, Output.RESULTS, Output.APPLY_DEAD_LETTERS)
    assert await create_topics(config) == [config.topic(name) for name in others]


async def test_one_refusal_names_every_problem(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    await make_topic(config, config.topic(Topic.TICKETS.value), 8)
    await make_topic(config, config.topic(Topic.SESSIONS.value), 12, cleanup_policy="compact")
    await make_topic(config, config.changelog("tickets"), 8, cleanup_policy="compact,delete")
    with pytest.raises(Refused) as refusal:
        await require_topics(config)
    text = str(refusal.value)
    for part in (
        f"{config.topic(Output.COMMANDS)} does not exist",
        f"{config.topic(Topic.TICKETS.value)} has 8, {config.topic(Topic.SESSIONS.value)} has 12",
        "cleanup.policy=compact, it must be delete: compaction hides a customer's short return",
        "cleanup.policy=compact,delete, it must be compact",
        "lapse topics create",
    ):
        assert part in text, text


async def test_a_number_of_partitions_that_existing_topics_do_not_have_is_refused(
    kafka: Any, topic_prefix: str
) -> None:
    config = config_for(kafka, topic_prefix)
    await make_topic(config, config.topic(Output.COMMANDS), 2)
    with pytest.raises(Refused, match="has 2"):
        await create_topics(config, 3)
    assert (await check_topics(config)).missing


async def test_a_broker_that_cannot_be_reached_is_named_with_the_reason() -> None:
    config = KafkaConfig(brokers=("127.0.0.1:1",), broker_patience=SECOND)
    with pytest.raises(Failed, match=r"127\.0\.0\.1:1: nothing listens on that port"):
        await check_topics(config)


async def test_a_first_start_over_a_history_is_refused_without_act_from(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix, act_from_is_set=False))
    await require_act_from(config, 1)
    await send(config, [session_state()], 1)
    with pytest.raises(Refused, match=rf"{topic_prefix}session-states.*Set act_from"):
        await require_act_from(config, 1)


async def test_a_worker_that_waited_on_empty_topics_may_come_back_without_act_from(
    kafka: Any, topic_prefix: str
) -> None:
    """The group has read nothing yet, but it has begun: what came since is no history."""
    config = await topics(config_for(kafka, topic_prefix, act_from_is_set=False))
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0})
    await send(config, [session_state()], 1)
    await require_act_from(config, 1)


async def test_topics_with_kafkas_defaults_will_do(kafka: Any, topic_prefix: str) -> None:
    """Only the cleanup policy of changelogs and the number of partitions have to be right."""
    config = config_for(kafka, topic_prefix)
    for topic in wanted_topics(config):
        policy = {"cleanup_policy": "compact"} if topic.cleanup == "compact" else {}
        await make_topic(config, topic.name, 2, max_message_bytes=str(DEFAULT_MAX_MESSAGE_BYTES), **policy)
    found = await require_topics(config)
    assert (found.problems, found.warnings) == ((), ())
    assert set(found.limits.values()) == {DEFAULT_MAX_MESSAGE_BYTES}


async def test_topics_too_small_for_the_largest_records_are_warned_of_and_not_refused(
    kafka: Any, topic_prefix: str
) -> None:
    config = config_for(kafka, topic_prefix)
    await make_topic(config, config.changelog("tickets"), 1, cleanup_policy="compact", max_message_bytes="327679")
    await make_topic(config, config.changelog("sessions"), 1, cleanup_policy="compact", max_message_bytes="327680")
    await make_topic(config, config.topic(Topic.SESSIONS.value), 1, max_message_bytes="2000000")
    await make_topic(config, config.topic("dead-letters"), 1, max_message_bytes="1999999")
    await create_topics(config)
    found = await require_topics(config)
    of_row, of_letter = found.warnings
    assert of_row.startswith(
        f"{config.changelog('tickets')} has max.message.bytes=327679; a row can need 327680, and a worker with a row"
    )
    assert of_letter.startswith(
        f"{config.topic('dead-letters')} has max.message.bytes=1999999, less than {config.topic('session-states')} "
        "with 2000000; a bad record"
    )
    where = ["--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix]
    checked = await asyncio.to_thread(CliRunner().invoke, app, ["topics", "check", *where])
    assert (checked.exit_code, checked.stdout.count("warning: ")) == (0, 2)
    assert checked.stdout.endswith(" topics of 1 partitions: all is well, with warnings\n")


async def test_a_bad_record_that_does_not_fit_into_the_dead_letters_is_kept_without_its_value(
    kafka: Any, topic_prefix: str
) -> None:
    config = await with_small_dead_letters(kafka, topic_prefix, 50_000)
    bad = {size: b"x" * size for size in (40_000, 49_000, 49_990, 60_000)}
    async with producing(config) as producer:
        for value in bad.values():
            await producer.send_and_wait(config.topic("session-states"), value, b"7", headers=[("own", b"1")])
        await producer.send_and_wait(
            config.topic("session-states"), bad[60_000], b"k" * 45_000, headers=[("own", b"h" * 10_000)]
        )
        await producer.send_and_wait(config.topic("session-states"), b"y" * 9, b"k" * 60_000)
    async with running(config) as worker:
        await worker.until(lambda: worker.notes.taken >= 6)
    letters = await read_all(config, config.topic("dead-letters"))
    headers = [dict(letter.headers) for letter in letters]
    assert [said["lapse.error.code"] for said in headers] == [b"not_json"] * 6
    assert [len(letter.value or b"") for letter in letters] == [40_000, 49_000, 0, 0, 0, 0]
    for said, value in zip(headers[2:], [bad[49_990], bad[60_000], bad[60_000], b"y" * 9], strict=True):
        assert said["lapse.source.size"] == str(len(value)).encode()
        assert said["lapse.source.sha256"] == hashlib.sha256(value).hexdigest().encode()
    assert [said.get("own") for said in headers] == [b"1"] * 4 + [None] * 2
    assert [said.get("lapse.source.omitted") for said in headers] == [None] * 4 + [b"headers", b"headers,key"]


async def test_batches_are_as_small_as_each_topic_wants_them(kafka: Any, topic_prefix: str) -> None:
    config = await with_small_dead_letters(kafka, topic_prefix, 20_000)
    async with producing(config) as producer:
        for number in range(200):
            await producer.send(config.topic("session-states"), b"%03d" % number * 300, b"7")
        await producer.flush()
    async with running(config) as worker:
        await worker.until(lambda: worker.notes.taken >= 200)
    values = [letter.value for letter in await read_all(config, config.topic("dead-letters"))]
    assert values == [b"%03d" % number * 300 for number in range(200)]


async def test_a_row_too_large_for_its_changelog_is_named_with_the_topic(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    name = config.changelog("tickets")
    await make_topic(config, name, 1, cleanup_policy="compact", max_message_bytes="5000")
    await create_topics(config)
    fields = {f"text_{number}": "x" * 900 for number in range(10)}
    await send(config, [ticket_update("7", **fields)], 1)
    says = rf"a record for {name} has \d+ bytes, and the topic takes max.message.bytes=5000. Raise it"
    with pytest.raises(Failed, match=says):
        async with running(config) as worker:
            await worker.until(lambda: worker.notes.taken, within=60)


async def with_small_dead_letters(kafka: Any, topic_prefix: str, size: int) -> KafkaConfig:
    config = config_for(kafka, topic_prefix, dead_letter_limit=None)
    await make_topic(config, config.topic("dead-letters"), 1, max_message_bytes=str(size))
    await create_topics(config)
    return config


async def test_topics_of_other_names_are_used_and_events_keep_their_default_names(
    kafka: Any, topic_prefix: str
) -> None:
    """Event ids, and with them command ids, are the same whatever the topics are called: a backtest finds them."""
    named = {"tickets_topic": "zd.tickets", "sessions_topic": "zd.sessions", "commands_topic": "zd.todo"}
    config = config_for(kafka, topic_prefix, **named, transitions_topic="zd.seen", dead_letters_topic="zd.bad")
    made = await create_topics(config)
    assert made[:5] == [f"{topic_prefix}zd.{name}" for name in ("tickets", "sessions", "todo", "seen", "bad")]
    [opened, left] = [
        session_state("7", "active", at="2026-03-01T10:00:01Z"),
        session_state("7", "inactive", at="2026-03-01T10:00:02Z"),
    ]
    no_id = left._replace(value=json.dumps(without_event_id(left.value)).encode())
    await send(config, [ticket_update("7", at="2026-03-01T10:00:00Z", status="open"), opened, no_id], 1)
    async with producing(config) as producer:
        await producer.send_and_wait(f"{topic_prefix}zd.tickets", b"{}", b"7")
    async with running(config) as worker:
        await worker.until(lambda: worker.notes.taken >= 4)
    [command] = await read_all(config, f"{topic_prefix}zd.todo")
    assert json.loads(command.value)["transition"]["event_id"] == "session-states/0/1"
    assert len(await read_all(config, f"{topic_prefix}zd.seen")) == 3
    [letter] = await read_all(config, f"{topic_prefix}zd.bad")
    assert dict(letter.headers)["lapse.source.topic"] == f"{topic_prefix}zd.tickets".encode()
    lines: list[bytes] = []
    await capture(config, lines.append)
    assert {json.loads(line)["topic"] for line in lines} == {"ticket-updates", "session-states"}
    replayed = driven(lines)
    assert replayed == [json.loads(command.value)]


def without_event_id(value: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value or b"")
    found.pop("event_id", None)
    return found


def driven(lines: list[bytes]) -> list[Any]:
    """The commands that the engine without a broker makes of a capture."""
    rules = parse_triggers(TRIGGERS).ruleset
    assert rules is not None
    driver = Driver(Rules(rules))
    for line in lines:
        found = parse(line)
        driver.pipe(
            found.topic, found.record.key, found.record.value, found.record.timestamp, offset=found.record.offset
        )
    return driver.commands()
