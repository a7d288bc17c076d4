"""Limits that the traffic of a capture would not have reached: `lapse backtest --suggest-limit` (SPEC section 10).

The guard counts, in each partition by itself, the firings of a trigger in the time `per` before. The same is done here
over the commands of a backtest. The capture is cut into spans of `per`, and of each span in which the trigger fired the
highest of those counts is kept. Each partition is given twice the count that 99 % of these spans stayed within.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from streams.core.batch import Batch
from streams.core.guard import allowed
from streams.core.model import Command, Evaluation, Micros, RoundOutcome
from streams.core.triggers import HIGHEST_COUNT, Limit

HEADROOM = 2
"""The suggestion is this many times the count that `QUANTILE` of the spans stayed within."""

QUANTILE = 0.99

FEW = 30
"""With fewer spans than this, the quantile is only the highest one."""


class Firings:
    """Collects when triggers fired in a backtest, by partition.

    A firing is one that a limit counts: commanded or held. With `dry_run` it is one that would have been.
    """

    def __init__(self, per: Micros) -> None:
        """Collect for limits over `per`."""
        self.per = per
        self.by_trigger: dict[str, list[array[int]]] = {}
        """By trigger id: the firings of each partition in which it fired."""
        self._partition: dict[str, array[int]] = {}

    def empty(self) -> Firings:
        """Return an empty collector for another partition, to be passed to `extend` later."""
        return Firings(self.per)

    def add(self, batch: Batch) -> None:
        """Add the firings of one batch of a partition."""
        for made in (*batch.commands, *batch.held):
            if isinstance(made, Command):
                self._add((trigger for trigger, _ in made.triggers), made.issued_at)
        for record in batch.records:
            if isinstance(record, Evaluation) and record.outcome is RoundOutcome.DRY_RUN:
                self._add(record.triggers, record.occurred_at + record.wait)

    def _add(self, triggers: Iterable[str], at: Micros) -> None:
        for trigger in triggers:
            found = self._partition.get(trigger)
            if found is None:
                found = self._partition[trigger] = array("q")
                self.by_trigger.setdefault(trigger, []).append(found)
            found.append(at)

    def extend(self, other: Firings) -> None:
        """Append the firings of another partition."""
        for trigger, partitions in other.by_trigger.items():
            self.by_trigger.setdefault(trigger, []).extend(partitions)


class LimitOfTrigger(msgspec.Struct, frozen=True):
    """What is suggested for one trigger, and why."""

    firings: int
    spans: int
    """Spans in which it fired, of all partitions."""
    median: int
    """The count that half of the spans stayed within."""
    most: int
    """The count that `QUANTILE` of them stayed within."""
    highest: int
    suggested: int | None
    """The `count`; None when it would be above the highest that a limit can have, or when the trigger never fired."""
    would_hold: int
    """Firings of the capture that the suggested limit would have held."""

    @property
    def few(self) -> bool:
        """Whether there are too few spans for a quantile to say more than the highest count."""
        return self.spans < FEW


class LimitAdvice(msgspec.Struct, frozen=True):
    """The suggested limits of all triggers."""

    per: Micros
    partitions: int
    triggers: dict[str, LimitOfTrigger]

    @property
    def head(self) -> int | None:
        """The `count` for the head of the file, where it holds for each trigger by itself: the highest of them."""
        counts = [one.suggested for one in self.triggers.values() if one.firings]
        if not counts or None in counts:
            return None
        return max(count for count in counts if count is not None)


def suggest_limit(firings: Firings, trigger_ids: Sequence[str], partitions: int) -> LimitAdvice:
    """Suggest a limit for each trigger of a capture with so many partitions."""
    return LimitAdvice(
        firings.per,
        partitions,
        {id: _limit_of(firings.by_trigger.get(id, []), firings.per, partitions) for id in trigger_ids},
    )


def _limit_of(fired: Sequence[Sequence[Micros]], per: Micros, partitions: int) -> LimitOfTrigger:
    highest_of: list[int] = []
    counts: list[int] = []
    for instants in map(sorted, fired):
        spans: dict[int, int] = {}
        for place, at in enumerate(instants):
            count = place + 1 - bisect_right(instants, at - per, 0, place)
            counts.append(count)
            spans[at // per] = max(spans.get(at // per, 0), count)
        highest_of.extend(spans.values())
    if not highest_of:
        return LimitOfTrigger(0, 0, 0, 0, 0, None, 0)
    highest_of.sort()
    most = _quantile(highest_of, QUANTILE)
    suggested = HEADROOM * most * partitions
    passed = allowed(Limit(suggested, per), partitions)
    return LimitOfTrigger(
        firings=len(counts),
        spans=len(highest_of),
        median=_quantile(highest_of, 0.5),
        most=most,
        highest=highest_of[-1],
        suggested=suggested if suggested <= HIGHEST_COUNT else None,
        would_hold=sum(count > passed for count in counts) if suggested <= HIGHEST_COUNT else 0,
    )


def _quantile(ordered: Sequence[int], share: float) -> int:
    """Return the lowest value that so large a share of the values stays within.

    >>> _quantile([1, 2, 3, 4], 0.5), _quantile([1, 2, 3, 4], 0.99), _quantile([7], 0.5)
    (2, 4, 7)
    """
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]
