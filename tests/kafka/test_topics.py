"""Checking and making topics on a real broker."""

from __future__ import annotations

from typing import Any

import pytest

from streams.core.errors import Failed, Refused
from streams.core.model import SECOND
from streams.core.names import Output, Topic
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import check_topics, create_topics, require_topics, wanted_topics
from streams.testing.builders import session_state
from streams.worker.first_start import require_act_from
from tests.worker.kit import config_for, make_topic, running, send, topics


async def test_created_topics_are_all_right(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    made = await create_topics(config, 3)
    assert made == [topic.name for topic in wanted_topics(config)]
    report = await check_topics(config)
    assert (report.problems, report.missing) == ((), ())
    assert {topic.partitions for topic in report.existing} == {3}
    assert await require_topics(config) == 3


async def test_creating_again_makes_nothing_and_changes_nothing(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    await make_topic(config, config.topic(Output.COMMANDS), 2, retention_ms="1234567", max_message_bytes="1500000")
    made = await create_topics(config)
    assert config.topic(Output.COMMANDS) not in made
    assert len(made) == len(wanted_topics(config)) - 1
    assert await create_topics(config) == []
    kept = next(topic for topic in (await check_topics(config)).existing if topic.name == config.topic(Output.COMMANDS))
    assert (kept.partitions, kept.max_message_bytes) == (2, 1_500_000)


async def test_one_refusal_names_every_problem(kafka: Any, topic_prefix: str) -> None:
    config = config_for(kafka, topic_prefix)
    await make_topic(config, config.topic(Topic.TICKETS.value), 8)
    await make_topic(
        config, config.topic(Topic.SESSIONS.value), 12, cleanup_policy="compact", max_message_bytes="2000000"
    )
    await make_topic(
        config, config.changelog("tickets"), 8, cleanup_policy="compact,delete", max_message_bytes="100000"
    )
    with pytest.raises(Refused) as refusal:
        await require_topics(config)
    text = str(refusal.value)
    for part in (
        f"{config.topic(Output.COMMANDS)} does not exist",
        f"{config.topic(Topic.TICKETS.value)} has 8, {config.topic(Topic.SESSIONS.value)} has 12",
        "cleanup.policy=compact, it must be delete: compaction hides a customer's short return",
        "cleanup.policy=compact,delete, it must be compact",
        "max.message.bytes=100000, it must be at least 327680",
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
    with pytest.raises(Failed, match=r"127\.0\.0\.1:1.*Connect call failed"):
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
