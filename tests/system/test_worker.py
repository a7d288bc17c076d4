"""What a worker promises beside exactly once, on a real broker: what it refuses, what it survives, what it says."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from tests.kafka_kit import topics
from tests.kafka_kit.broker import Broker
from tests.system.installation import TRIGGERS, Installation
from tests.system.pump import Pump
from tests.system.traffic import stories
from tests.system.waiting import eventually
from tests.system.worker import Worker, lapse

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

Start = Callable[..., Worker]


@pytest.fixture
async def installation(kafka: Broker, topic_prefix: str, tmp_path: Path) -> Installation:
    """Three partitions, topics made, no worker yet."""
    made = Installation(kafka, topic_prefix, 3, tmp_path)
    await made.create()
    return made


@pytest.fixture
async def start(installation: Installation) -> AsyncIterator[Start]:
    """Starts workers that end with the test."""
    workers: list[Worker] = []

    def start_one(name: str = "worker", **settings: str) -> Worker:
        workers.append(installation.worker(name, **settings))
        workers[-1].start()
        return workers[-1]

    yield start_one
    for worker in workers:
        worker.kill()


@pytest.fixture
async def producer(installation: Installation) -> AsyncIterator[AIOKafkaProducer]:
    """A producer without transactions."""
    async with AIOKafkaProducer(bootstrap_servers=installation.broker.bootstrap, linger_ms=2) as made:
        yield made


def _ticket(ticket_id: str, second: int, **fields: Any) -> bytes:
    at = f"2026-03-01T10:00:{second:02}Z"
    return json.dumps({"ticket_id": ticket_id, "occurred_at": at, "event_id": f"t{second}", "ticket": fields}).encode()


def _session(ticket_id: str, second: int, state: str) -> bytes:
    at = f"2026-03-01T10:00:{second:02}Z"
    body = {"ticket_id": ticket_id, "occurred_at": at, "event_id": f"s{second}", "state": state}
    return json.dumps({**body, "reason": "User inactive or offline"}).encode()


async def _until_commands(installation: Installation, count: int, within: float = 40) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _ in range(int(within / 0.5)):
        found = [json.loads(record.value) for record in await installation.read("action-commands")]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.5)
    raise AssertionError(f"{len(found)} of {count} commands within {within:.0f} s")


# --- what it refuses -------------------------------------------------------------------------------------------------


async def test_unequal_partition_counts_are_refused_with_names_and_numbers(kafka, topic_prefix, tmp_path):
    broken = Installation(kafka, topic_prefix, 3, tmp_path)
    await topics.create(kafka.bootstrap, broken.inputs[:1], 3, {"max.message.bytes": "2000000"})
    await topics.create(kafka.bootstrap, broken.inputs[1:], 2, {"max.message.bytes": "2000000"})
    worker = broken.worker("worker")
    worker.start()
    assert await asyncio.to_thread(worker.wait, 60) == 2
    said = worker.tail()
    assert re.search(rf"{topic_prefix}ticket-updates\D+3", said), said
    assert re.search(rf"{topic_prefix}session-states\D+2", said), said
    assert f"{topic_prefix}action-commands" in said, "a missing topic is named in the same message"
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    assert lines[-1]["level"] == "error", "the log is JSON to its last line"


async def test_a_compacted_session_topic_is_refused(kafka, topic_prefix, tmp_path):
    broken = Installation(kafka, topic_prefix, 1, tmp_path)
    await topics.create(kafka.bootstrap, broken.inputs[1:], 1, {"cleanup.policy": "compact"})
    await asyncio.to_thread(lapse, "topics", "create", env=broken.env)
    worker = broken.worker("worker")
    worker.start()
    assert await asyncio.to_thread(worker.wait, 60) == 2
    assert f"{topic_prefix}session-states" in worker.tail()
    assert "compact" in worker.tail()


async def test_a_first_start_over_records_without_act_from_is_refused(installation, start, producer):
    await producer.send_and_wait(installation.inputs[1], _session("1", 1, "inactive"), b"1")
    worker = start(act_from="")
    assert await asyncio.to_thread(worker.wait, 60) == 2
    assert "act_from" in worker.tail()
    assert "beginning" in worker.tail(), "the message says what to set"
    assert await installation.read("session-transitions") == []


async def test_lapses_before_act_from_are_counted_and_not_acted_upon(installation, start, producer):
    await producer.send_and_wait(installation.inputs[0], _ticket("1", 0, status="open"), b"1")
    await producer.send_and_wait(installation.inputs[1], _session("1", 1, "inactive"), b"1")
    await producer.send_and_wait(installation.inputs[1], _session("1", 10, "active"), b"1")
    await producer.send_and_wait(installation.inputs[1], _session("1", 20, "inactive"), b"1")
    start(act_from="2026-03-01T10:00:15Z")
    await _until_commands(installation, 2)  # of wait 0 and, seconds later, of 2 s
    await asyncio.sleep(4)
    commands, records, _ = await installation.outputs()
    assert {command["transition"]["episode"] for command in commands} == {2}
    outcomes = [r["outcome"] for r in records if r["type"] == "evaluation" and r["episode"] == 1]
    assert outcomes == ["historic"] * 3


# --- what it survives ------------------------------------------------------------------------------------------------


async def test_poisoned_input_reaches_the_dead_letters_byte_by_byte_and_nothing_else_is_disturbed(
    installation, start, producer
):
    start()
    poison = [
        b"", b"null", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"ticket_id":1e999}', b"\x00\x00\x00\x00\x01avro",
        json.dumps({"ticket_id": "7", "occurred_at": "2026-03-01T10:00:00", "ticket": {}, "state": "active"}).encode(),
        b'{"ticket_id":"7","occurred_at":"2026-03-01T10:00:00Z","ticket":[],"state":[]}',
        b'{"ticket_id":"7","occurred_at":"2026-03-01T10:00:00Z","ticket":{},"state":"a","event_id":[9]}',
    ]  # fmt: skip
    for place, value in enumerate(poison):
        for topic in installation.inputs:
            await producer.send_and_wait(topic, value, b"7", partition=1, headers=[("x-place", b"%d" % place)])
            good = (
                _ticket("7", place, status="open")
                if topic == installation.inputs[0]
                else _session("7", place, "inactive" if place % 2 else "active")
            )
            await producer.send_and_wait(topic, good, b"7", partition=1)
    await installation.until_no_lag(40)
    outcome = await installation.judge(await installation.expected(), within=20)
    assert outcome.clean, str(outcome)
    letters = await installation.read("dead-letters")
    got = Counter((record.key, record.value, dict(record.headers)["x-place"]) for record in letters)
    # Nested too deep counts as too large, whose value the contract leaves out.
    kept = [None if value == b"[" * 100_000 else value for value in poison]
    assert got == Counter({(b"7", value, b"%d" % place): 2 for place, value in enumerate(kept)})


async def test_a_wrong_topic_is_not_drained_into_the_dead_letters(installation, start, producer):
    for _ in range(5_000):
        await producer.send(installation.inputs[1], b'{"some":"other topic"}', b"7", partition=1)
    await producer.flush()
    worker = start()
    assert await asyncio.to_thread(worker.wait, 60) == 1
    assert f"{installation.prefix}session-states" in worker.tail() or "session-states" in worker.tail()
    assert len(await installation.read("dead-letters")) < 5_000
    done = await topics.committed_offsets(installation.broker.bootstrap, installation.group)
    assert done.get(TopicPartition(installation.inputs[1], 1), 0) < 5_000


async def test_aborted_records_of_others_never_become_commands_and_open_ones_hold_back(installation, start, producer):
    start()
    upstream = AIOKafkaProducer(
        bootstrap_servers=installation.broker.bootstrap, transactional_id=f"{installation.prefix}upstream"
    )
    await producer.send_and_wait(installation.inputs[0], _ticket("1", 0, status="open"), b"1", partition=0)
    async with upstream:
        await upstream.begin_transaction()
        await upstream.send_and_wait(installation.inputs[1], _session("1", 1, "inactive"), b"1", partition=0)
        await upstream.abort_transaction()
        await upstream.begin_transaction()
        await upstream.send_and_wait(installation.inputs[1], _session("1", 2, "inactive"), b"1", partition=0)
        await asyncio.sleep(4)
        assert await installation.read("session-transitions") == [], "a record was read before it was committed"
        await upstream.commit_transaction()
        (command, *_) = await _until_commands(installation, 1)
    assert command["transition"]["event_id"] == "s2"
    kinds = [json.loads(r.value)["event_id"] for r in await installation.read("session-transitions")]
    assert "s1" not in kinds


async def test_a_return_while_the_worker_was_frozen_for_a_moment_cancels_the_round(installation, start, producer):
    # The answer to a fetch that was under way lies in the socket: read after the freeze, it is old news, and must not
    # pass for proof that nothing has come until now.
    worker = start()

    async def say(topic: str, ticket_id: int, **members: Any) -> None:
        body = {"ticket_id": ticket_id, "occurred_at": datetime.now(UTC).isoformat(), **members}
        await producer.send(topic, json.dumps(body).encode(), b"%d" % ticket_id)

    tickets, sessions = installation.inputs
    for ticket_id in range(30):
        await say(tickets, ticket_id, ticket={"status": "pending"})
        await say(sessions, ticket_id, state="active")
    await producer.flush()
    await installation.until_no_lag(40)
    for ticket_id in range(30):
        await say(sessions, ticket_id, state="inactive", reason="connection_lost")
    await producer.flush()
    await asyncio.sleep(0.7)
    worker.freeze()
    await asyncio.sleep(0.3)
    for ticket_id in range(30):
        await say(sessions, ticket_id, state="active")
    await producer.flush()
    await asyncio.sleep(3)
    worker.wake()
    expected = await installation.expected()
    outcome = await installation.judge(expected, within=20)
    assert outcome.clean, str(outcome)
    # Where the machine stood still for a second, some may have come back too late.
    assert "cancelled" in {evaluation["outcome"] for evaluation in expected.evaluations}


async def test_records_that_retention_took_before_they_were_read_stop_the_worker(installation, start, producer):
    worker = start()
    await producer.send_and_wait(installation.inputs[0], _ticket("1", 0, status="open"), b"1", partition=0)
    await installation.until_no_lag(40)
    assert await asyncio.to_thread(worker.stop) == 0
    for second in range(1, 11):
        await producer.send_and_wait(installation.inputs[0], _ticket("1", second, status="open"), b"1", partition=0)
    async with topics.admin(installation.broker.bootstrap) as admin:
        await admin.delete_records({TopicPartition(installation.inputs[0], 0): RecordsToDelete(before_offset=5)})
    again = start("again")
    assert await asyncio.to_thread(again.wait, 60) == 1
    said = again.tail()
    assert f"{installation.inputs[0]}-0" in said, said
    assert re.search(r"\b1 to 4\b", said), f"the gap is not named: {said}"


# --- two workers -----------------------------------------------------------------------------------------------------


async def test_two_workers_share_three_partitions_with_both_topics_of_each_together(installation, start):
    workers = [start("worker-1"), start("worker-2")]

    async def assignments() -> list[dict[str, set[int]]]:
        async with topics.admin(installation.broker.bootstrap) as admin:
            (answer,) = await admin.describe_consumer_groups([installation.group])
        found = []
        for group in answer.groups:
            state, members = group[2], group[5]
            for member in members:
                if state == "Stable" and member[4]:
                    parts = ConsumerProtocolMemberAssignment.decode(member[4]).assignment
                    found.append({topic: set(numbers) for topic, numbers in parts})
        return found

    found: list[dict[str, set[int]]] = []
    for _ in range(80):
        found = await assignments()
        if len(found) == 2 and all(found):
            break
        await asyncio.sleep(0.5)
    assert len(found) == 2, "\n".join(worker.tail() for worker in workers)
    tickets, sessions = installation.inputs
    for member in found:
        assert member[tickets] == member[sessions] != set()
    assert sorted(number for member in found for number in member[tickets]) == [0, 1, 2]


async def test_a_rolling_restart_under_load_loses_nothing_and_ends_cleanly(installation, start):
    workers = [start("worker-1"), start("worker-2")]
    source = stories(11)
    pump = Pump(installation.broker.bootstrap, installation.prefix, 3, source, rate=600, count=1)
    pump.more = True
    task = asyncio.create_task(pump.run())
    try:
        await eventually(lambda: pump.sent > 3_000, 60, "traffic")
        await installation.until_caught_up(60)
        for worker in workers:
            assert await asyncio.to_thread(worker.stop) == 0, worker.tail()
            await asyncio.sleep(0.5)
            worker.start()
            await asyncio.sleep(4)
        pump.more = False
        await asyncio.wait_for(task, 90)
    finally:
        task.cancel()
    await installation.until_no_lag(60)
    outcome = await installation.judge(await installation.expected(), 30, pump.unsure)
    assert outcome.clean, str(outcome)


# --- what it says ----------------------------------------------------------------------------------------------------


async def test_counters_of_all_workers_add_up_to_what_happened(installation, start):
    workers = [start("worker-1"), start("worker-2")]
    pump = Pump(installation.broker.bootstrap, installation.prefix, 3, stories(12), rate=1_000, count=6_000)
    for worker in workers:
        await eventually(lambda worker=worker: worker.get("/readyz") is not None, 60, f"{worker.name} is not ready")
    await asyncio.sleep(2)  # the second one's rebalance is over before the first record
    await asyncio.wait_for(pump.run(), 120)
    await installation.until_no_lag(60)
    expected = await installation.expected()
    outcome = await installation.judge(expected, 30, pump.unsure)
    assert outcome.clean, str(outcome)

    counted: Counter[tuple[str, str]] = Counter()
    for worker in workers:
        page = worker.get("/metrics")
        assert page is not None
        for name, labels, value in re.findall(r"^(lapse_\w+?)(?:\{(.*?)\})? (\S+)$", page, re.MULTILINE):
            for label in ("result", "kind", "outcome", "trigger", ""):
                if not label or f'{label}="' in labels:
                    found = re.search(rf'\b{label}="(.*?)"', labels) if label else None
                    counted[name, found[1] if found else ""] += float(value)
                    break
    commands, records, _ = await installation.outputs()
    evaluations = [record for record in records if record["type"] == "evaluation"]
    truth = {
        **{("lapse_records_total", name): n for name, n in expected.results.items()},
        **{
            ("lapse_session_transitions_total", k): n
            for k, n in Counter(t["kind"] for t in expected.transitions).items()
        },
        **{("lapse_rounds_total", k): n for k, n in Counter(e["outcome"] for e in evaluations).items()},
        **{
            ("lapse_triggers_fired_total", k): n
            for k, n in Counter(t for e in evaluations for t in e["triggers"]).items()
        },
        ("lapse_commands_total", ""): len(commands),
        ("lapse_pending_rounds", ""): 0,
    }
    told = {key: counted[key] for key in truth}
    assert told == truth


async def test_live_and_backtest_agree(installation, start, tmp_path):
    start()
    pump = Pump(installation.broker.bootstrap, installation.prefix, 3, stories(13), rate=1_000, count=4_000)
    await asyncio.wait_for(pump.run(), 120)
    await installation.until_no_lag(60)
    outcome = await installation.judge(await installation.expected(), 30, pump.unsure)
    assert outcome.clean, str(outcome)
    live, records, _ = await installation.outputs()

    capture, commands, transitions = (tmp_path / name for name in ("capture.jsonl", "commands", "transitions"))
    done = await asyncio.to_thread(lapse, "capture", "-o", str(capture), env=installation.env)
    assert done.returncode == 0, done.stderr
    env = {name: value for name, value in installation.env.items() if name != "LAPSE_TOPIC_PREFIX"}
    done = await asyncio.to_thread(
        lapse,
        *("backtest", "--events", str(capture), "--triggers", str(TRIGGERS), "--json"),
        *("--commands", str(commands), "--transitions", str(transitions)),
        env=env,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["records"] == pump.sent

    def sure(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [line for line in lines if line["ticket_id"] not in pump.unsure]

    decided = sure([json.loads(line) for line in commands.read_text().splitlines()])
    told = sure([json.loads(line) for line in transitions.read_text().splitlines()])
    pending = len(sure(records)) - len(told)
    # The capture ends with its last record; live, the clock went on and what was pending then has run.
    by_id = {command["command_id"]: command for command in live}
    assert len(decided) > 100
    assert all(by_id[command["command_id"]] == command for command in decided)
    assert pending == report["pending"] or (pump.unsure and pending <= report["pending"])
    known = {json.dumps(record, sort_keys=True) for record in records}
    assert {json.dumps(record, sort_keys=True) for record in told} <= known
