"""`lapse doctor`: a survey of a real broker, and what is made of it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from streams.cli import app
from streams.core.errors import Refused, Unreachable
from streams.core.names import Topic
from streams.core.partitioning import partition_of
from streams.kafka.config import KafkaConfig
from streams.operate.doctor import Level, judge
from streams.operate.survey import Group, OpenTransaction, Sample, Survey, survey
from tests.worker.kit import config_for, producing, running, send, topics
from tests.worker.test_worker import lapses

NOW = 1_772_359_200_000
MINUTE = 60_000
CONFIG = KafkaConfig()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def found(seen: Survey, config: KafkaConfig = CONFIG, now: int = NOW) -> dict[str, list[tuple[Level, str]]]:
    """The findings by check."""
    told: dict[str, list[tuple[Level, str]]] = {}
    for one in judge(seen, config, now):
        told.setdefault(one.check, []).append((one.level, f"{one.text} {one.advice}".strip()))
    return told


def problems(told: dict[str, list[tuple[Level, str]]]) -> dict[str, list[str]]:
    bad = {check: [text for level, text in several if level is Level.PROBLEM] for check, several in told.items()}
    return {check: texts for check, texts in bad.items() if texts}


# --- on a broker -----------------------------------------------------------------------------------------------------


async def test_an_installation_at_work_has_no_problem_and_its_worker_offsets_and_lag_are_seen(
    kafka: Any, topic_prefix: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    async with running(config) as worker:
        await send(config, lapses(0, 20), 2)
        await worker.until(lambda: worker.notes.taken == 60)
        told = found(await survey(config), config, now_ms())
    assert problems(told) == {}
    assert told["group"] == [(Level.OK, "1 worker (1 at 127.0.0.1); the group is Stable.")]
    assert told["offsets"] == [(Level.OK, "4 of 4 input partitions have a committed offset.")]
    assert told["lag"] == [(Level.OK, "Everything was read.")]
    assert told["keys"] == [(Level.OK, "The latest 60 records lie where murmur2 puts their keys.")]
    assert told["rights"] == [(Level.OK, "This client may do what a worker has to do.")]
    assert told["transactions"][0][0] is Level.OK
    assert told["brokers"][0][1].startswith("1 broker answered within ")


async def test_what_an_operator_would_look_for_by_hand_is_found(kafka: Any, topic_prefix: str) -> None:
    """A hanging transaction with its owner's name, keys that are split or missing, timestamps in seconds."""
    config = await topics(config_for(kafka, topic_prefix), 2)
    tickets, sessions = config.inputs
    expected = partition_of(b"51", 2)
    at = now_ms()
    owner = f"{topic_prefix}somebody"
    hanging = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id=owner, transaction_timeout_ms=600_000
    )
    async with hanging, producing(config) as producer:
        await producer.send_and_wait(tickets, b"{}", b"51", partition=expected, timestamp_ms=at)
        await producer.send_and_wait(sessions, b"{}", b"51", partition=1 - expected, timestamp_ms=at // 1000)
        await producer.send_and_wait(sessions, b"{}", None, partition=0, timestamp_ms=at + 10 * MINUTE)
        await hanging.begin_transaction()
        record = await hanging.send_and_wait(tickets, b"{}", b"51", partition=expected, timestamp_ms=at)
        seen = await survey(config)
        young = found(seen, config, now_ms())
        later = found(seen, config, now_ms() + 20 * MINUTE)
        await hanging.abort_transaction()
    assert young["transactions"] == [(Level.OK, "1 transaction in progress, none of which hangs.")]
    (text,) = problems(later)["transactions"]
    assert f"A transaction of {owner} (producer " in text
    assert f"on {tickets}-{expected} has been open since " in text
    assert f"wait at offset {record.offset}." in text
    assert text.endswith(f"abort --topic {tickets} --partition {expected} --start-offset {record.offset}"), (
        "the command that ends it"
    )
    assert problems(young).keys() == {"keys", "timestamps"}
    keyless, split = problems(young)["keys"]
    assert keyless.startswith(f"1 of the latest 2 records of {sessions} have no key.")
    assert split.startswith("1 of 1 keys that both inputs have lie in different partitions, for example '51'.")
    assert any("are not in the partition that Kafka's default partitioner" in text for _, text in young["keys"])
    assert "look like seconds" in problems(young)["timestamps"][0]
    assert any(
        level is Level.WARNING and "ahead of this machine's clock" in text for level, text in young["timestamps"]
    )
    assert young["group"] == [(Level.WARNING, "No worker is running. Start one with `lapse run`.")]


def test_the_verb_names_what_is_missing_changes_nothing_and_ends_with_1(kafka: Any, topic_prefix: str) -> None:
    where = ["--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix]
    ill = CliRunner().invoke(app, ["doctor", *where])
    assert ill.exit_code == 1
    assert "lapse topics create" in ill.stdout
    asyncio.run(topics(config_for(kafka, topic_prefix), 1))
    well = CliRunner().invoke(app, ["doctor", *where, "--json"])
    told = json.loads(well.stdout)
    assert (well.exit_code, told["healthy"]) == (0, True)
    assert {"check", "level", "text", "advice"} == told["findings"][0].keys()
    assert not [one for one in told["findings"] if one["level"] == "problem"]
    again = json.loads(CliRunner().invoke(app, ["doctor", *where, "--json"]).stdout)
    assert [one["check"] for one in again["findings"]] == [one["check"] for one in told["findings"]]


async def test_a_cluster_that_can_not_be_reached_is_one_message() -> None:
    config = KafkaConfig(brokers=("127.0.0.1:1",), broker_patience=1_000_000)
    with pytest.raises((Refused, Unreachable), match=r"127\.0\.0\.1:1: nothing listens on that port"):
        await survey(config)


# --- from facts ------------------------------------------------------------------------------------------------------


async def test_offsets_before_the_beginning_and_past_the_end_are_problems(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 1)
    seen = await survey(config)
    tickets, sessions = (seen.topics[name].partitions[0] for name in config.inputs)
    tickets.begin, tickets.committed, tickets.stable, tickets.end = 100, 40, 200, 200
    sessions.begin, sessions.committed, sessions.stable, sessions.end = 0, 500, 200, 200
    before, past = problems(found(seen, config))["offsets"]
    assert before.startswith(
        f"Records were deleted before they were read: {config.topic(Topic.TICKETS)}-0 (committed 40, begins at 100)."
    )
    assert past.startswith(
        f"The group is past the end: {config.topic(Topic.SESSIONS)}-0 (committed 500, ends at 200). The topic was made"
    )


def test_a_transaction_that_no_broker_coordinates_is_named_by_its_producer() -> None:
    seen = Survey(transactions=[OpenTransaction("orders", 3, 17, 4_001, NOW - 90 * MINUTE, None, None, None)])
    ((level, text),) = found(seen)["transactions"]
    assert level is Level.PROBLEM
    assert "producer 4001, of which no broker knows a transaction, on orders-3" in text
    assert "(90 min)" in text


@pytest.mark.parametrize(("age", "level"), [(6 * MINUTE - 1, Level.OK), (6 * MINUTE + 1, Level.PROBLEM)])
def test_a_transaction_hangs_a_minute_after_its_own_timeout(age: int, level: Level) -> None:
    one = OpenTransaction("orders", 0, 0, 1, NOW, "theirs", 5 * MINUTE, NOW - age)
    ((told, _),) = found(Survey(transactions=[one]))["transactions"]
    assert told is level


def test_what_could_not_be_asked_is_unknown_and_says_why() -> None:
    seen = Survey(trouble={"topics": "the broker went away", "group": "[Error 16] NotCoordinatorForGroupError"})
    told = found(seen)
    assert told["topics"] == [(Level.UNKNOWN, "Could not be examined: the broker went away.")]
    assert told["group"] == [(Level.UNKNOWN, "Could not be examined: [Error 16] NotCoordinatorForGroupError.")]


def test_a_rebalancing_group_is_a_warning() -> None:
    seen = Survey(group=Group("PreparingRebalance", ["10.0.0.1", "10.0.0.1", "10.0.0.2"], -1))
    assert found(seen)["group"] == [
        (Level.WARNING, "3 workers (2 at 10.0.0.1, 1 at 10.0.0.2); the group is PreparingRebalance.")
    ]


def test_records_that_can_not_be_read_are_a_problem() -> None:
    seen = Survey(samples={"ticket-updates": Sample(trouble="no library for zstd")})
    assert problems(found(seen))["records"] == [
        "The latest records of ticket-updates can't be read: no library for zstd"
    ]
