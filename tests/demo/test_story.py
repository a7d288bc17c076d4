"""The figures that the demo shows, against records as the engine writes them."""

from __future__ import annotations

import pytest

from streams.core.model import (
    SECOND,
    Command,
    Evaluation,
    FieldValue,
    Kind,
    Lapse,
    RoundOutcome,
    Transition,
)
from streams.demo.story import Rate, Story
from streams.wire import encode

T0 = 1_772_359_200.0
LEFT = "user_inactive_or_offline"


@pytest.fixture
def story():
    return Story(T0, frozenset({LEFT}), false_window=60)


def transition(kind: Kind, at: float, *, reason: str | None = None, ticket="1", session="s1", episode=1) -> bytes:
    after = {Kind.LAPSED: "inactive", Kind.ENDED: "ended"}.get(kind, "active")
    before = "inactive" if kind is Kind.RESUMED else "active"
    record = Transition(ticket, "e", round((T0 + at) * SECOND), session, kind, before, after, reason, episode, "web")
    return encode.record(record).value


def evaluation(outcome: RoundOutcome, wait=0) -> bytes:
    limits = ("solve", "tag") if outcome is RoundOutcome.HELD else ()
    said = Evaluation("1", "e", round(T0 * SECOND), 1, wait, outcome, limits, None, held_by=limits)
    return encode.record(said).value


def command(command_id="c-1", wait=0) -> bytes:
    lapse = Lapse("e", 0, 0, 1, "active", None, "web", LEFT, "web")
    actions = (FieldValue("status", "solved"), FieldValue("priority", None), FieldValue("add_tags", ["a", "b"]))
    triggers = (("solve", "Solve"), ("tag", "Tag"))
    return encode.command(
        Command(command_id, "1", round((T0 + 5) * SECOND), lapse, wait, triggers, actions, {}, "0" * 12), "lapse"
    ).value


def test_a_return_within_the_window_is_a_false_abandonment(story):
    story.record(transition(Kind.LAPSED, 1, reason=LEFT), T0 + 1)
    told = story.record(transition(Kind.RESUMED, 13), T0 + 13)
    assert (story.abandonments, story.false_abandonments) == (1, 1)
    assert told.text == "inactive → active after 12 s, so that was a false abandonment"


def test_a_return_after_the_window_is_none(story):
    story.record(transition(Kind.LAPSED, 1, reason=LEFT), T0 + 1)
    told = story.record(transition(Kind.RESUMED, 62), T0 + 62)
    assert (story.abandonments, story.false_abandonments) == (1, 0)
    assert told.text == "inactive → active after 1 min 1 s"


def test_leaving_for_another_reason_is_no_abandonment(story):
    story.record(transition(Kind.LAPSED, 1, reason="ticket_status_changed"), T0 + 1)
    story.record(transition(Kind.RESUMED, 2), T0 + 2)
    assert (story.abandonments, story.false_abandonments, story.abandoned_sessions) == (0, 0, set())


def test_a_session_counts_as_abandoned_once(story):
    for at in (1, 20):
        story.record(transition(Kind.LAPSED, at, reason=LEFT), T0 + at)
        story.record(transition(Kind.RESUMED, at + 5), T0 + at + 5)
    story.record(transition(Kind.OPENED, 40, ticket="2", session="s2"), T0 + 40)
    assert (len(story.sessions), len(story.abandoned_sessions), story.abandonments) == (2, 1, 2)


def test_a_command_is_told_with_its_actions_and_triggers(story):
    told = story.command(command(wait=5 * SECOND), T0 + 5)
    assert told.text == "status = solved, priority = none, add tags a b  (solve + tag after 5 s)"
    assert story.actions == {"solve": 1, "tag": 1}


def test_a_command_that_comes_twice_is_noticed(story):
    for command_id in ("c-1", "c-2", "c-1"):
        story.command(command(command_id), T0 + 5)
    assert (story.commands.total, story.repeated_commands) == (3, 1)


def test_every_round_is_counted_and_the_quiet_ones_are_not_told(story):
    told = [story.record(evaluation(outcome, 5 * SECOND), T0) for outcome in RoundOutcome]
    assert story.outcomes == dict.fromkeys((outcome.value for outcome in RoundOutcome), 1)
    assert [h.text for h in told if h is not None] == [
        "no ticket came: nothing to act on",
        "the ticket is closed: no trigger fires",
        "by the limit of solve and tag",
    ]
    assert story.held == {"solve": 1, "tag": 1}


def test_a_return_tells_once_what_it_cancels(story):
    story.record(transition(Kind.LAPSED, 1, reason=LEFT), T0 + 1)
    story.record(transition(Kind.RESUMED, 3), T0 + 3)
    told = [story.record(evaluation(RoundOutcome.CANCELLED, wait * SECOND), T0 + 3) for wait in (5, 10)]
    assert told[0].text == "what waited for this customer is off"
    assert told[1] is None


def test_every_kind_of_transition_can_be_told(story):
    for kind in Kind:
        story.record(transition(kind, 1, reason=LEFT), T0 + 1)
    assert story.kinds == dict.fromkeys((kind.value for kind in Kind), 1)


def test_delay_counts_live_events_only(story):
    story.record(transition(Kind.OPENED, -30), T0 + 1)
    assert story.delay() is None
    for n in range(10):
        story.record(transition(Kind.OPENED, n), T0 + n + 0.05)
    assert story.delay() == (pytest.approx(0.05), pytest.approx(0.05))


def test_dead_letters_are_counted_by_code(story):
    story.dead_letter({"lapse.error.code": b"not_json"})
    assert story.dead_letters == {"not_json": 1}


def test_a_rate_is_that_of_the_last_ten_seconds():
    rate = Rate(0)
    for second in range(1, 31):
        rate.add(second, 2 if second <= 20 else 5)
    assert rate.per_second(30) == 5
    assert rate.total == 90


def test_a_rate_of_the_first_seconds_is_not_thinned_out():
    rate = Rate(0)
    rate.add(1, 8)
    assert rate.per_second(2) == 4
