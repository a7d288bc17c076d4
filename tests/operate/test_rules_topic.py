"""`lapse rules …` on a real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import Result
from typer.testing import CliRunner

from streams.cli import app
from streams.core.errors import Failed, Refused
from streams.core.revisions import RULES_KEY, Entry, EntryKind, InUse, Rulebook, Stops
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import check_topics, create_topics
from streams.operate.rules_topic import publish, read_rules
from streams.rules.source import compile_source
from streams.rules.triggers import parse_triggers
from streams.wire.rows import MsgpackRows
from tests.kafka_kit import topics as kit
from tests.worker.kit import TRIGGERS, config_for, producing, read_all

SECOND_FILE = TRIGGERS.replace("Solve abandoned conversations", "Solve").replace("solved", "pending")


@pytest.fixture
def config(kafka: Any, topic_prefix: str) -> KafkaConfig:
    return config_for(kafka, topic_prefix, rules="topic")


@pytest.fixture
def lapse(config: KafkaConfig, tmp_path: Path) -> Iterator[Any]:
    """Run `lapse rules …` with the topics there."""
    asyncio.run(create_topics(config, 2))
    (tmp_path / "one.yaml").write_text(TRIGGERS, "utf-8")
    (tmp_path / "two.yaml").write_bytes(b"\xef\xbb\xbf" + SECOND_FILE.replace("\n", "\r\n").encode())

    def run(*arguments: str, **options: Any) -> Result:
        words = [str(tmp_path / word) if word.endswith(".yaml") else word for word in arguments]
        where = ["--brokers", config.brokers[0], "--topic-prefix", config.topic_prefix]
        return CliRunner().invoke(app, ["rules", *words, *where], **options)

    yield run


def entry(book: Rulebook, text: str = TRIGGERS) -> Entry:
    ruleset = parse_triggers(text).ruleset
    assert ruleset is not None
    return Entry(
        number=book.last + 1, kind=EntryKind.LIVE, published_at=0, effective_from=0, ruleset=ruleset.digest, source=text
    )


async def test_the_topic_is_made_with_one_partition_and_keeps_everything(config: KafkaConfig, kafka: Any) -> None:
    assert config.rules_topic in await create_topics(config, 3)
    report = await check_topics(config)
    assert report.problems == ()
    (made,) = [topic for topic in report.existing if topic.name == config.rules_topic]
    assert (made.partitions, made.cleanup, made.max_message_bytes) == (1, "delete", 16 << 20)
    assert made.retention == ("-1", "-1")


async def test_check_refuses_a_rules_topic_that_may_lose_or_disorder_entries(config: KafkaConfig, kafka: Any) -> None:
    wrong = {"retention.ms": "1000", "max.message.bytes": "1000000", "cleanup.policy": "compact"}
    await kit.create(kafka.bootstrap, [config.rules_topic], 2, wrong)
    problems = "\n".join((await check_topics(config)).problems)
    assert f"{config.rules_topic} has 2 partitions, it must have one" in problems
    assert f"{config.rules_topic} has retention.ms=1000, it must be -1" in problems
    assert f"{config.rules_topic} has max.message.bytes=1000000, it must be 16777216 or more" in problems
    assert f"{config.rules_topic} has cleanup.policy=compact, it must be delete: every revision must stay" in problems


def test_what_is_published_can_be_listed_shown_compared_rolled_back_stopped_and_resumed(
    lapse: Any, config: KafkaConfig
) -> None:
    first = lapse("publish", "one.yaml", "--author", "ada", "--reason", "a start", "--json")
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert (told["number"], told["kind"], told["author"], told["based_on"]) == (1, "live", "ada", None)
    assert told["effective_from"] == told["published_at"]
    second = lapse("publish", "two.yaml", "--if-revision", "1", "--effective-from", "2030-01-01T00:00:00Z", "--json")
    assert json.loads(second.stdout)["effective_from"] == "2030-01-01T00:00:00Z"
    late = lapse("publish", "one.yaml", "--if-revision", "1")
    assert isinstance(late.exception, Failed)
    assert str(late.exception) == "The latest live revision is not 1: it is 2. Nothing was published."
    assert lapse("diff", "1", "2").stdout.splitlines() == ["changed  solve-abandoned: title, actions"]
    assert lapse("show", "1").stdout == TRIGGERS
    assert lapse("rollback", "1").exit_code == 0
    unknown = lapse("stop", "nobody", "--reason", "x")
    assert isinstance(unknown.exception, Refused)
    assert "They have solve-abandoned." in str(unknown.exception)
    assert lapse("stop").exit_code != 0, "a stop needs a reason"
    assert lapse("stop", "solve-abandoned", "--reason", "runaway").exit_code == 0
    assert lapse("resume").exit_code == 0
    assert lapse("shadow", "two.yaml").exit_code == 0
    assert lapse("shadow", "--off").exit_code == 0
    listed = json.loads(lapse("list", "--json").stdout)
    assert [(one["number"], one["kind"]) for one in listed["entries"]] == [
        (1, "live"), (2, "live"), (3, "live"), (4, "stop"), (5, "resume"), (6, "shadow"), (7, "shadow_off"),
    ]  # fmt: skip
    assert listed["entries"][2]["based_on"] == 1
    assert listed["entries"][2]["effective_from"] == "1970-01-01T00:00:00Z", "at once, wherever a partition is"
    assert listed["entries"][3]["triggers"] == ["solve-abandoned"]
    assert listed["ignored"] == 0
    records = asyncio.run(read_all(config, config.rules_topic))
    assert [record.key for record in records] == [str(number).encode() for number in range(1, 8)]


def test_a_file_with_errors_or_a_failing_test_is_not_published(lapse: Any, tmp_path: Path, config: KafkaConfig) -> None:
    (tmp_path / "bad.yaml").write_text(TRIGGERS.replace("status, operator", "statsu, operator"), "utf-8")
    failing = """
    tests:
      - name: it fires
        given: {ticket: {status: open}, session: {state: active}}
        when: {session: {state: inactive}}
        expect: {fired: []}
"""
    (tmp_path / "failing.yaml").write_text(TRIGGERS.rstrip() + failing.replace("\n    ", "\n"), "utf-8")
    for name in ("bad.yaml", "failing.yaml"):
        done = lapse("publish", name)
        assert isinstance(done.exception, Failed)
        assert "Nothing was published." in str(done.exception)
        assert f"{tmp_path / name}:" in done.stderr
    assert asyncio.run(read_all(config, config.rules_topic)) == []


def test_waiting_for_a_revision_that_no_worker_takes_up_ends_with_1(lapse: Any) -> None:
    lapse("publish", "one.yaml")
    done = lapse("wait", "1", "--timeout", "1s")
    assert isinstance(done.exception, Failed)
    assert str(done.exception) == "Not in use after 1s: partition 0 (none), 1 (none)."


def test_waiting_for_an_entry_that_nobody_publishes_says_so(lapse: Any) -> None:
    lapse("publish", "one.yaml")
    done = lapse("wait", "7", "--timeout", "1s")
    assert isinstance(done.exception, Failed)
    assert str(done.exception) == (
        "Not in use after 1s: partition 0 (none), 1 (none). The rules topic has no entry 7; the last one is 1."
    )


def test_waiting_for_a_stop_ends_when_every_partition_has_taken_it_up(lapse: Any, config: KafkaConfig) -> None:
    lapse("publish", "one.yaml")
    stopped = lapse("stop", "solve-abandoned", "solve-abandoned", "--reason", "x", "--json")
    assert json.loads(stopped.stdout)["triggers"] == ["solve-abandoned"], "named twice, stopped once"

    async def take_up(entry: int) -> None:
        row = MsgpackRows().encode_rules(InUse(1, "a" * 12, entry, Stops(), max(1, entry), 0))
        async with producing(config) as producer:
            for partition in (0, 1):
                await producer.send_and_wait(config.changelog("sessions"), row, RULES_KEY, partition=partition)

    asyncio.run(take_up(0))
    assert "Not in use after 1s: partition 0 (1), 1 (1)." in str(lapse("wait", "2", "--timeout", "1s").exception)
    asyncio.run(take_up(2))
    assert lapse("wait", "2", "--timeout", "30s").stdout == "every partition has taken entry 2 up\n"
    assert lapse("wait", "1", "--timeout", "30s").stdout == "every partition has revision 1 or a newer one in use\n"


def test_without_the_topic_the_message_says_how_to_make_it(config: KafkaConfig) -> None:
    where = ["--brokers", config.brokers[0], "--topic-prefix", config.topic_prefix]
    done = CliRunner().invoke(app, ["rules", "list", *where])
    assert isinstance(done.exception, Refused)
    assert "Make it with `lapse topics create --rules topic`." in str(done.exception)


async def test_two_publishers_at_once_never_make_the_same_number(config: KafkaConfig) -> None:
    await create_topics(config, 1)

    async def try_to() -> int | None:
        try:
            return (await publish(config, compile_source, entry)).number
        except Failed:
            return None

    made = [await asyncio.gather(*(try_to() for _ in range(3))) for _ in range(3)]
    numbers = sorted(number for several in made for number in several if number is not None)
    book = await read_rules(config, compile_source)
    assert numbers
    assert numbers == list(range(1, len(numbers) + 1)) == sorted(book.entries)
    assert book.ignored == 0


async def test_an_entry_that_somebody_else_wrote_out_of_turn_is_ignored(config: KafkaConfig) -> None:
    await create_topics(config, 1)
    await publish(config, compile_source, entry)
    async with AIOKafkaProducer(bootstrap_servers=list(config.brokers)) as producer:
        await producer.send_and_wait(config.rules_topic, b"{}", b"2", partition=0)
        await producer.send_and_wait(config.rules_topic, b'{"number": 7, "kind": "shadow_off", "published_at": '
                                     b'"2026-03-01T10:00:00Z"}', b"7", partition=0)  # fmt: skip
    book = await read_rules(config, compile_source)
    assert (sorted(book.entries), book.ignored) == ([1], 2)
    assert (await publish(config, compile_source, entry)).number == 2


async def test_entries_of_a_publisher_that_was_given_up_are_no_end_of_the_topic(config: KafkaConfig) -> None:
    """An aborted transaction at the end leaves nothing to read there."""
    await create_topics(config, 1)
    await publish(config, compile_source, entry)
    aborted = AIOKafkaProducer(bootstrap_servers=list(config.brokers), transactional_id=config.rules_transactional_id)
    async with aborted:
        await aborted.begin_transaction()
        await aborted.send_and_wait(config.rules_topic, b"{}", b"2", partition=0)
        await aborted.abort_transaction()
    async with asyncio.timeout(15):
        book = await read_rules(config, compile_source)
    assert (sorted(book.entries), book.ignored) == ([1], 0)
    assert (await publish(config, compile_source, entry)).number == 2


def test_everything_can_be_stopped_whatever_the_latest_revision_is(lapse: Any, config: KafkaConfig) -> None:
    lapse("publish", "one.yaml")

    def of_a_newer_version(book: Rulebook) -> Entry:
        return Entry(
            number=book.last + 1, kind=EntryKind.LIVE, published_at=0, effective_from=0, ruleset="a" * 12, source="5"
        )

    asyncio.run(publish(config, compile_source, of_a_newer_version))
    assert lapse("stop", "solve-abandoned", "--reason", "x").exit_code == 0
    assert lapse("stop", "--reason", "x").exit_code == 0
