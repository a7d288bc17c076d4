"""Between the agent and the step: order, no gap, no repeat."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from streams.host.clock import Clock
from streams.host.inbox import Fetch, Inbox
from streams.kafka.config import KafkaConfig


def fetch(*offsets: int, generation: int = 3, arrived: int = 100, to_the_end: bool = False) -> Fetch:
    records: Any = [SimpleNamespace(offset=offset) for offset in offsets]
    return Fetch(TopicPartition("t", 0), records, arrived, arrived, generation, to_the_end)


def inbox(next_offset: int = 0, limit: int = 10) -> Inbox:
    woken: list[None] = []
    made = Inbox(TopicPartition("t", 0), next_offset, 3, limit, lambda: woken.append(None))
    made.expect()
    return made


def offsets(box: Inbox) -> list[int]:
    return [record.offset for records, _ in box.take() for record in records]


def test_fetches_come_out_as_they_came_in_with_their_arrival() -> None:
    box = inbox()
    box.put(fetch(0, 1, arrived=5))
    box.put(fetch(2, 4, arrived=7))
    assert [(len(records), arrived) for records, arrived in box.take()] == [(2, 5), (2, 7)]
    assert box.next_offset == 5
    assert box.queued == 0


def test_records_below_the_next_offset_are_dropped() -> None:
    box = inbox(next_offset=3)
    box.put(fetch(1, 2, 3, 4))
    box.put(fetch(4))
    assert offsets(box) == [3, 4]


def test_a_fetch_of_another_generation_is_dropped() -> None:
    box = inbox()
    box.put(fetch(0, 1, generation=2))
    assert offsets(box) == []
    assert box.next_offset == 0
    assert not box.complete


def test_it_is_complete_only_when_nothing_is_under_way() -> None:
    box = inbox()
    assert not box.complete
    box.put(fetch(0))
    assert box.complete


def test_an_end_is_reached_when_all_that_lies_before_it_has_come() -> None:
    """Under load something is always under way; what was at its end a moment ago must not count for nothing."""
    box = inbox()
    box.expect()
    box.note_end(7)
    box.expect()
    box.note_end(9)
    assert box.at_end_since is None
    box.put(fetch(0))
    assert box.at_end_since is None
    box.put(fetch(1))
    assert box.at_end_since == 7
    box.put(fetch(2, arrived=8))
    assert box.at_end_since == 9
    box.note_end(11)
    assert box.at_end_since == 11


def test_a_fetch_that_goes_to_the_end_says_so_itself() -> None:
    box = inbox()
    box.put(fetch(0, arrived=5))
    assert box.at_end_since is None
    box.expect()
    box.put(fetch(1, arrived=6, to_the_end=True))
    assert box.at_end_since == 6


def test_in_a_new_generation_what_was_under_way_is_forgotten_and_what_came_is_kept() -> None:
    box = inbox()
    box.put(fetch(0))
    box.expect()
    box.note_end(5)
    box.enter(4, 20)
    assert box.complete
    assert box.at_end_since is None
    box.put(fetch(1))
    assert offsets(box) == [0]
    assert box.next_offset == 1


def test_it_is_full_at_its_limit_and_eased_below_half_of_it_counting_what_is_held_back() -> None:
    box = inbox(limit=4)
    box.put(fetch(0, 1))
    assert not box.full
    box.held = 2
    assert box.full
    box.take()
    assert not box.eased
    box.held = 1
    assert box.eased


def test_a_clock_that_is_set_back_stands_still() -> None:
    readings = iter([5_000_000, 3_000_000, 6_000_000])
    clock = Clock(lambda: next(readings))
    assert [clock(), clock(), clock()] == [5_000, 5_000, 6_000]


def test_the_prefix_goes_with_nothing_between_before_every_name() -> None:
    config = KafkaConfig(topic_prefix="eu.", app_id="app")
    assert config.topic("action-commands") == "eu.action-commands"
    assert (config.group, config.transactional_id(3)) == ("eu.app", "eu.app-3")
    assert config.changelog("tickets") == "eu.app-tickets-changelog"
    assert list(config.inputs) == ["eu.ticket-updates", "eu.session-states"]


def test_the_pause_grows_with_the_transactions_to_come_and_inboxes_shrink_with_the_partitions_held() -> None:
    config = KafkaConfig()
    assert config.pause(1) == 5_000
    assert config.pause(16) == 16 * config.pause(1)
    assert config.pause(1000) == 500_000
    assert config.inbox_limit(1) > config.inbox_limit(64) >= 500


def test_it_shows_the_record_that_waits_longest() -> None:
    box = inbox(next_offset=3)
    assert box.first is None
    box.put(fetch(2, 3, 4))
    box.put(fetch(5))
    assert box.first is not None and box.first.offset == 3
    box.take()
    assert box.first is None
