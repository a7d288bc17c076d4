"""Abandonments in a capture and when the customers returned, counted as the metrics count them (SPEC section 8)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from streams.core.batch import Batch
from streams.core.model import Kind, Micros, Transition

_AWAY = -1


class Abandonment(NamedTuple):
    """One abandonment. `away` is the time until the customer was active again; None if the capture has no return."""

    occurred_at: Micros
    away: Micros | None
    reason: str
    channel: str


class Abandonments:
    """Collects abandonments from the transitions of a backtest, in order within each partition."""

    def __init__(self, reasons: frozenset[str], false_window: Micros) -> None:
        """Count lapses with these reasons; a return within the window makes an abandonment a false one."""
        self.false_window = false_window
        self.sessions = array("q")
        """The time of each session's first transition."""
        self.lapses: dict[str, int] = {}
        """All lapses, counted by reason; `none` for a lapse without a reason."""
        self.first: Micros | None = None
        self.last: Micros | None = None
        """The `occurred_at` of the earliest and the latest transition."""
        self._reasons = reasons
        self._at, self._away = array("q"), array("q")
        self._labels: list[tuple[str, str]] = []
        self._left: dict[str, int] = {}

    def empty(self) -> Abandonments:
        """Return an empty collector for another partition, to be passed to `extend` later."""
        return Abandonments(self._reasons, self.false_window)

    def extend(self, other: Abandonments) -> None:
        """Append the abandonments of another partition. No ticket is in both partitions."""
        for name, count in other.lapses.items():
            self.lapses[name] = self.lapses.get(name, 0) + count
        for instant in (other.first, other.last):
            if instant is not None:
                self._span(instant)
        self.sessions.extend(other.sessions)
        self._at.extend(other._at)
        self._away.extend(other._away)
        self._labels.extend(other._labels)

    def add(self, batch: Batch) -> None:
        """Add the transitions of one batch."""
        for record in batch.records:
            if type(record) is Transition:
                self._add(record)

    def _add(self, one: Transition) -> None:
        at = one.occurred_at
        self._span(at)
        if one.before is None:
            self.sessions.append(at)
        if one.kind is Kind.LAPSED:
            reason = one.reason or "none"
            self.lapses[reason] = self.lapses.get(reason, 0) + 1
            if one.reason in self._reasons:
                self._left[one.ticket_id] = len(self._at)
                self._at.append(at)
                self._away.append(_AWAY)
                self._labels.append((reason, one.channel or "none"))
        elif one.kind is Kind.OPENED or one.kind is Kind.RESUMED:
            left = self._left.pop(one.ticket_id, None)
            if left is not None:
                self._away[left] = max(0, at - self._at[left])

    def _span(self, at: Micros) -> None:
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)

    def __len__(self) -> int:
        """Return the number of abandonments."""
        return len(self._at)

    def __iter__(self) -> Iterator[Abandonment]:
        """Yield the abandonments."""
        for at, away, (reason, channel) in zip(self._at, self._away, self._labels, strict=True):
            yield Abandonment(at, None if away == _AWAY else away, reason, channel)

    def is_false(self, one: Abandonment) -> bool:
        """Whether the customer came back within the window."""
        return one.away is not None and one.away <= self.false_window

    def returns(self) -> list[Micros]:
        """Return the times away of the customers who returned, shortest first."""
        return sorted(away for away in self._away if away != _AWAY)

    def unsettled(self, within: Micros) -> int:
        """Count customers who left less than `within` before the end of the capture and have not returned.

        A later return would not be in the capture, so their outcome is unknown.
        """
        last = self.last or 0
        return sum(away == _AWAY and last - at < within for at, away in zip(self._at, self._away, strict=True))
