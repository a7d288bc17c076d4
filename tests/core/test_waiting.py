"""What waits in a partition for the other topic: how much, and how old."""

from __future__ import annotations

from streams.core.names import Topic
from streams.core.pipeline import Pipeline
from streams.testing.builders import NOON, millis, session_state
from streams.wire.capture import CapturedRecord
from tests.telemetry.engine_runs import a_partition

AT = millis(NOON)


def test_the_next_record_of_a_topic_tells_its_timestamp_until_it_is_taken():
    partition = a_partition("triggers: []")
    pipeline = Pipeline(partition, slice_records=1)
    records = [session_state("1", "active"), session_state("1", "ended")]
    fetched = [CapturedRecord(n, AT + n, record.key, record.value) for n, record in enumerate(records)]
    assert partition.next_timestamp(Topic.SESSIONS) is None
    pipeline.feed(Topic.SESSIONS, fetched, arrived=0)
    assert partition.next_timestamp(Topic.SESSIONS) == AT * 1000
    assert partition.next_timestamp(Topic.TICKETS) is None

    now = (AT + 10_000) * 1000
    assert pipeline.slice(now, {Topic.SESSIONS: now}), "the tickets were not seen at their end: it is held back"
    assert pipeline.is_empty
    assert partition.next_timestamp(Topic.SESSIONS) == AT * 1000

    assert not pipeline.slice(now, dict.fromkeys(Topic, now))
    assert [batch.taken for batch in pipeline.under_way] == [1]
    assert partition.next_timestamp(Topic.SESSIONS) == (AT + 1) * 1000
    pipeline.slice(now, dict.fromkeys(Topic, now))
    assert partition.next_timestamp(Topic.SESSIONS) is None
