"""The journal: bounded, by the minute of the events, and quick enough to be told of every step."""

from __future__ import annotations

from streams.core import model
from streams.core.model import SECOND, Kind, RoundOutcome
from streams.web.journal import MINUTES_KEPT, REASONS_PER_MINUTE, ROUNDS_KEPT, Journal
from tests.telemetry.batches import a_batch, a_transition, an_evaluation, facts

NOW = 1_772_359_545.0


def journal() -> Journal:
    return Journal(clock=lambda: NOW)


def lapse(at: float, reason: str = "gone"):
    """A lapse `at` seconds: its record, and its facts."""
    record = a_transition(occurred_at=int(at * SECOND), reason=reason)
    return record, [(model.TRANSITION, (Kind.LAPSED.value, reason, "web")), (model.ABANDONMENT, (reason, "web"))]


def test_facts_belong_to_the_minute_of_their_transition():
    found = journal()
    early, early_facts = lapse(NOW - 600)
    late, late_facts = lapse(NOW - 30)
    found.batch_committed(
        a_batch(records=[early, an_evaluation(), late], facts=facts(*early_facts, *late_facts, *late_facts[1:]))
    )
    assert found.last(1, NOW).abandonments == 2
    assert found.last(60, NOW).abandonments == 3
    series = found.series(15, 1, NOW)
    assert [sums.abandonments for _, sums in series if sums.abandonments] == [1, 2]


def test_what_is_longer_ago_than_is_kept_does_not_count():
    found = journal()
    record, its_facts = lapse(NOW - (MINUTES_KEPT + 5) * 60)
    found.batch_committed(a_batch(records=[record], facts=facts(*its_facts)))
    assert found.last(MINUTES_KEPT, NOW).abandonments == 0


def test_reasons_and_minutes_and_rounds_are_bounded():
    found = journal()
    for number in range(REASONS_PER_MINUTE + 30):
        record, its_facts = lapse(NOW, f"reason {number}")
        found.batch_committed(a_batch(records=[record], facts=facts(*its_facts)))
    assert len(found.last(1, NOW).lapses) == REASONS_PER_MINUTE + 1
    assert found.last(1, NOW).lapses["other"] == 30
    for number in range(3 * MINUTES_KEPT):
        record, its_facts = lapse(NOW - number * 60)
        found.batch_committed(a_batch(records=[record], facts=facts(*its_facts)))
    assert len(found._minutes) <= MINUTES_KEPT + 11
    rounds = [an_evaluation(str(number), triggers=("t",), outcome=RoundOutcome.NO_OP) for number in range(5_000)]
    found.batch_committed(a_batch(records=rounds))
    assert [one.evaluation.ticket_id for one in found.fired()[:2]] == ["4999", "4998"]
    assert len(found.fired()) == ROUNDS_KEPT


def test_quiet_rounds_do_not_push_out_those_that_fired():
    found = journal()
    found.batch_committed(a_batch(records=[an_evaluation("1", triggers=("t",), outcome=RoundOutcome.NO_OP)]))
    found.batch_committed(a_batch(records=[an_evaluation(str(number)) for number in range(1_000)]))
    assert [one.evaluation.ticket_id for one in found.fired()] == ["1"]
    assert len(found.quiet()) == ROUNDS_KEPT


def test_a_round_is_found_by_the_id_that_its_command_has_or_would_have_had():
    found = journal()
    found.batch_committed(a_batch(records=[an_evaluation("1"), an_evaluation("2", command_id="c-2", triggers=("t",))]))
    assert found.find("c-2") is not None
    (quiet,) = found.rounds_of("1")
    assert found.find(quiet.id) == quiet
    assert found.find("other") is None
