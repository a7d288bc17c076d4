"""`act_from: now` is the first start of the worker, and stays that through restarts and crashes."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from streams.core.model import SECOND
from streams.core.names import Output
from streams.kafka.config import KafkaConfig
from streams.kafka.producer import act_from_of
from streams.testing.builders import session_state, ticket_update
from tests.worker.kit import committed_offsets, config_for, read_all, running, send, topics


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


async def leave(config: KafkaConfig, ticket: str, seconds_ago: float) -> None:
    records = [
        ticket_update(ticket, at=ago(seconds_ago + 2), status="open"),
        session_state(ticket, "active", at=ago(seconds_ago + 1)),
        session_state(ticket, "inactive", at=ago(seconds_ago)),
    ]
    await send(config, records, 1)


async def outcomes(config: KafkaConfig) -> dict[str, str]:
    records = [json.loads(r.value) for r in await read_all(config, config.topic(Output.TRANSITIONS))]
    return {r["ticket_id"]: r["outcome"] for r in records if r["type"] == "evaluation"}


async def fixed(config: KafkaConfig) -> set[int | None]:
    return {act_from_of(at.metadata) for at in (await committed_offsets(config)).values() if at.offset >= 0}


async def test_history_is_left_alone_and_restarts_do_not_move_the_line(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix, act_from_now=True))
    await leave(config, "1", 3600)
    async with running(config) as worker:
        await worker.until(lambda: worker.notes.taken >= 3)
    [first] = await fixed(config)
    assert first is not None
    await leave(config, "2", 0)  # while no worker runs
    async with running(config) as worker:
        await worker.until(lambda: worker.notes.taken >= 3)
    assert await outcomes(config) == {"1": "historic", "2": "commanded"}
    assert await fixed(config) == {first}


async def test_it_is_committed_before_the_first_record_is_taken(kafka: Any, topic_prefix: str) -> None:
    """What comes between a first start and a crash is no history, on topics that were empty and on others."""
    config = await topics(config_for(kafka, topic_prefix, act_from_now=True))
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0})
        [first] = await fixed(config)
    assert first is not None
    assert abs(first - datetime.now(UTC).timestamp() * SECOND) < 120 * SECOND


async def test_it_begins_anew_when_the_setting_had_another_value_meanwhile(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix, act_from_now=True))
    always = config_for(kafka, topic_prefix)
    seen: Counter[int | None] = Counter()
    for number, each in enumerate((config, always, config)):
        async with running(each) as worker:
            await worker.until(lambda: worker.held == {0})
            await leave(each, str(number), 0)
            await worker.until(lambda: worker.notes.taken >= 3)
        seen.update(await fixed(each))
    assert seen[None] == 1
    assert len(seen) == 3
    assert set((await outcomes(config)).values()) == {"commanded"}
