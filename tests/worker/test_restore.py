"""Restoring from changelogs in every state that compaction, retention and transactions can leave them in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from streams.core.errors import Failed
from streams.core.model import SECOND
from streams.kafka.brokers import admin_client
from streams.kafka.config import KafkaConfig
from streams.kafka.producer import PartitionProducer
from streams.wire.writes import Write
from streams.worker.restore import END_KEY, restore
from tests.worker.kit import config_for, make_topic, producing, running, send, topics
from tests.worker.test_worker import lapses

NOW = int(time.time()) * SECOND


class Tables:
    def __init__(self) -> None:
        self.rows: dict[str, dict[bytes, bytes]] = {"tickets": {}, "sessions": {}}
        self.ends_written: list[str] = []
        self.remaining: list[int] = []

    def take(self, table: str, rows: Iterable[tuple[bytes, bytes | None]]) -> int:
        count = 0
        for count, (key, value) in enumerate(rows, 1):  # noqa: B007
            if value is None:
                self.rows[table].pop(key, None)
            else:
                self.rows[table][key] = value
        return count


async def write(config: KafkaConfig, **rows: dict[bytes, bytes | None]) -> None:
    producer = PartitionProducer(config, 0)
    await producer.start()
    for table, changes in rows.items():
        writes = [Write(key, value) for key, value in changes.items()]
        await producer.commit({config.changelog(table): writes}, {}, 0, NOW)
    await producer.close()


async def restored(config: KafkaConfig) -> Tables:
    tables = Tables()
    producer = PartitionProducer(config, 0)
    await producer.start()

    async def write_end(topic: str) -> None:
        tables.ends_written.append(topic)
        await producer.commit({topic: [Write(END_KEY, None)]}, {}, 0, NOW)

    try:
        await asyncio.wait_for(restore(config, 0, tables.take, write_end, tables.remaining.append), 30)
    finally:
        await producer.discard()
    return tables


async def test_rows_come_back_and_deleted_ones_do_not(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    await write(config, tickets={b"1": b"a", b"2": b"b"}, sessions={b"1": b"s"})
    await write(config, tickets={b"2": None, b"1": b"c"})
    tables = await restored(config)
    assert tables.rows == {"tickets": {b"1": b"c"}, "sessions": {b"1": b"s"}}


async def test_a_restore_tells_how_far_it_has_still_to_go(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    for chunk in range(4):
        await write(config, tickets={b"%d-%d" % (chunk, n): b"x" * 60_000 for n in range(30)})
    told = (await restored(config)).remaining
    assert told == sorted(told, reverse=True)
    assert told[0] > told[-1] == 0, "it comes in bites"


async def test_empty_changelogs_are_read_at_once(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    began = time.monotonic()
    tables = await restored(config)
    assert tables.rows == {"tickets": {}, "sessions": {}}
    assert time.monotonic() - began < 15, "no request waits for its time-out"


async def test_a_changelog_emptied_by_deletion_is_read(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    for table in ("tickets", "sessions"):
        await make_topic(config, config.changelog(table), 1, cleanup_policy="compact,delete")
    await topics(config)
    await write(config, tickets={b"1": b"a"}, sessions={b"1": b"s", b"2": b"t"})
    async with admin_client(config) as admin:
        await admin.delete_records(
            {
                TopicPartition(config.changelog("tickets"), 0): RecordsToDelete(before_offset=2),
                TopicPartition(config.changelog("sessions"), 0): RecordsToDelete(before_offset=1),
            }
        )
    tables = await restored(config)
    assert tables.rows == {"tickets": {}, "sessions": {b"2": b"t"}}


async def test_a_changelog_that_ends_in_markers_and_aborted_rows_is_read(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    await write(config, tickets={b"1": b"a"})
    async with producing(config, transactional_id=f"{topic_prefix}other") as other:
        await other.begin_transaction()
        await other.send_and_wait(config.changelog("tickets"), key=b"1", value=b"aborted", partition=0)
        await other.abort_transaction()
    tables = await restored(config)
    assert tables.rows["tickets"] == {b"1": b"a"}
    assert tables.ends_written == []


async def test_the_end_key_is_no_row(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    await write(config, tickets={b"1": b"a", END_KEY: None})
    assert (await restored(config)).rows["tickets"] == {b"1": b"a"}


async def test_a_hanging_transaction_is_told_and_not_waited_for_for_ever(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix, transaction_timeout=2 * SECOND))
    changelog = config.changelog("tickets")
    await write(config, tickets={b"1": b"a"})
    async with producing(config, transactional_id=f"{topic_prefix}hangs", transaction_timeout_ms=60_000) as other:
        await other.begin_transaction()
        await other.send_and_wait(changelog, key=b"2", value=b"open", partition=0)
        with pytest.raises(Failed, match=rf"hangs on {changelog}-0 \(last stable offset \d, end 4\)"):
            await restored(config)
        await other.abort_transaction()


async def test_a_transaction_that_ends_while_waited_for_delays_and_no_more(kafka: Any, topic_prefix: str) -> None:
    """Rows behind it, committed by others, are read too: the end is further than it first seemed."""
    config = await topics(config_for(kafka, topic_prefix))
    async with producing(config, transactional_id=f"{topic_prefix}slow") as other:
        await other.begin_transaction()
        await other.send_and_wait(config.changelog("tickets"), key=b"1", value=b"first", partition=0)
        await write(config, tickets={b"2": b"behind"})
        restoring = asyncio.create_task(restored(config))
        await asyncio.sleep(0.5)
        assert not restoring.done()
        await other.commit_transaction()
        assert (await restoring).rows["tickets"] == {b"1": b"first", b"2": b"behind"}


async def test_a_log_whose_end_nobody_can_read_is_given_one(kafka: Any, topic_prefix: str, monkeypatch: Any) -> None:
    """Compaction can remove the last offsets of a log; a position that waits for them never gets there."""
    config = await topics(config_for(kafka, topic_prefix))
    await write(config, tickets={b"1": b"a"})
    tables = Tables()
    producer = PartitionProducer(config, 0)
    await producer.start()
    changelog = config.changelog("tickets")

    from streams.kafka import bulk as module

    seen = module._ToEnds._asked

    async def with_a_gap_at_the_end(self: Any, ask: Any) -> Any:
        answer = await seen(self, ask)
        tp = TopicPartition(changelog, 0)
        if isinstance(answer, dict) and isinstance(answer.get(tp), int) and not tables.ends_written and answer[tp]:
            # As if one more offset had been given out and its record compacted away.
            answer = {**answer, tp: answer[tp] + 1}
        return answer

    async def write_end(topic: str) -> None:
        tables.ends_written.append(topic)
        await producer.commit({topic: [Write(END_KEY, None)]}, {}, 0, NOW)

    monkeypatch.setattr(module._ToEnds, "_asked", with_a_gap_at_the_end)
    monkeypatch.setattr(module, "_STALLED_SECONDS", 0.5)
    await asyncio.wait_for(restore(config, 0, tables.take, write_end), 20)
    await producer.close()
    assert tables.ends_written == [changelog]
    assert tables.rows["tickets"] == {b"1": b"a"}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"\x93\x81\xa1a\xa1\xff\xc0\x01", "can't be read"),
        (b"\xdc\x00", "can't be read"),
        (b"\x95\x80\xc0\x01\xc3\xc0", "was written by a newer version of Lapse"),
    ],
    ids=["no text", "cut off", "longer than any row of this version"],
)
async def test_a_row_that_can_not_be_read_ends_the_worker_with_a_message(
    row: bytes, why: str, kafka: Any, topic_prefix: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    await write(config, tickets={b"1": row})
    async with running(config) as worker:
        await send(config, lapses(1, 1), 1)
        assert worker.task is not None
        (error,) = await asyncio.wait_for(asyncio.gather(worker.task, return_exceptions=True), 60)
    assert isinstance(error, Failed)
    assert error.exit_code != 0
    changelogs = f"{topic_prefix}lapse-tickets-changelog or {topic_prefix}lapse-sessions-changelog"
    assert f"a row of {changelogs} {why}" in str(error)
