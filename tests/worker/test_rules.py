"""A worker whose rules come from their topic, on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from typer.testing import CliRunner

from streams.cli import app
from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.errors import Refused
from streams.core.names import Output
from streams.core.revisions import Entry, EntryKind, Rulebook
from streams.core.triggers import Ruleset
from streams.kafka import follow
from streams.kafka.config import KafkaConfig
from streams.operate.capture import capture
from streams.operate.rules_topic import now, publish, read_in_use, read_rules
from streams.rules.source import compile_source
from streams.rules.triggers import parse_triggers
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.worker.rules_reader import RulesReader
from streams.worker.service import Worker
from tests.kafka_kit import topics as kit
from tests.worker.kit import TRIGGERS, Running, config_for, read_all, send, topics
from tests.worker.test_worker import lapses

TAGGING = TRIGGERS.replace("{field: status, value: solved}", "{field: add_tags, value: left}")


class Ruled(Running):
    """A worker in this process, with its rules from the topic."""

    def __init__(self, config: KafkaConfig) -> None:
        super().__init__(config)
        self.book = Rulebook(compile_source)
        self.worker = Worker(
            config,
            Engine(Rules(Ruleset(())), EngineSettings()),
            decode=decode,
            rows=MsgpackRows(),
            observer=self.notes,
            beside=(self._remember,),
            book=self.book,
        )


@contextlib.asynccontextmanager
async def ruled(config: KafkaConfig) -> Any:
    worker = Ruled(config)
    worker.start()
    try:
        yield worker
    finally:
        if worker.task is not None and not worker.task.done():
            await worker.stop()


async def publish_live(config: KafkaConfig, text: str, *, go_on: bool = False) -> int:
    ruleset = parse_triggers(text).ruleset
    assert ruleset is not None

    def make(book: Rulebook) -> Entry:
        at = now()
        return Entry(
            number=book.last + 1, kind=EntryKind.LIVE, published_at=at, effective_from=at, source=text,
            ruleset=ruleset.digest, author="ada",
        )  # fmt: skip

    return (await publish(config, compile_source, make, go_on=go_on)).number


async def publish_stop(config: KafkaConfig, kind: EntryKind) -> float:
    """Publish; return when that was done, by this process's clock."""
    await publish(
        config,
        compile_source,
        lambda book: Entry(number=book.last + 1, kind=kind, published_at=now(), reason="test", triggers="all"),
    )
    return time.monotonic()


async def commands(config: KafkaConfig) -> list[tuple[int, str]]:
    """(revision, value of the first action) of every command."""
    records = await read_all(config, config.topic(Output.COMMANDS))
    told = [json.loads(record.value) for record in records]
    return [(one["revision"], one["actions"][0]["value"]) for one in told]


async def test_a_worker_waits_for_rules_takes_revisions_and_stops_up_and_a_restart_obeys(
    kafka: Any, topic_prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streams.worker.processor")
    config = await topics(config_for(kafka, topic_prefix, rules="topic"), 2)
    async with ruled(config) as worker:
        await worker.until(lambda: worker.status is not None and worker.status.joined)
        await worker.until(
            lambda: all("no live revision yet" in (held.waits_for or "") for held in worker.status.partitions())
        )
        assert worker.held == set(), "not ready"
        await publish_live(config, TRIGGERS)
        await worker.until(lambda: worker.held == {0, 1})
        await send(config, lapses(0, 10), 2)
        await worker.until(lambda: worker.notes.taken == 30)
        assert await publish_live(config, TAGGING) == 2
        await worker.until(lambda: {held.in_use.revision for held in worker.status.partitions()} == {2})
        await send(config, lapses(10, 10), 2)
        await worker.until(lambda: worker.notes.taken == 60)
        done = await publish_stop(config, EntryKind.STOP)
        await worker.until(lambda: all(held.in_use.stops.everything for held in worker.status.partitions()))
        print(f"a stop was in use {time.monotonic() - done:.3f} s after its publishing")
        await send(config, lapses(20, 10), 2)
        await worker.until(lambda: worker.notes.taken == 90)
    assert sorted(await commands(config)) == sorted([(1, "solved")] * 10 + [(2, ["left"])] * 10)
    async with ruled(config) as again:
        await again.until(lambda: again.held == {0, 1})
        assert all(held.in_use.stops.everything for held in again.status.partitions()), "as it was committed"
        await publish_stop(config, EntryKind.RESUME)
        await again.until(lambda: not any(held.in_use.stops.everything for held in again.status.partitions()))
        await send(config, lapses(30, 10), 2)
        await again.until(lambda: again.notes.taken == 30)
    assert (await commands(config)).count((2, ["left"])) == 20
    in_use = await read_in_use(config)
    assert {number: (row.revision, row.activation) for number, row in in_use.items()} == {0: (2, 4), 1: (2, 4)}
    records = await read_all(config, config.topic(Output.TRANSITIONS))
    told = [json.loads(record.value) for record in records if record.key.startswith(b"rules/")]
    for partition in (0, 1):
        of_partition = [one for one in told if one["partition"] == partition]
        assert [(one["number"], one["kind"], one["previous"]) for one in of_partition] == [
            (1, "live", None),
            (2, "live", 1),
            (3, "stop", 2),
            (4, "resume", 3),
        ]
        assert {one["partitions"] for one in of_partition} == {2}
    logged = [message for message in caplog.messages if "took up" in message]
    digest = told[0]["ruleset"]
    assert sorted(message.removesuffix(", late") for message in logged if "revision 1" in message) == [
        f"partition {partition}: took up revision 1 ({digest}) by ada" for partition in (0, 1)
    ]
    assert sum("took up entry 3, stop (" in one and one.endswith(", because: test") for one in logged) == 2
    assert len(logged) == len(told) == 8
    await _replays_to_the_same_bytes(config, tmp_path)


async def _replays_to_the_same_bytes(config: KafkaConfig, folder: Path) -> None:
    """What `lapse capture` takes along gives the same commands and records again, byte for byte."""
    lines: list[bytes] = []
    await capture(config, lines.append)
    file, made, told = folder / "capture.ndjson", folder / "commands", folder / "transitions"
    file.write_bytes(b"".join(lines))
    words = ["backtest", "--events", str(file), "--as-it-was", "--commands", str(made), "--transitions", str(told)]
    done = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert done.exit_code == 0, done.output
    commanded = await read_all(config, config.topic(Output.COMMANDS))
    recorded = await read_all(config, config.topic(Output.TRANSITIONS))
    assert made.read_bytes().splitlines() == [record.value for record in commanded]
    assert told.read_bytes().splitlines() == [record.value for record in recorded]


async def test_a_worker_without_the_rules_topic_refuses_to_start(kafka: Any, topic_prefix: str) -> None:
    file = await topics(config_for(kafka, topic_prefix), 1)

    config = msgspec.structs.replace(file, rules="topic")
    worker = Ruled(config)
    worker.start()
    assert worker.task is not None
    (error,) = await asyncio.gather(worker.task, return_exceptions=True)
    assert f"{config.rules_topic} does not exist" in str(error)
    assert getattr(error, "exit_code", None) == 2


async def test_a_rules_topic_that_is_made_anew_takes_nothing_back_and_goes_on(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix, rules="topic"), 1)
    await publish_live(config, TRIGGERS)
    await publish_live(config, TAGGING)
    async with ruled(config) as worker:
        await worker.until(lambda: worker.held == {0})
        async with kit.admin(kafka.bootstrap) as admin:
            await admin.delete_topics([config.rules_topic])
        await asyncio.sleep(1)
        assert [held.in_use.revision for held in worker.status.partitions()] == [2], "without the topic"
        await topics(config, 1)

        def make(book: Rulebook) -> Entry:
            ruleset = parse_triggers(TRIGGERS).ruleset
            assert ruleset is not None
            return Entry(
                number=book.last + 1, kind=EntryKind.LIVE, published_at=now(), effective_from=0, source=TRIGGERS,
                ruleset=ruleset.digest,
            )  # fmt: skip

        assert (await publish(config, compile_source, make, go_on=True)).number == 3
        await worker.until(lambda: [held.in_use.revision for held in worker.status.partitions()] == [3], within=30)
        assert sorted(worker.book.entries) == [1, 2, 3]


async def test_a_trimmed_rules_topic_takes_nothing_back_and_a_restart_waits_for_a_newer_revision(
    kafka: Any, topic_prefix: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix, rules="topic"), 1)
    await publish_live(config, TRIGGERS)
    await publish_live(config, TAGGING)
    async with ruled(config) as worker:
        await worker.until(lambda: worker.held == {0})
        async with kit.admin(kafka.bootstrap) as admin:
            trimmed = {TopicPartition(config.rules_topic, 0): RecordsToDelete(before_offset=-1)}
            await admin.delete_records(trimmed)
        assert (await read_rules(config, compile_source)).entries == {}, "nothing is left"
        await send(config, lapses(0, 5), 1)
        await worker.until(lambda: worker.notes.taken == 15)
        assert [held.in_use.revision for held in worker.status.partitions()] == [2]
        with pytest.raises(Refused, match=r"is empty, and partitions have taken entry 2 up.*publish --continue"):
            await publish_live(config, TRIGGERS)
    async with ruled(config) as again:
        await again.until(
            lambda: (
                again.status is not None
                and [held.waits_for for held in again.status.partitions()]
                == ["revision 2, which it has in use, can't be used: it is not in the rules topic"]
            )
        )
        assert again.held == set(), "not ready"
        assert await publish_live(config, TRIGGERS, go_on=True) == 3
        await again.until(lambda: again.held == {0})
        await send(config, lapses(5, 5), 1)
        await again.until(lambda: again.notes.taken == 15)
    assert await commands(config) == [(2, ["left"])] * 5 + [(3, "solved")] * 5


async def test_an_entry_that_comes_while_the_topic_is_read_to_its_end_is_not_missed(
    kafka: Any, topic_prefix: str, monkeypatch: Any
) -> None:

    config = await topics(config_for(kafka, topic_prefix, rules="topic"), 1)
    await publish_live(config, TRIGGERS)
    book = Rulebook(compile_source)
    read = follow.read_to_ends

    async def read_and_fetch_one_more(config: Any, consumer: Any, tps: Any, take: Any, **options: Any) -> None:
        await read(config, consumer, tps, take, **options)
        await publish_live(config, TAGGING)
        consumer.resume(*tps)
        async with asyncio.timeout(10):
            while not await consumer.getmany(timeout_ms=100):  # fetched, and handed to nobody
                pass

    monkeypatch.setattr(follow, "read_to_ends", read_and_fetch_one_more)
    reader = RulesReader(config, book, lambda: None)
    await reader.start()
    try:
        for _ in range(400):
            if book.last == 2:
                break
            await asyncio.sleep(0.05)
    finally:
        await reader.stop()
    assert (book.last, book.ignored) == (2, 0)
