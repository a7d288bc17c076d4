"""Which triggers write a field in the rounds of a wait. Within a round, nothing else changes a ticket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from streams.core.normal import SESSION_FIELDS
from streams.core.triggers import Condition, Cycle, Operator, Trigger
from streams.rules.lints.asks import Does, always_holds
from streams.rules.lints.demands import CHANGED, Text, demand_now, text_of, values_of

_Place: TypeAlias = tuple[int, str]
"""A wait and a field."""


class Writers:
    """The first triggers that write each field, and each value of a field: active triggers before inactive ones."""

    def __init__(self, in_order: Sequence[Trigger], cycle: Cycle) -> None:
        """Index all triggers, given in the order in which rounds ask them."""
        self._rank = {trigger.id: rank for rank, trigger in enumerate(in_order)}
        self._only_earlier = cycle == "single_pass"
        self._of_field: dict[_Place, list[Trigger]] = {}
        self._of_value: dict[tuple[_Place, Text], list[Trigger]] = {}
        for trigger in sorted(in_order, key=lambda trigger: not trigger.active):
            for field in (does := Does(trigger.actions)).writes:
                place = trigger.wait, field
                _keep(self._of_field.setdefault(place, []), trigger)
                if field in does.sets and not isinstance(value := does.sets[field], list):
                    _keep(self._of_value.setdefault((place, text_of(value)), []), trigger)

    def needed_by(self, condition: Condition, trigger: Trigger) -> list[Trigger] | None:
        """Return the triggers that can make a condition hold which a ticket alone can't satisfy; None when it can.

        An empty list means that the condition never holds.
        """
        if always_holds(condition) or condition.field in SESSION_FIELDS:
            return None
        place = trigger.wait, condition.field
        if condition.operator is Operator.VALUE:
            return self._others(
                trigger, [self._of_value.get((place, value), []) for value in sorted(values_of(condition), key=str)]
            )
        if condition.operator in CHANGED:
            return self._others(trigger, [self._of_field.get(place, [])])
        if condition.field == "status" and demand_now(condition).allowed == frozenset[Text]({"closed"}):
            return self._others(trigger, [self._of_value.get((place, "closed"), [])])
        return None

    def may_close(self, trigger: Trigger) -> bool:
        """Whether a ticket may be closed when `trigger` is asked."""
        return bool(self._others(trigger, [self._of_value.get(((trigger.wait, "status"), "closed"), [])]))

    def _others(self, trigger: Trigger, found: Sequence[list[Trigger]]) -> list[Trigger]:
        return [
            writer
            for writers in found
            for writer in writers
            if writer.id != trigger.id and not (self._only_earlier and self._rank[writer.id] > self._rank[trigger.id])
        ]


def _keep(writers: list[Trigger], trigger: Trigger) -> None:
    """Keep the first two, so that at least one of them is not the trigger that asks."""
    if len(writers) < 2:
        writers.append(trigger)
