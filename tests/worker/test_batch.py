"""Several steps in one transaction."""

from __future__ import annotations

from collections import Counter

from streams.core.model import Rejection, Topic
from streams.core.partition import DeadLetter, Step
from streams.wire.capture import CapturedRecord
from streams.worker.batch import absorb, bulk


def test_steps_that_follow_each_other_become_one() -> None:
    first = Step(
        {Topic.TICKETS: 5},
        stream_time=10,
        taken=5,
        ticket_rows={"1": b"old", "2": b"b"},
        counts=Counter({(Topic.TICKETS, "applied"): 5}),
        pending_rounds=4,
        oldest_taken=8,
    )
    second = Step(
        {Topic.TICKETS: 7, Topic.SESSIONS: 3},
        stream_time=12,
        taken=5,
        ticket_rows={"1": b"new", "2": None},
        session_rows={"1": b"s"},
        counts=Counter({(Topic.TICKETS, "applied"): 2, (Topic.SESSIONS, "stale"): 3}),
        pending_rounds=1,
        oldest_taken=9,
    )
    absorb(first, second)
    assert first == Step(
        {Topic.TICKETS: 7, Topic.SESSIONS: 3},
        stream_time=12,
        taken=10,
        ticket_rows={"1": b"new", "2": None},
        session_rows={"1": b"s"},
        counts=Counter({(Topic.TICKETS, "applied"): 7, (Topic.SESSIONS, "stale"): 3}),
        pending_rounds=1,
        oldest_taken=8,
    )


def test_a_step_that_only_a_timer_made_does_not_hide_the_age_of_the_next() -> None:
    whole = Step({}, oldest_taken=None)
    absorb(whole, Step({}, oldest_taken=7))
    assert whole.oldest_taken == 7
    absorb(whole, Step({}, oldest_taken=None))
    assert whole.oldest_taken == 7


def test_the_bulk_of_a_step_is_its_rows_and_dead_letters() -> None:
    letter = DeadLetter(Topic.TICKETS, CapturedRecord(0, 0, None, b"xyz"), Rejection("not_json", "$", ""))
    step = Step({}, dead_letters=[letter], ticket_rows={"1": b"ab", "2": None}, session_rows={"1": b"c"})
    assert bulk(step) == 6
