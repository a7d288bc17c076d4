"""What is counted of a shadow, and that shadows that follow one another add no series without end."""

from __future__ import annotations

from streams.core.cycle import Rules
from streams.core.shadow import Candidate
from streams.rules.triggers import parse_triggers
from streams.telemetry.labels import LEARNT_KEPT, LabelDomains
from streams.telemetry.observer import Metrics
from streams.testing.builders import session_state, ticket_update
from tests.telemetry.engine_runs import a_partition, take
from tests.telemetry.test_holdout import TRIGGERS, counted

RECORDS = [
    ticket_update("5158", at="2026-03-01T10:00:00Z", status="open"),
    session_state("5158", "inactive", at="2026-03-01T10:05:00Z"),
    session_state("5158", "active", at="2026-03-01T10:30:00Z"),
]


def run(shadow: str | None) -> Metrics:
    partition = a_partition(TRIGGERS)
    if shadow is not None:
        parsed = parse_triggers(shadow)
        assert parsed.ruleset is not None
        partition.follow_with(Candidate(2, Rules(parsed.ruleset)))
    metrics = Metrics(triggers=["now", "late"], ruleset="9f2c")
    take(partition, RECORDS, metrics)
    return metrics


def test_rounds_of_a_shadow_count_by_result_and_its_triggers_by_id():
    metrics = run(TRIGGERS.replace("id: now", "id: at-once").replace("value: solved", "value: hold"))
    assert counted(metrics, "lapse_shadow_rounds_total") == {'result="same"': 1, 'result="different"': 1}
    assert counted(metrics, "lapse_shadow_triggers_fired_total") == {'trigger="at-once"': 1, 'trigger="late"': 1}
    assert counted(metrics, "lapse_triggers_fired_total") == {'trigger="now"': 1, 'trigger="late"': 1}
    assert counted(metrics, "lapse_rounds_total") == {'outcome="commanded"': 2}


def test_without_a_shadow_all_results_are_there_and_nothing_is_counted():
    text = run(None).exposition()[0].decode()
    for result in ("same", "only_live", "only_shadow", "different"):
        assert f'lapse_shadow_rounds_total{{result="{result}"}} 0.0' in text
    assert "lapse_shadow_triggers_fired_total{" not in text


def test_triggers_of_ever_more_shadows_count_as_other():
    domains = LabelDomains()
    known = [domains.bound("shadow_trigger", str(number)) for number in range(LEARNT_KEPT + 1)]
    assert known == [*map(str, range(LEARNT_KEPT)), "other"]
    assert domains.bound("shadow_trigger", "7") == "7"
