"""Dead letters are shown as what they are, and go back to where they came from, once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.core.errors import Refused
from streams.core.inputs import DeadLetter
from streams.core.model import Rejection
from streams.core.names import Topic
from streams.kafka.config import KafkaConfig
from streams.operate.dead_letters import Letter, read_dead_letters, replay
from streams.wire import encode
from streams.wire.capture import CapturedRecord
from tests.worker.kit import config_for, producing, read_all, topics

AHEAD = Rejection("bad_timestamp", "$.occurred_at", "`occurred_at` lies 400 s ahead of the clock, more than 300 s")
LARGE = Rejection("too_large", "$", "the value has 2000000 bytes, more than 1048576", keep_value=False)
NOT_JSON = Rejection("not_json", "$", "the value is not JSON: no")


async def with_letters(config: KafkaConfig, *rejections: Rejection, first: int = 0) -> KafkaConfig:
    """Write one letter each, as a worker does, of records 0, 1, ... of partition 1."""
    async with producing(config) as producer:
        for offset, rejection in enumerate(rejections, first):
            record = CapturedRecord(offset, 1000 + offset, b"7", b'{"n":%d}' % offset, (("ce_id", b"e%d" % offset),))
            topic = Topic.TICKETS if offset % 2 else Topic.SESSIONS
            letter = encode.dead_letter(DeadLetter(topic, record, rejection), 1, config.topic(topic.value))
            await producer.send_and_wait(
                config.topic("dead-letters"), letter.value, letter.key, partition=1, headers=letter.headers
            )
    return config


async def letters(config: KafkaConfig) -> list[Letter]:
    found: list[Letter] = []
    await read_dead_letters(config, found.append)
    return found


async def test_a_letter_says_what_was_wrong_and_where_it_was(kafka: Any, topic_prefix: str) -> None:
    config = await with_letters(await topics(config_for(kafka, topic_prefix), 2), AHEAD)
    [letter] = await letters(config)
    assert (letter.code, letter.path, letter.message) == (AHEAD.code, AHEAD.path, AHEAD.message)
    assert (letter.source_topic, letter.source_partition, letter.source_offset, letter.source_timestamp) == (
        config.topic("session-states"),
        1,
        0,
        1000,
    )
    assert (letter.key, letter.value, letter.headers) == (b"7", b'{"n":0}', (("ce_id", b"e0"),))


async def test_a_replayed_letter_is_the_record_that_it_was(kafka: Any, topic_prefix: str) -> None:
    config = await with_letters(await topics(config_for(kafka, topic_prefix), 2), AHEAD, NOT_JSON)
    assert (await replay(config)).sent == {"bad_timestamp": 1, "not_json": 1}
    for topic, offset in ((Topic.SESSIONS, 0), (Topic.TICKETS, 1)):
        [record] = await read_all(config, config.topic(topic.value))
        assert (record.partition, record.timestamp, record.key, record.value) == (
            1,
            1000 + offset,
            b"7",
            b'{"n":%d}' % offset,
        )
        assert list(record.headers) == [
            ("ce_id", b"e%d" % offset),
            ("lapse.replayed.from", f"{config.topic('dead-letters')}/1/{offset}".encode()),
        ]


async def test_a_second_replay_goes_on_where_the_first_ended(kafka: Any, topic_prefix: str) -> None:
    config = await with_letters(await topics(config_for(kafka, topic_prefix), 2), AHEAD)
    assert (await replay(config)).sent.total() == 1
    assert (await replay(config)).sent.total() == 0
    await with_letters(config, NOT_JSON, first=2)
    assert (await replay(config)).sent == {"not_json": 1}
    assert (await replay(config, again=True)).sent.total() == 2
    assert len(await read_all(config, config.topic("session-states"))) == 4


async def test_a_value_that_is_gone_is_never_replayed_as_a_tombstone(kafka: Any, topic_prefix: str) -> None:
    config = await with_letters(await topics(config_for(kafka, topic_prefix), 2), LARGE)
    done = await replay(config)
    assert done.sent.total() == 0
    assert list(done.kept) == ["was too large to be carried: its value is gone"]
    assert await read_all(config, config.topic("session-states")) == []


async def test_a_replay_of_some_leaves_the_others_to_a_later_one(kafka: Any, topic_prefix: str) -> None:
    config = await with_letters(await topics(config_for(kafka, topic_prefix), 2), AHEAD, NOT_JSON)
    done = await replay(config, chosen=lambda letter: letter.code == "not_json")
    assert (done.sent, done.passed_over) == ({"not_json": 1}, 1)
    assert (await replay(config)).sent == {"bad_timestamp": 1, "not_json": 1}


async def test_a_letter_of_somebody_else_is_shown_and_kept(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    async with producing(config) as producer:
        await producer.send_and_wait(config.topic("dead-letters"), b"x", b"k", partition=0)
    assert [letter.code for letter in await letters(config)] == [""]
    assert list((await replay(config)).kept) == ["does not say where it came from"]


async def test_without_the_topic_it_says_so(kafka: Any, topic_prefix: str) -> None:
    with pytest.raises(Refused, match=f"There is no topic {topic_prefix}dead-letters"):
        await letters(config_for(kafka, topic_prefix))


def test_the_verbs_show_send_and_count(kafka: Any, topic_prefix: str) -> None:
    async def prepare() -> None:
        await with_letters(await topics(config_for(kafka, topic_prefix), 2), AHEAD, NOT_JSON, LARGE)

    asyncio.run(prepare())
    where = ["--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix]
    run = CliRunner().invoke
    shown = run(app, ["dead-letters", "list", *where])
    assert shown.exit_code == 0, shown.output
    assert f"{topic_prefix}ticket-updates/1/1  key 7  not_json  $: the value is not JSON: no\n" in shown.stdout
    assert '"n"' not in shown.stdout
    assert shown.stderr.endswith("3 dead letters (bad_timestamp 1, not_json 1, too_large 1)\n")
    one = json.loads(run(app, ["dead-letters", "list", *where, "--code", "not_json", "--values", "--json"]).stdout)
    assert (one["code"], one["value"], one["source"]["offset"]) == ("not_json", '{"n":1}', 1)
    assert run(app, ["dead-letters", "list", *where, "--source", "session-states"]).stdout.count("\n") == 2
    would = run(app, ["dead-letters", "replay", *where, "--dry-run"]).stdout
    assert would.startswith("2 would be sent back (bad_timestamp 1, not_json 1)\n1 not sent back")
    assert run(app, ["dead-letters", "replay", *where]).stdout.startswith("2 sent back")
    assert run(app, ["dead-letters", "replay", *where]).stdout == "0 sent back\n"
