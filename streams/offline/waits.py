"""The benefit and cost of a `wait`, computed from the times at which customers returned in a capture.

A trigger with wait *w* does not act on a customer who returns before *w* is over; on all others it acts *w* later.
(A round that is due at an instant runs before a record with that timestamp.) The times to return are therefore enough
to judge each wait, whatever the triggers are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import msgspec

from streams.core.model import SECOND, Micros
from streams.offline.abandonments import Abandonments

WAITS: tuple[Micros, ...] = tuple(
    seconds * SECOND for seconds in (15, 30, 45, 60, 90, 120, 180, 240, 300, 600, 900, 1200, 1800)
)

ENOUGH = 0.9
"""The suggested wait would have avoided at least this share of the false abandonments."""

FEW = 30
"""With fewer false abandonments than this, shares are not meaningful."""


class Wait(msgspec.Struct, frozen=True):
    """The effect of one wait."""

    wait: Micros
    avoided: int
    """False abandonments that would not have been acted on."""
    share: float | None
    """Share of all false abandonments; None when there were none."""
    returned: int
    """Customers who returned before the wait was over, whether or not they were false abandonments."""
    acted_on: int
    """Abandonments that would still have been acted on, each of them `wait` later."""

    @property
    def delay(self) -> Micros:
        """The total delay over all abandoned conversations."""
        return self.wait * self.acted_on


class Suggestion(msgspec.Struct, frozen=True):
    """The waits and the shortest one that is enough."""

    abandonments: int
    returned: int
    false_abandonments: int
    false_window: Micros
    unsettled: int
    """Abandonments so close to the end of the capture that a return may be missing from it."""
    waits: tuple[Wait, ...]
    enough: Wait | None
    """The shortest wait that would have avoided `ENOUGH` of the false abandonments; None if there is none."""

    @property
    def few(self) -> bool:
        """Whether there are too few false abandonments for a reliable suggestion."""
        return self.false_abandonments < FEW


def suggest_wait(abandonments: Abandonments, waits: tuple[Micros, ...] = WAITS) -> Suggestion:
    """Evaluate each wait against the times to return in a capture."""
    returns = abandonments.returns()
    false = bisect_right(returns, abandonments.false_window)
    count = len(abandonments)
    judged = []
    for wait in waits:
        back = bisect_left(returns, wait)
        avoided = min(back, false)
        judged.append(Wait(wait, avoided, avoided / false if false else None, back, count - back))
    return Suggestion(
        abandonments=count,
        returned=len(returns),
        false_abandonments=false,
        false_window=abandonments.false_window,
        unsettled=abandonments.unsettled(max(waits)),
        waits=tuple(judged),
        enough=next((one for one in judged if one.share is not None and one.share >= ENOUGH), None),
    )
