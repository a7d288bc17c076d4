"""Dead letters are shown as what they are, and go back to where they came from, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from typer.testing import CliRunner

from streams.cli import app
from streams.cli.root import UsageError
from streams.core.errors import Failed, Refused
from streams.core.inputs import DeadLetter
from streams.core.model import Rejection
from streams.core.names import Topic
from streams.kafka.brokers import admin_client
from streams.kafka.config import KafkaConfig
from streams.operate.dead_letters import Letter, read_dead_letters, replay
from streams.operate.replay_ledger import Place, read_ledger
from streams.wire import encode
from streams.wire.capture import CapturedRecord
from tests.worker.kit import config_for, make_topic, producing, read_all, running, topics

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
    return [letter for letter, _ in await with_states(config)]


async def with_states(config: KafkaConfig) -> list[tuple[Letter, str]]:
    found: list[tuple[Letter, str]] = []
    await read_dead_letters(config, lambda letter, state: found.append((letter, state.value)))
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


async def test_no_original_is_sent_twice_however_often_it_is_replayed(kafka: Any, topic_prefix: str) -> None:
    config = await with_letters(await topics(config_for(kafka, topic_prefix), 2), AHEAD)
    assert (await replay(config)).sent.total() == 1
    assert (await replay(config)).sent_before == 1
    await with_letters(config, NOT_JSON, first=2)
    assert (await replay(config, chosen=lambda letter: letter.code == "bad_timestamp")).sent.total() == 0
    assert (await replay(config)).sent == {"not_json": 1}
    assert len(await read_all(config, config.topic("session-states"))) == 2
    assert [state for _, state in await with_states(config)] == ["replayed", "replayed"]


async def test_a_record_that_is_still_bad_dies_again_once_and_not_once_a_replay(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix, dead_letter_limit=None))
    async with producing(config) as producer:
        for number in range(5):
            await producer.send_and_wait(config.topic("ticket-updates"), b"no %d" % number, b"7")
    async with running(config) as worker:
        await worker.until(lambda: worker.notes.taken == 5)
        assert [state for _, state in await with_states(config)] == ["waiting"] * 5
        assert (await replay(config)).sent == {"not_json": 5}
        await worker.until(lambda: worker.notes.taken == 10)
        for _ in range(3):
            again = await replay(config)
            assert (again.sent.total(), again.sent_before, again.died_again) == (0, 5, 5)
        found = await with_states(config)
        assert [state for _, state in found] == ["died again"] * 10
        assert [str(letter.earlier) for letter, _ in found[5:]] == [f"0/{letter.offset}" for letter, _ in found[:5]]
        assert {letter.value for letter, _ in found[5:]} == {b"no %d" % number for number in range(5)}
        named = [found[1][0].place, found[7][0].place]
        assert (await replay(config, places=named)).sent == {"not_json": 2}
        await worker.until(lambda: worker.notes.taken == 12)
    last = [letter for letter, _ in await with_states(config)][10:]
    assert [letter.earlier for letter in last] == named
    assert [letter.value for letter in last] == [b"no 1", b"no 2"]


async def test_a_letter_that_is_named_and_not_there_is_refused_and_nothing_is_sent(
    kafka: Any, topic_prefix: str
) -> None:
    config = await with_letters(await topics(config_for(kafka, topic_prefix), 2), AHEAD)
    for missing in (Place(1, 1), Place(7, 0), Place(0, 0)):
        with pytest.raises(Refused, match=f"no dead letter {missing} in {config.topic('dead-letters')}"):
            await replay(config, places=[Place(1, 0), missing])
    assert await read_all(config, config.topic("session-states")) == []


async def test_a_letter_of_another_topic_or_too_large_for_its_own_is_kept(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    await make_topic(config, config.topic("session-states"), 2, max_message_bytes="1000")
    await topics(config, 2)
    other = config_for(kafka, topic_prefix, sessions_topic="elsewhere")
    async with producing(config) as producer:
        for value, of in ((b"x" * 930, config), (b"x" * 10, other)):
            record = CapturedRecord(0, 1000, b"7", value, ())
            letter = encode.dead_letter(DeadLetter(Topic.SESSIONS, record, AHEAD), 1, of.topic("session-states"))
            await producer.send_and_wait(
                config.topic("dead-letters"), letter.value, letter.key, partition=1, headers=letter.headers
            )
    done = await replay(config)
    assert done.sent.total() == 0
    assert set(done.kept) == {
        f"does not fit into {topic_prefix}session-states with the header that a replay adds",
        f"came from {topic_prefix}elsewhere, which is no input of this installation",
    }


async def test_letters_of_a_topic_that_was_made_anew_were_not_sent_before(kafka: Any, topic_prefix: str) -> None:
    config = await with_letters(await topics(config_for(kafka, topic_prefix), 2), AHEAD)
    assert (await replay(config)).sent.total() == 1
    async with admin_client(config) as admin:
        await admin.delete_topics([config.topic("dead-letters")])
    await eventually_made(config)
    await with_letters(config, AHEAD)
    assert (await replay(config)).sent.total() == 1


async def eventually_made(config: KafkaConfig) -> None:
    for _ in range(100):
        with contextlib.suppress(Failed):
            await topics(config, 2)
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the topic could not be made again")


async def test_the_ledger_forgets_letters_that_the_topic_no_longer_has(kafka: Any, topic_prefix: str) -> None:
    config = await with_letters(await topics(config_for(kafka, topic_prefix), 2), AHEAD, NOT_JSON)
    await replay(config)
    assert set(await read_ledger(config)) == {Place(1, 0), Place(1, 1)}
    async with admin_client(config) as admin:
        name = TopicPartition(config.topic("dead-letters"), 1)
        await admin.delete_records({name: RecordsToDelete(before_offset=1)})
    await replay(config)
    assert set(await read_ledger(config)) == {Place(1, 1)}


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
    rest = await replay(config)
    assert (rest.sent, rest.sent_before) == ({"bad_timestamp": 1}, 1)


async def test_a_letter_of_somebody_else_is_shown_and_kept(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    async with producing(config) as producer:
        await producer.send_and_wait(config.topic("dead-letters"), b"x", b"k", partition=0)
    assert [letter.code for letter in await letters(config)] == [""]
    assert list((await replay(config)).kept) == ["does not say where it came from"]


async def test_without_the_topic_it_says_so(kafka: Any, topic_prefix: str) -> None:
    with pytest.raises(
        Refused, match=f"The topic {topic_prefix}dead-letters at .* does not exist or may not be described"
    ):
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
    assert "1/1  waiting  " in shown.stdout
    assert shown.stderr.endswith("3 dead letters (bad_timestamp 1, not_json 1, too_large 1) (waiting 3)\n")
    one = json.loads(run(app, ["dead-letters", "list", *where, "--code", "not_json", "--values", "--json"]).stdout)
    assert (one["code"], one["value"], one["source"]["offset"]) == ("not_json", '{"n":1}', 1)
    assert run(app, ["dead-letters", "list", *where, "--source", "session-states"]).stdout.count("\n") == 2
    would = run(app, ["dead-letters", "replay", *where, "--dry-run"]).stdout
    assert would.startswith("2 would be sent back (bad_timestamp 1, not_json 1)\n1 not sent back")
    assert run(app, ["dead-letters", "replay", *where]).stdout.startswith("2 sent back")
    again = run(app, ["dead-letters", "replay", *where]).stdout
    assert again.startswith("0 sent back\n")
    assert again.endswith("2 not sent back: sent back before\n")
    assert run(app, ["dead-letters", "replay", *where, "--offset", "1/1"]).stdout == "1 sent back (not_json 1)\n"
    assert "1/1  replayed  " in run(app, ["dead-letters", "list", *where]).stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--offset", "1042"], "--offset 1042: write PARTITION/OFFSET as `dead-letters list` shows it"),
        (["--offset", "0/1", "--code", "not_json"], "--offset names letters one by one"),
    ],
)
def test_a_replay_that_cannot_be_meant_is_refused(flags: list[str], says: str) -> None:
    refused = CliRunner().invoke(app, ["dead-letters", "replay", *flags])
    assert isinstance(refused.exception, UsageError)
    assert says in str(refused.exception)
