"""What is counted of held commands: each limit that a command passes, after the commit."""

from __future__ import annotations

from streams.telemetry.observer import Metrics
from tests.telemetry.engine_runs import a_partition, take
from tests.telemetry.test_holdout import ACTED, GONE, HELD, TRIGGERS, counted, story


def test_a_held_command_counts_for_each_limit_that_it_passes_and_not_as_a_command():
    metrics = Metrics(abandonment_reasons=[GONE], triggers=["now", "late"], ruleset="9f2c")
    records = story(HELD, "2026-03-01T10:08:00Z") + story(ACTED, "2026-03-01T10:30:00Z")
    take(a_partition("limit: {count: 1, per: 1h}\n" + TRIGGERS), records, metrics)
    assert counted(metrics, "lapse_held_commands_total") == {'trigger="now"': 1, 'trigger="late"': 1}
    assert counted(metrics, "lapse_rounds_total") == {'outcome="commanded"': 2, 'outcome="held"': 2}
    assert "lapse_commands_total 2.0\n" in metrics.exposition()[0].decode()
