"""The worker as it is put together."""

from __future__ import annotations

from streams.assembly import make_worker
from streams.rules.triggers import parse_triggers
from streams.settings.settings import load_settings

TRIGGERS = """
triggers:
  - id: works
    title: Works
    conditions: {all: [{field: status, operator: is, value: open}]}
    actions: [{field: status, value: solved}]
  - id: switched-off
    title: Switched off
    active: false
    conditions: {all: [{field: status, operator: is, value: open}]}
    actions: [{field: status, value: solved}]
"""


async def test_a_trigger_that_is_switched_off_has_no_series_that_could_be_silent():
    parsed = parse_triggers(TRIGGERS)
    assert parsed.ruleset is not None
    worker = make_worker(load_settings({}, {}, None), parsed.ruleset)
    text = worker._observer.exposition()[0].decode()
    fired = [line for line in text.splitlines() if line.startswith("lapse_triggers_fired_total{")]
    assert fired == ['lapse_triggers_fired_total{trigger="works"} 0.0']
