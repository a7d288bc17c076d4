"""What waits in a partition for the other topic: how much, and how old."""

from __future__ import annotations

from streams.core.model import Topic
from streams.testing.builders import NOON, millis, session_state
from streams.wire.capture import CapturedRecord
from tests.telemetry.engine_runs import a_partition

AT = millis(NOON)


def test_the_next_record_of_a_topic_tells_its_timestamp_until_it_is_taken():
    partition = a_partition("triggers: []")
    records = [session_state("1", "active"), session_state("1", "ended")]
    fetched = [CapturedRecord(n, AT + n, record.key, record.value) for n, record in enumerate(records)]
    assert partition.next_timestamp(Topic.SESSIONS) is None
    partition.add(Topic.SESSIONS, fetched, arrived=0)
    assert partition.next_timestamp(Topic.SESSIONS) == AT * 1000
    assert partition.next_timestamp(Topic.TICKETS) is None

    now = (AT + 10_000) * 1000
    assert partition.step(now, {Topic.SESSIONS: now}) is None, "the tickets were not seen at their end: it is held back"
    assert partition.next_timestamp(Topic.SESSIONS) == AT * 1000

    step = partition.step(now, dict.fromkeys(Topic, now), 1)
    assert step is not None and step.taken == 1
    assert partition.next_timestamp(Topic.SESSIONS) == (AT + 1) * 1000
    partition.step(now, dict.fromkeys(Topic, now))
    assert partition.next_timestamp(Topic.SESSIONS) is None
