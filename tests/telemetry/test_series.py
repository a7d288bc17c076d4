"""Whatever comes in, the number of series stays what the documentation says."""

from __future__ import annotations

from streams.telemetry.labels import LabelDomains
from streams.telemetry.metrics import series_budget
from streams.telemetry.observer import Metrics
from streams.testing.builders import session_state, ticket_update
from tests.telemetry.engine_runs import a_partition, take

GONE = "user_inactive_or_offline"
TRIGGERS = """
triggers:
  - id: solve
    title: Solve
    conditions:
      all: [{field: messaging_session_state, operator: changed_to, value: inactive}]
    actions: [{field: status, value: solved}]
"""


def series(metrics: Metrics) -> int:
    lines = metrics.exposition()[0].decode().splitlines()
    return sum(line.startswith("lapse_") for line in lines)


def at(second: int) -> str:
    hours, rest = divmod(second, 3600)
    return f"2026-03-01T{hours:02}:{rest // 60:02}:{rest % 60:02}Z"


def some_traffic(tickets: range, reasons: int) -> list:
    """Each ticket is opened and left; every state says another reason and channel, one in three a real one."""
    records = []
    for ticket in tickets:
        channel = "web" if ticket % 3 else f"channel {ticket % reasons}"
        reason = GONE if ticket % 3 else f"reason {ticket % reasons}"
        second = ticket * 5 % 80_000
        records += [
            ticket_update(str(ticket), at=at(second)),
            session_state(str(ticket), "active", channel=channel, at=at(second + 1)),
            session_state(str(ticket), "inactive", reason, channel=channel, at=at(second + 2)),
        ]
    return records


def test_ten_thousand_tickets_with_two_hundred_reasons_and_channels_add_no_series():
    metrics = Metrics(abandonment_reasons=[GONE], triggers=["solve"], ruleset="9f2c")
    metrics.assigned([0])
    partition = a_partition(TRIGGERS)
    take(partition, some_traffic(range(1), 200), metrics)
    before = series(metrics)
    partition = a_partition(TRIGGERS)
    take(partition, some_traffic(range(1, 10_001), 200), metrics)
    assert partition.table_rows == {"tickets": 10_000, "sessions": 10_000}
    assert metrics.figures().commands == 10_001
    budget = series_budget(LabelDomains(abandonment_reasons=[GONE], triggers=["solve"]), partitions=1)
    assert series(metrics) == before <= budget
    text = metrics.exposition()[0]
    assert b"reason_7" not in text and b"channel_7" not in text
    assert b'lapse_sessions_total{channel="other"} 3334' in text


def test_the_budget_is_not_generous():
    """With every partition gauge told and a guarded label's `other` left out, what is exposed is what is stated."""
    domains = LabelDomains(abandonment_reasons=[GONE], triggers=["solve"])
    metrics = Metrics(abandonment_reasons=[GONE], triggers=["solve"], ruleset="9f2c")
    metrics.assigned([0])
    take(a_partition(TRIGGERS), some_traffic(range(3), 200), metrics)
    unspent = series_budget(domains, partitions=1) - series(metrics)
    # One trigger, one abandonment reason in each of nine channels, one code for each of two topics: all `other`; and
    # the end offsets, what is held back and the lag in records and in seconds of two topics, which a broker has to
    # tell; how far a restore has to go; and a trigger of a shadow, with its `other`; `other` of held commands.
    assert unspent == 1 + 9 + 2 + 8 + 1 + 2 + 1
