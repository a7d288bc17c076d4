"""Captures out of a broker, and into one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streams.core.errors import Refused
from streams.core.names import Topic
from streams.core.revisions import RULES_KEY, Activation, EntryKind, InUse, Stops
from streams.operate.capture import capture, feed
from streams.testing.traffic import Profile, generate
from streams.wire import encode
from streams.wire.rows import MsgpackRows
from tests.worker.kit import config_for, producing, read_all, send, topics

START = 1_772_359_200_000_000


async def test_what_is_captured_and_fed_elsewhere_is_the_same(kafka: Any, topic_prefix: str) -> None:
    there, here = config_for(kafka, f"{topic_prefix}a."), config_for(kafka, f"{topic_prefix}b.")
    await topics(there, 3)
    await topics(here, 3)
    await send(there, generate(Profile(tickets=60, broken=0.05)), 3)
    async with producing(there) as producer:
        name = there.topic("ticket-updates")
        await producer.send_and_wait(name, key=b"\xff\xfe", value=b"\x00\xff no json", partition=1, timestamp_ms=5)
        await producer.send_and_wait(name, key=b"9", value=None, partition=2, timestamp_ms=6)
    lines: list[bytes] = []
    done: list[int] = []
    assert await capture(there, lines.append, done.append) == len(lines) == done[-1] > 500
    assert {json.loads(line)["topic"] for line in lines} == {"ticket-updates", "session-states"}
    assert await feed(here, lines) == len(lines)
    for topic in Topic:
        then = await read_all(there, there.topic(topic.value))
        now = await read_all(here, here.topic(topic.value))
        assert [(r.partition, r.offset, r.timestamp, r.key, r.value) for r in now] == [
            (r.partition, r.offset, r.timestamp, r.key, r.value) for r in then
        ]


async def test_a_capture_has_committed_records_only(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    async with producing(config, transactional_id=f"{topic_prefix}up") as upstream:
        for value, commit in ((b'{"a":1}', False), (b'{"a":2}', True)):
            await upstream.begin_transaction()
            await upstream.send_and_wait(config.topic("session-states"), key=b"k", value=value, partition=0)
            await (upstream.commit_transaction() if commit else upstream.abort_transaction())
    assert len(await read_all(config, config.topic("session-states"))) == 1
    lines: list[bytes] = []
    assert await capture(config, lines.append) == 1
    assert json.loads(lines[0])["value"] == {"a": 2}


async def test_an_input_that_does_not_exist_is_named(kafka: Any, topic_prefix: str) -> None:
    with pytest.raises(
        Refused, match=f"The topic {topic_prefix}ticket-updates at .* does not exist or may not be described"
    ):
        await capture(config_for(kafka, topic_prefix), lambda line: None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"no json", "^capture:2: "),
        (
            b'{"topic":"ticket-updates","partition":7,"offset":0,"timestamp":1,"key":"1","value":{}}',
            "^capture:2: partition 7, but .* has 1",
        ),
    ],
)
async def test_a_line_that_cannot_be_fed_is_told_by_its_number(
    kafka: Any, topic_prefix: str, line: bytes, message: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    good = b'{"topic":"ticket-updates","partition":0,"offset":0,"timestamp":1,"key":"1","value":{}}'
    with pytest.raises(Refused, match=message):
        await feed(config, [good, line])
    assert len(await read_all(config, config.topic("ticket-updates"))) == 1


async def test_what_was_in_force_comes_from_the_row_where_the_activation_is_gone(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix, rules="topic"), 2)
    codec, name = MsgpackRows(), config.changelog("sessions")
    row = InUse(
        3, "aaaaaaaaaaaa", 2, Stops(ids=("tag",)), 3, 1_772_359_200_000_000, "ada", shadow=2, shadow_ruleset="b"
    )
    told = Activation(
        partition=1, partitions=2, number=1, kind=EntryKind.LIVE, previous=None, ruleset="c", stopped=(), stream_time=0,
        offsets=(("ticket-updates", 0), ("session-states", 0)), late=False, act_from=None, author=None, reason=None,
    )  # fmt: skip
    async with producing(config) as producer:
        for partition in (0, 1):
            await producer.send_and_wait(name, codec.encode_rules(row), RULES_KEY, partition=partition)
        key, value, _ = encode.record(told)
        await producer.send_and_wait(config.topic("session-transitions"), value, key, partition=1)
    lines: list[bytes] = []
    assert await capture(config, lines.append) == 3
    found = [json.loads(line) for line in lines]
    assert [(one["partition"], one["offset"], one["value"]["number"], one["value"]["kind"]) for one in found] == [
        (1, 0, 1, "live"),
        (0, -1, 3, "live"),
        (0, -1, 2, "shadow"),
    ]
    live = found[1]["value"]
    assert (live["stopped"], live["author"], live["previous"]) == (["tag"], "ada", None)
    assert live["stream_time_us"] == row.since
    assert await feed(config, lines) == 3
    assert await read_all(config, config.topic("ticket-updates")) == []
