"""What a holdout compares: abandonments by group, each once, and the returns after them."""

from __future__ import annotations

import msgspec
import pytest

from streams.core.model import SessionRow
from streams.telemetry.observer import Metrics
from streams.testing.builders import session_state, ticket_update
from streams.wire.rows import MsgpackRows
from tests.telemetry.engine_runs import a_partition, take

GONE = "user_inactive_or_offline"
HOLDOUT = 'holdout: {share: 5%, salt: "2026-q4"}\n'
HELD, ACTED = "2", "3"
"""With this salt ticket 2 lies below 5%, and ticket 3 does not."""
TRIGGERS = """
triggers:
  - id: now
    title: Now
    conditions: {all: [{field: status, operator: is, value: open}]}
    actions: [{field: add_tags, value: left}]
  - id: late
    title: Late
    wait: 60s
    conditions: {all: [{field: status, operator: is, value: open}]}
    actions: [{field: status, value: solved}]
"""


def counted(metrics: Metrics, name: str) -> dict[str, float]:
    lines = metrics.exposition()[0].decode().splitlines()
    return {
        line.split("{")[1].split("}")[0]: float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith(name + "{") and not line.endswith(" 0.0")
    }


def story(ticket: str, back: str, reason: str = GONE) -> list:
    return [
        ticket_update(ticket, at="2026-03-01T10:00:00Z", status="open"),
        session_state(ticket, "active", at="2026-03-01T10:01:00Z"),
        session_state(ticket, "inactive", reason, at="2026-03-01T10:05:00Z"),
        session_state(ticket, "active", at=back),
    ]


def run(triggers: str, records: list) -> Metrics:
    metrics = Metrics(abandonment_reasons=[GONE], triggers=["now", "late"], ruleset="9f2c")
    take(a_partition(triggers), records, metrics)
    return metrics


def test_each_abandonment_counts_once_in_the_group_of_its_first_command_however_many_rounds_it_has():
    metrics = run(HOLDOUT + TRIGGERS, story(HELD, "2026-03-01T10:08:00Z") + story(ACTED, "2026-03-01T10:30:00Z"))
    assert counted(metrics, "lapse_rounds_total") == {'outcome="commanded"': 2, 'outcome="held_out"': 2}
    assert counted(metrics, "lapse_holdout_abandonments_total") == {'group="acted_on"': 1, 'group="held_out"': 1}


def test_a_return_counts_in_the_group_of_its_abandonment_by_whether_it_came_within_the_window():
    metrics = run(HOLDOUT + TRIGGERS, story(HELD, "2026-03-01T10:08:00Z") + story(ACTED, "2026-03-01T10:30:00Z"))
    assert counted(metrics, "lapse_holdout_returns_total") == {
        'group="held_out",within="yes"': 1,
        'group="acted_on",within="no"': 1,
    }


def test_a_lapse_for_another_reason_is_in_no_group():
    metrics = run(HOLDOUT + TRIGGERS, story(HELD, "2026-03-01T10:08:00Z", "agent_ended"))
    assert counted(metrics, "lapse_rounds_total") == {'outcome="held_out"': 2}
    assert counted(metrics, "lapse_holdout_abandonments_total") == {}
    assert counted(metrics, "lapse_holdout_returns_total") == {}


def test_an_abandonment_without_a_command_real_or_held_out_is_in_no_group():
    late_only = TRIGGERS.replace("value: open", "value: pending", 1)
    metrics = run(HOLDOUT + late_only, story(HELD, "2026-03-01T10:05:30Z"))
    assert counted(metrics, "lapse_holdout_abandonments_total") == {}
    assert counted(metrics, "lapse_holdout_returns_total") == {}


def test_every_abandonment_of_a_ticket_counts():
    again = [
        session_state(HELD, "inactive", GONE, at="2026-03-01T10:10:00Z"),
        session_state(HELD, "active", at="2026-03-01T10:20:00Z"),
    ]
    metrics = run(HOLDOUT + TRIGGERS, story(HELD, "2026-03-01T10:08:00Z") + again)
    assert counted(metrics, "lapse_holdout_abandonments_total") == {'group="held_out"': 2}
    assert counted(metrics, "lapse_holdout_returns_total") == {
        'group="held_out",within="yes"': 1,
        'group="held_out",within="no"': 1,
    }


def test_without_a_holdout_nothing_is_counted():
    metrics = run(TRIGGERS, story(HELD, "2026-03-01T10:08:00Z"))
    assert counted(metrics, "lapse_holdout_abandonments_total") == {}
    assert counted(metrics, "lapse_holdout_returns_total") == {}


ROW = SessionRow("inactive", GONE, 1, None, "web", 1, None, 2, abandoned=(1, "web"), ticket_abandoned=True)


def test_a_row_without_a_group_has_the_bytes_that_it_had_before_there_were_groups():
    codec = MsgpackRows()
    data = codec.encode_session(ROW)
    assert data == msgspec.msgpack.encode(list(msgspec.structs.astuple(ROW))[:15])
    assert codec.decode_session(data) == ROW


@pytest.mark.parametrize("group", ["acted_on", "held_out"])
def test_a_row_keeps_the_group_over_a_restart(group):
    codec = MsgpackRows()
    row = msgspec.structs.replace(ROW, holdout_group=group)
    assert codec.decode_session(codec.encode_session(row)) == row
