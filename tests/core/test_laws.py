"""Laws of the core, tried on many short stories."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.core.engine import Engine
from streams.core.model import Evaluation, SessionRow, TicketRow, Transition
from streams.core.names import Output, Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.offline.run import settled
from streams.testing.driver import Driver
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows

from .stories import RULES, SETTINGS, START_MS, records

END_MS = START_MS + 3_600_000

Story = list[tuple[str, str | None, Any, int]]


def _driver(story: Story, **options: Any) -> Driver:
    driver = Driver(RULES, SETTINGS, **options)
    for topic, key, value, timestamp in story:
        driver.pipe(topic, key, value, timestamp)
    return driver


def _outputs(driver: Driver) -> dict[str, list[Any]]:
    driver.advance(END_MS)
    return {topic: driver.read(topic) for topic in Output}


@given(records(), st.integers(min_value=0, max_value=400))
@settings(max_examples=300, deadline=None)
def test_a_crash_at_any_write_changes_nothing_that_committed_readers_see(story: Story, crash_at: int) -> None:
    whole = _outputs(_driver(story, slice_records=2, batch_records=4))
    broken = _driver(story, slice_records=2, batch_records=4)
    broken.crash_after(crash_at)
    assert _outputs(broken) == whole


@given(records(max_size=8))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_single_crash_point_of_a_story_is_survived(story: Story) -> None:
    whole = _driver(story, slice_records=2, batch_records=3)
    expected = _outputs(whole)
    for point in range(whole.writes):
        broken = _driver(story, slice_records=2, batch_records=3)
        broken.crash_after(point)
        assert _outputs(broken) == expected, f"crash before write {point}"
        assert broken.restarts == 1


@given(records(), st.integers(min_value=1, max_value=7))
@settings(max_examples=200, deadline=None)
def test_how_records_are_grouped_into_batches_does_not_matter(story: Story, size: int) -> None:
    assert _outputs(_driver(story, slice_records=2, batch_records=size)) == _outputs(_driver(story))


@given(records(), st.data())
@settings(max_examples=300, deadline=None)
def test_how_fetches_arrive_does_not_matter_as_long_as_each_topic_keeps_its_order(
    story: Story, data: st.DataObject
) -> None:
    """Merged order comes from timestamps: an input that lags is waited for, whichever side is fetched first."""
    expected = _driver(story)
    expected.run()

    partition = Partition(
        Engine(RULES, SETTINGS),
        number=0,
        partition_count=None,
        decode=decode,
        rows=MsgpackRows(),
        dead_letter_limit=None,
        clock_grace=10**15,
    )
    partition.start()
    pipeline = Pipeline(partition)
    waiting = {topic: list(log) for topic, log in expected.broker.inputs.items()}
    produced: list[Transition | Evaluation] = []
    clock = 0
    while any(waiting.values()):
        clock += 1
        topic = data.draw(st.sampled_from([topic for topic, log in waiting.items() if log]))
        count = data.draw(st.integers(min_value=1, max_value=4))
        fetched, waiting[topic] = waiting[topic][:count], waiting[topic][count:]
        pipeline.feed(topic, fetched, clock)
        ends = {topic: None if log else clock for topic, log in waiting.items()}
        while not pipeline.slice(2**62, ends):
            pass
        for batch in settled(pipeline):
            produced.extend(batch.records)
    assert msgspec.json.encode(produced) == msgspec.json.encode(_core_records(expected))


def _core_records(driver: Driver) -> list[Transition | Evaluation]:
    partition = Partition(
        Engine(RULES, SETTINGS),
        number=0,
        partition_count=None,
        decode=decode,
        rows=MsgpackRows(),
        dead_letter_limit=None,
        clock_grace=10**15,
    )
    partition.start()
    pipeline = Pipeline(partition)
    for topic, log in driver.broker.inputs.items():
        pipeline.feed(topic, log, 0)
    while not pipeline.slice(2**62, dict.fromkeys(Topic, 0)):
        pass
    return [record for batch in settled(pipeline) for record in batch.records]


@given(records())
@settings(max_examples=200, deadline=None)
def test_every_round_ends_exactly_once_and_every_command_is_told_of(story: Story) -> None:
    driver = _driver(story)
    driver.advance(END_MS)
    told = driver.records()
    lapses = [record for record in told if record["type"] == "transition" and record["kind"] == "lapsed"]
    rounds = [record for record in told if record["type"] == "evaluation"]
    assert sorted((r["ticket_id"], r["episode"], r["wait_ms"]) for r in rounds) == sorted(
        (lapse["ticket_id"], lapse["episode"], wait) for lapse in lapses for wait in (0, 5_000, 20_000)
    )
    assert driver.pending_rounds == 0
    commanded = [record["command_id"] for record in rounds if record["outcome"] == "commanded"]
    assert commanded == [command["command_id"] for command in driver.commands()]
    assert len(set(commanded)) == len(commanded)


@given(records())
@settings(max_examples=200, deadline=None)
def test_episodes_count_from_one_without_gaps(story: Story) -> None:
    driver = _driver(story)
    seen: dict[str, int] = {}
    for record in driver.records():
        if record["type"] == "transition":
            before = seen.get(record["ticket_id"], 0)
            assert record["episode"] == before + (record["kind"] == "lapsed")
            seen[record["ticket_id"]] = record["episode"]


@given(records())
@settings(max_examples=100, deadline=None)
def test_reading_everything_again_with_the_tables_kept_changes_nothing(story: Story) -> None:
    """Event ids and sequences make a replay harmless: all of it is stale or duplicate, save tombstones."""
    usable = [entry for entry in story if entry[2] is not None and all(s[2] is not None for s in story)]
    driver = _driver(usable)
    before = driver.records()
    last = max((timestamp for *_, timestamp in usable), default=START_MS)
    for topic, key, value, _ in usable:
        driver.pipe(topic, key, value, last)
    applied_again = [r for r in driver.records()[len(before) :] if r["type"] == "transition"]
    assert applied_again == []


@given(records())
@settings(max_examples=100, deadline=None)
def test_pending_rounds_are_counted_as_the_rows_hold_them(story: Story) -> None:
    driver = _driver(story, slice_records=2, batch_records=3)
    driver.run()
    codec = MsgpackRows()
    sessions = dict(driver.broker.changelogs["sessions"])
    held = sum(len(codec.decode_session(row).pending) for row in sessions.values() if row is not None)
    assert driver.pending_rounds == held


@given(records())
@settings(max_examples=100, deadline=None)
def test_rows_survive_their_bytes(story: Story) -> None:
    driver = _driver(story)
    driver.run()
    codec = MsgpackRows()
    for _, row in driver.broker.changelogs["tickets"]:
        if row is not None:
            ticket: TicketRow = codec.decode_ticket(row)
            flat = codec.encode_ticket(ticket)
            assert codec.decode_ticket(flat) == ticket
            # A row has a second form, which only the plain path writes: a fourth element tells it.
            assert flat == row or len(msgspec.msgpack.decode(row)) == 4
    for _, row in driver.broker.changelogs["sessions"]:
        if row is not None:
            session: SessionRow = codec.decode_session(row)
            assert codec.encode_session(session) == row


def test_a_slice_takes_no_more_than_it_is_allowed() -> None:
    partition = Partition(
        Engine(RULES, SETTINGS),
        number=0,
        partition_count=None,
        decode=decode,
        rows=MsgpackRows(),
        dead_letter_limit=None,
        clock_grace=0,
    )
    partition.start()
    pipeline = Pipeline(partition, slice_records=4)
    pipeline.feed(Topic.SESSIONS, [CapturedRecord(offset, START_MS, b"1", b"{}") for offset in range(10)], 0)
    taken = []
    took_all = False
    while not took_all:
        took_all = pipeline.slice(2**62, dict.fromkeys(Topic, 0))
        taken += [batch.taken for batch in settled(pipeline)]
    assert taken == [4, 4, 2], "bad records count as well"


def test_rounds_that_are_all_due_at_once_are_run_in_slices_and_batches_of_the_usual_size() -> None:
    partition = Partition(
        Engine(RULES, SETTINGS),
        number=0,
        partition_count=None,
        decode=decode,
        rows=MsgpackRows(),
        dead_letter_limit=None,
        clock_grace=0,
    )
    partition.start()
    pipeline = Pipeline(partition, slice_records=10, batch_records=25)
    value = b'{"ticket_id":"%d","occurred_at":"2026-03-01T10:00:00Z","state":"inactive","event_id":"e"}'
    left = [CapturedRecord(n, START_MS + n, b"%d" % n, value % n) for n in range(100)]
    pipeline.feed(Topic.SESSIONS, left, 0)
    pipeline.feed(Topic.SESSIONS, [CapturedRecord(100, END_MS, b"7", None)], 0)
    sizes, evaluations, told = [], 0, 0
    while partition.stream_time < END_MS * 1000:
        took_all = pipeline.slice(2**62, dict.fromkeys(Topic, 0))
        assert not took_all or partition.stream_time == END_MS * 1000
        assert not (pipeline.is_full and pipeline.is_empty), "nobody would commit it"
        batch = pipeline.under_way[-1]
        assert len(batch.records) - told <= 2 * 10, "a record tells of a transition and a round"
        told = len(batch.records)
        if pipeline.is_full or partition.stream_time == END_MS * 1000:
            (batch,) = settled(pipeline)
            sizes.append(told)
            evaluations += sum(isinstance(record, Evaluation) for record in batch.records)
            told = 0
    assert evaluations == 300
    assert max(sizes) <= 2 * (25 + 10)
