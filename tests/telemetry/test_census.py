"""How many tickets are abandoned and not dealt with, counted by walking through the rows a few at a time."""

from __future__ import annotations

import pytest

from streams.testing.builders import session_forgotten, session_state, ticket_deleted, ticket_update
from streams.worker.census import Census
from tests.telemetry.engine_runs import a_partition, take

GONE = "user_inactive_or_offline"
TRIGGERS = "triggers: []"


def left(ticket: str = "1", **ticket_members) -> list:
    return [
        ticket_update(ticket, at="2026-03-01T12:00:00Z", **ticket_members),
        session_state(ticket, "active", at="2026-03-01T12:00:01Z"),
        session_state(ticket, "inactive", GONE, at="2026-03-01T12:00:02Z"),
    ]


def counted(records: list) -> int:
    partition = a_partition(TRIGGERS)
    take(partition, records)
    census = Census(partition)
    while (found := census.advance()) is None:
        pass
    return found


@pytest.mark.parametrize("status", ["new", "open", "pending", "hold"])
def test_who_left_an_unsolved_ticket_counts(status):
    assert counted(left(status=status)) == 1


@pytest.mark.parametrize("status", ["solved", "closed"])
def test_a_ticket_that_was_dealt_with_does_not_count(status):
    assert counted(left(status=status)) == 0


@pytest.mark.parametrize(
    "then",
    [
        session_state("1", "active", at="2026-03-01T12:00:30Z"),
        session_state("1", "ended", at="2026-03-01T12:00:30Z"),
        session_forgotten("1", at="2026-03-01T12:00:30Z"),
        ticket_deleted("1", at="2026-03-01T12:00:30Z"),
    ],
    ids=["returned", "ended", "forgotten", "deleted"],
)
def test_what_happened_since_takes_it_out(then):
    assert counted([*left(), then]) == 0


def test_another_reason_is_no_abandonment():
    records = left()
    records[-1] = session_state("1", "inactive", "agent_ended", at="2026-03-01T12:00:02Z")
    assert counted(records) == 0


def test_a_session_that_is_inactive_for_another_reason_since_does_not_count():
    """The customer left; then another session of the ticket was seen, ended by the agent: this one waits for nobody."""
    another = session_state("1", "inactive", "agent_ended", session_id="b", at="2026-03-01T12:00:30Z")
    records = left()
    records[1:] = [
        session_state("1", "active", session_id="a", at="2026-03-01T12:00:01Z"),
        session_state("1", "inactive", GONE, session_id="a", at="2026-03-01T12:00:02Z"),
    ]
    assert counted(records) == 1
    assert counted([*records, another]) == 0


def test_an_abandonment_whose_reason_changes_later_still_counts():
    changed = session_state("1", "inactive", "agent_ended", at="2026-03-01T12:00:30Z")
    assert counted([*left(), changed]) == 1


def test_a_session_without_a_ticket_does_not_count():
    assert counted(left()[1:]) == 0


def test_a_large_table_is_walked_through_in_small_bites_and_begun_anew():
    partition = a_partition(TRIGGERS)
    take(partition, [record for ticket in range(130) for record in left(str(ticket))])
    census = Census(partition)
    assert [census.advance() for _ in range(6)] == [None, None, 130, None, None, 130]


def test_rows_that_go_during_a_walk_are_passed_over():
    partition = a_partition(TRIGGERS)
    take(partition, [record for ticket in range(60) for record in left(str(ticket))])
    census = Census(partition)
    assert census.advance() is None
    take(partition, [session_state("59", "active", at="2026-03-01T13:00:00Z")])
    assert census.advance() == 59


def test_an_empty_table_counts_as_nothing():
    assert Census(a_partition(TRIGGERS)).advance() == 0
