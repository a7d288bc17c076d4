"""Traffic keeps clear of the instants at which a broker could not say whether a record came before a timer."""

from __future__ import annotations

import pytest

from tests.system.compare import compare
from tests.system.oracle import SESSIONS, TICKETS
from tests.system.traffic import EDGE_MARGIN, Sent, Story, stories

_LEFT = Sent(SESSIONS, b"1", b"{}")
_UPDATE = Sent(TICKETS, b"1", b"{}")
_DUE = 1_000_000 + 2_000


@pytest.fixture
def story() -> Story:
    """A story whose customer left at 1,000,000 ms; rounds may be due 2 s and 2.1 s later."""
    made = Story(delays=(2_000, 2_100))
    assert made.logged(_LEFT, 1_000_000, 1_000_003)
    return made


def test_no_step_is_sent_close_to_an_instant_at_which_a_timer_may_be_due(story: Story):
    assert story.clear_from(_DUE - EDGE_MARGIN) == _DUE - EDGE_MARGIN
    assert story.clear_from(_DUE - 1) == _DUE + 100 + EDGE_MARGIN
    assert story.clear_from(_DUE + 100 + EDGE_MARGIN) == _DUE + 100 + EDGE_MARGIN


@pytest.mark.parametrize(
    ("timestamp", "acknowledged", "sure"),
    [
        (_DUE - 1_000, _DUE - 900, True),
        (_DUE - 1_000, _DUE + 1, False),  # the broker stood still over the instant
        (_DUE - EDGE_MARGIN + 1, _DUE - EDGE_MARGIN + 2, False),
        (_DUE + 1, _DUE + 1, False),
        (_DUE + 2_000, _DUE + 9_000, True),
    ],
)
def test_a_record_that_may_have_come_before_or_after_a_timer_makes_its_ticket_unsure(
    story: Story, timestamp: int, acknowledged: int, sure: bool
):
    assert story.logged(_UPDATE, timestamp, acknowledged) is sure


def test_the_timers_of_a_story_are_its_waits_and_the_ends_of_parked_rounds():
    assert sorted(next(stories(1, waits=(2.0, 5.0), join_wait=4.0)).delays) == [2_000, 4_000, 5_000, 6_000, 9_000]


def test_at_an_unsure_ticket_only_what_came_twice_counts():
    lost, twice, other = ({"ticket_id": ticket, "event_id": event} for ticket, event in ("1a", "1b", "2c"))
    difference = compare("evaluations", [lost, twice, other], [twice, twice, {**other, "outcome": "x"}])
    assert difference.counts == (2, 1, 1)
    assert difference.but_for({"1"}).counts == (1, 1, 1)
    assert difference.but_for({"1", "2"}).counts == (0, 0, 1)
