"""What the runtime tells, as a scrape shows it."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from streams.core import model
from streams.core.model import SECOND, Fact
from streams.core.names import Topic
from streams.telemetry.labels import LabelDomains
from streams.telemetry.metrics import series_budget
from streams.telemetry.observer import COUNTERS_OF_FACTS, HISTOGRAMS_OF_FACTS, Metrics
from streams.telemetry.table import METRICS
from tests.telemetry.batches import a_batch, a_dead_letter, a_transition, an_evaluation, facts

REASON = "user_inactive_or_offline"


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics(abandonment_reasons=[REASON], channels=["web", "ios"], triggers=["solve", "tag"], ruleset="9f2c")
    made.assigned([0, 1])
    return made


def scrape(metrics: Metrics) -> dict[tuple[str, frozenset], float]:
    families = text_string_to_metric_families(metrics.exposition()[0].decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return scrape(metrics).get((name, frozenset(labels.items())))


def series(metrics: Metrics) -> int:
    return sum(1 for name, _ in scrape(metrics) if name.startswith("lapse_"))


def test_every_fact_the_core_can_tell_is_counted_or_timed():
    told = {
        text
        for name, text in vars(model).items()
        if name.isupper() and isinstance(text, str) and name.lower() == text and text != model.NONE
    }
    assert len(told) >= 15
    assert told == set(COUNTERS_OF_FACTS) | set(HISTOGRAMS_OF_FACTS)


@pytest.mark.parametrize(("fact", "metric"), COUNTERS_OF_FACTS.items())
def test_a_fact_raises_its_counter_by_its_amount(metrics, fact, metric):
    (row,) = [row for row in METRICS if row.name == metric]
    known = {
        "kind": "lapsed",
        "reason": REASON,
        "channel": "web",
        "outcome": "no_op",
        "group": "held_out",
        "within": "yes",
        "trigger": "tag",
        "table": "tickets",
        "result": "only_shadow",
    }
    labels = {label: known[label] for label in row.labels}
    metrics.batch_committed(
        0, a_batch(facts=[Fact(fact, tuple(labels.values()), 2), Fact(fact, tuple(labels.values()))]), 0.1
    )
    assert value(metrics, metric, **labels) == 3
    counted = [n for (name, _), n in scrape(metrics).items() if name == metric]
    assert sum(counted) == 3


@pytest.mark.parametrize(("fact", "metric"), HISTOGRAMS_OF_FACTS.items())
def test_a_duration_is_observed_in_its_histogram(metrics, fact, metric):
    metrics.batch_committed(0, a_batch(facts=facts((fact, (), 42.0), (fact, (), 3.0), (fact, (), -1.0))), 0.1)
    assert value(metrics, f"{metric}_count") == 3
    assert value(metrics, f"{metric}_sum") == 45
    assert value(metrics, f"{metric}_bucket", le="10.0") == 2
    assert value(metrics, f"{metric}_bucket", le="60.0") == 3


def test_records_are_counted_by_topic_and_result(metrics):
    counts = Counter({(Topic.TICKETS, "applied"): 7, (Topic.SESSIONS, "stale"): 2})
    metrics.batch_committed(0, a_batch(counts=counts, misrouted=Counter({Topic.SESSIONS: 4}), taken=9), 0.02, 0.01)
    metrics.batch_committed(1, a_batch(counts=counts, taken=9), 0.02, 0.01)
    assert value(metrics, "lapse_records_total", topic="ticket-updates", result="applied") == 14
    assert value(metrics, "lapse_records_total", topic="session-states", result="stale") == 4
    assert value(metrics, "lapse_misrouted_records_total", topic="session-states") == 4
    assert value(metrics, "lapse_misrouted_records_total", topic="ticket-updates") == 0
    assert value(metrics, "lapse_step_records_sum") == 18
    assert value(metrics, "lapse_step_seconds_bucket", le="0.025") == 2
    assert value(metrics, "lapse_commit_seconds_bucket", le="0.01") == 2


def test_dead_letters_are_counted_by_topic_and_code(metrics):
    bad = [a_dead_letter(Topic.TICKETS, "invalid")] * 2 + [a_dead_letter(Topic.SESSIONS, "made_up")]
    metrics.batch_committed(0, a_batch(dead_letters=bad), 0.1)
    assert value(metrics, "lapse_dead_letters_total", topic="ticket-updates", code="invalid") == 2
    assert value(metrics, "lapse_dead_letters_total", topic="session-states", code="other") == 1


def test_a_batch_shows_the_committed_offsets_and_stream_time_of_its_partition(metrics):
    metrics.batch_committed(
        1, a_batch(next_offsets={Topic.TICKETS: 12, Topic.SESSIONS: 5}, stream_time=90 * SECOND), 0.1
    )
    assert value(metrics, "lapse_committed_offset", topic="ticket-updates", partition="1") == 12
    assert value(metrics, "lapse_committed_offset", topic="session-states", partition="1") == 5
    assert value(metrics, "lapse_stream_time_timestamp_seconds", partition="1") == 90
    assert value(metrics, "lapse_stream_time_timestamp_seconds", partition="0") is None


def test_ten_thousand_tickets_and_two_hundred_reasons_stay_within_the_series_budget(metrics):
    domains = LabelDomains(abandonment_reasons=[REASON], channels=["web", "ios"], triggers=["solve", "tag"])
    for partition in (0, 1):
        metrics.lag(Topic.TICKETS, partition, 1, 0.5)
        metrics.lag(Topic.SESSIONS, partition, 1, 0.5)
        metrics.batch_committed(partition, a_batch(next_offsets={Topic.TICKETS: 1, Topic.SESSIONS: 1}), 0.1)
    before = series(metrics)
    for ticket in range(10_000):
        reason, channel = f"reason_{ticket % 200}", f"channel_{ticket}"
        metrics.batch_committed(
            ticket % 2,
            a_batch(
                records=[a_transition(str(ticket), reason=reason), an_evaluation(str(ticket))],
                facts=facts(
                    (model.TRANSITION, ("lapsed", reason, channel)),
                    (model.SESSION, (channel,)),
                    (model.ABANDONMENT, (REASON, channel)),
                    (model.TRIGGER_FIRED, ("solve",)),
                    (model.TIME_TO_ABANDON_SECONDS, (), float(ticket)),
                ),
            ),
            0.001,
        )
    assert series(metrics) == before <= series_budget(domains, 2)
    # Even values that the engine cannot produce share one `other`.
    for n in range(200):
        metrics.batch_committed(
            0, a_batch(facts=facts((model.ABANDONMENT, (f"r{n}", "web")), (model.TRIGGER_FIRED, (f"t{n}",)))), 0
        )
        metrics.batch_committed(0, a_batch(dead_letters=[a_dead_letter(Topic.TICKETS, f"code{n}")]), 0)
    assert before < series(metrics) <= series_budget(domains, 2)
    assert value(metrics, "lapse_session_transitions_total", kind="lapsed", reason="other", channel="other") == 10_000
    assert value(metrics, "lapse_triggers_fired_total", trigger="other") == 200
    assert b"channel_7" not in metrics.exposition()[0]


def test_the_exposition_is_prometheus_text_and_openmetrics_when_asked(metrics):
    metrics.batch_committed(0, a_batch(facts=facts((model.SESSION, ("web",)))), 0.1)
    text, content_type = metrics.exposition()
    assert content_type.startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert families["lapse_sessions"].type == "counter"
    asked = "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5"
    openmetrics, content_type = metrics.exposition(asked)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.endswith(b"# EOF\n")
    parsed = {family.name: family for family in parse_openmetrics(openmetrics.decode())}
    assert any(s.labels == {"channel": "web"} and s.value == 1 for s in parsed["lapse_sessions"].samples)
    assert not any(name.endswith("_created") for name, _ in scrape(metrics))
    assert b"_created" not in openmetrics


def test_build_and_ruleset_are_told(metrics):
    assert value(metrics, "lapse_ruleset_info", ruleset="9f2c") == 1
    (build,) = [dict(labels) for (name, labels) in scrape(metrics) if name == "lapse_build_info"]
    assert set(build) == {"version", "python", "faust", "aiokafka"}
    assert build["faust"].startswith("0.15")


def test_the_gauges_of_a_revoked_partition_are_gone_and_stay_gone(metrics):
    def of_partition_1() -> set[str]:
        return {name for name, labels in scrape(metrics) if ("partition", "1") in labels}

    def tell() -> None:
        metrics.lag(Topic.TICKETS, 1, 30, 2.5)
        metrics.lag(Topic.SESSIONS, 1, 0, 0)
        metrics.committed(Topic.TICKETS, 1, 8)
        metrics.table_rows(1, 100, 90)
        metrics.pending_rounds(1, 3)
        metrics.held_back(Topic.TICKETS, 1, 3)
        metrics.rules_in_use(1, 4)
        metrics.restored(1, 190, 0.4)
        metrics.batch_committed(1, a_batch(next_offsets={Topic.SESSIONS: 4}, facts=facts((model.COMMAND,))), 0.1)

    metrics.table_rows(0, 10, 9)
    tell()
    assert of_partition_1() == {
        "lapse_lag_records",
        "lapse_lag_seconds",
        "lapse_committed_offset",
        "lapse_held_back_offsets",
        "lapse_restore_remaining_offsets",
        "lapse_rules_revision",
        "lapse_stream_time_timestamp_seconds",
        "lapse_partition_ready",
    }
    assert value(metrics, "lapse_table_rows", table="tickets") == 110
    assert value(metrics, "lapse_pending_rounds") == 3
    metrics.revoked([1])
    assert of_partition_1() == set()
    assert value(metrics, "lapse_lag_records", topic="ticket-updates", partition="0") is None
    assert value(metrics, "lapse_table_rows", table="tickets") == 10
    assert value(metrics, "lapse_table_rows", table="sessions") == 9
    assert value(metrics, "lapse_pending_rounds") == 0
    assert value(metrics, "lapse_assigned_partitions") == 1
    tell()
    assert of_partition_1() == set(), "a late report must not bring the gauges back"
    assert value(metrics, "lapse_commands_total") == 2, "a committed step counts all the same"
    metrics.assigned([1])
    metrics.lag(Topic.TICKETS, 1, 5)
    assert value(metrics, "lapse_lag_records", topic="ticket-updates", partition="1") == 5


def test_a_partition_is_ready_once_it_is_restored(metrics):
    assert value(metrics, "lapse_partition_ready", partition="0") == 0
    metrics.restoring(0, 600)
    metrics.restoring(0, 400)
    metrics.restore_remaining(0, 17)
    assert value(metrics, "lapse_restore_rows_total") == 1_000, "rows are counted while they come"
    assert value(metrics, "lapse_restore_remaining_offsets", partition="0") == 17
    metrics.restored(0, 1_000, 0.3)
    assert value(metrics, "lapse_restore_remaining_offsets", partition="0") == 0
    metrics.assigned([0, 1])
    assert value(metrics, "lapse_partition_ready", partition="0") == 1
    assert value(metrics, "lapse_partition_ready", partition="1") == 0
    assert value(metrics, "lapse_restore_rows_total") == 1_000
    assert value(metrics, "lapse_restore_seconds_count") == 1


def test_clocks_that_disagree_give_no_negative_durations(metrics):
    metrics.event_age(-3)
    metrics.loop_lag(-0.001)
    metrics.lag(Topic.TICKETS, 0, -1, -2)
    assert value(metrics, "lapse_event_age_seconds_sum") == 0
    assert value(metrics, "lapse_event_loop_lag_seconds_sum") == 0
    assert value(metrics, "lapse_lag_records", topic="ticket-updates", partition="0") == 0
    assert value(metrics, "lapse_lag_seconds", topic="ticket-updates", partition="0") == 0


def test_the_figures_sum_over_labels(metrics):
    told = facts(
        (model.SESSION, ("web",)),
        (model.SESSION, ("fax",)),
        (model.SESSION_ABANDONED, ("web",)),
        (model.ABANDONMENT, (REASON, "web")),
        (model.ABANDONMENT, (REASON, "web")),
        (model.TICKET_ABANDONED, ("web",)),
        (model.FALSE_ABANDONMENT, ("web",)),
        (model.COMMAND,),
        (model.COMMAND_APPLIED,),
        (model.TRIGGER_FIRED, ("tag",)),
    )
    metrics.table_rows(0, 5, 4)
    metrics.pending_rounds(0, 2)
    metrics.batch_committed(0, a_batch(facts=told, counts=Counter({(Topic.TICKETS, "applied"): 3})), 0.1)
    figures = metrics.figures()
    assert (figures.sessions, figures.sessions_abandoned, figures.abandonments) == (2, 1, 2)
    assert (figures.tickets_abandoned, figures.false_abandonments) == (1, 1)
    assert (figures.commands, figures.commands_applied, figures.records) == (1, 1, 3)
    assert (figures.pending_rounds, figures.ticket_rows, figures.session_rows) == (2, 5, 4)
    assert figures.open_abandonments is None
    metrics.open_abandonments(0, 0)
    assert metrics.figures().open_abandonments == 0
    assert metrics.triggers_fired() == {"solve": 0, "tag": 1}


def test_counting_a_batch(benchmark, metrics):
    """A step of 2,000 records with 100 lapses, about what one fetch of a busy partition brings."""
    lapse = facts(
        (model.TRANSITION, ("lapsed", REASON, "web")),
        (model.ABANDONMENT, (REASON, "web")),
        (model.SESSION_ABANDONED, ("web",)),
        (model.TIME_TO_ABANDON_SECONDS, (), 300.0),
        (model.ROUND, ("commanded",)),
        (model.TRIGGER_FIRED, ("solve",)),
        (model.COMMAND,),
    )
    counts = Counter({(Topic.TICKETS, "applied"): 1_000, (Topic.SESSIONS, "applied"): 1_000})
    step = a_batch(facts=lapse * 100, counts=counts, records=[a_transition(), an_evaluation()] * 100, taken=2_000)
    benchmark(metrics.batch_committed, 0, step, 0.01)
    assert value(metrics, "lapse_commands_total") % 100 == 0
    assert value(metrics, "lapse_commands_total") * 10 == value(
        metrics, "lapse_records_total", topic="ticket-updates", result="applied"
    )
