"""Makes a failing scenario smaller: fewer events, fewer kinds of faults, fewer tickets, as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from tests.simulator.network import Faults
from tests.simulator.scenario import Scenario, tickets_of

_MOST_RUNS = 200


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    """Return the smallest scenario found for which `fails` holds."""
    runs, again = 0, True
    while again:
        again = False
        for smaller in _smaller(scenario):
            runs += 1
            if runs > _MOST_RUNS:
                return scenario
            if fails(smaller):
                scenario, again = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    if scenario.grow_old:
        yield replace(scenario, grow_old=False)
    tickets = sorted(tickets_of(scenario))
    half = len(tickets) // 2
    if half:
        yield replace(scenario, tickets=frozenset(tickets[:half]))
        yield replace(scenario, tickets=frozenset(tickets[half:]))
    for place in range(len(scenario.events)):
        yield replace(scenario, events=scenario.events[:place] + scenario.events[place + 1 :])
    for rate in fields(Faults):
        if getattr(scenario.faults, rate.name):
            yield replace(scenario, faults=replace(scenario.faults, **{rate.name: 0.0}))
    if scenario.workers > 1:
        yield replace(scenario, workers=scenario.workers - 1)
    if scenario.nodes > 1:
        yield replace(scenario, nodes=1)
    if 1 < len(tickets) <= 12:
        for ticket in tickets:
            yield replace(scenario, tickets=frozenset(tickets) - {ticket})
