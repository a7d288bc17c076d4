"""What a `wait` would have spared, and what it would have cost, by when customers came back in a capture.

A trigger with wait *w* does nothing about a customer who is back before *w* is over (a round that is due at an instant
runs before what comes at that instant); about everybody else it acts *w* later. So the times to return tell what each
wait is worth, whatever the triggers are.
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
"""A wait is suggested that would have avoided this share of what can be avoided."""

FEW = 30
"""Below so many false abandonments, shares are chance."""


class Wait(msgspec.Struct, frozen=True):
    """One wait, judged."""

    wait: Micros
    avoided: int
    """False abandonments that would not have been acted on."""
    share: float | None
    """Of all false abandonments; None when there were none."""
    returned: int
    """Customers back before the wait was over, false abandonments or not."""
    acted_on: int
    """Abandonments that would have been acted on all the same, each of them `wait` later."""

    @property
    def delay(self) -> Micros:
        """Time for which abandoned conversations would have waited in all."""
        return self.wait * self.acted_on


class Suggestion(msgspec.Struct, frozen=True):
    """The waits and the one that is enough."""

    abandonments: int
    returned: int
    false_abandonments: int
    false_window: Micros
    unsettled: int
    """Abandonments so close to the end of the capture that a return may be missing."""
    waits: tuple[Wait, ...]
    enough: Wait | None
    """The shortest that would have avoided `ENOUGH` of the false abandonments; None when none would."""

    @property
    def few(self) -> bool:
        """Whether there are too few to go by."""
        return self.false_abandonments < FEW


def suggest_wait(abandonments: Abandonments, waits: tuple[Micros, ...] = WAITS) -> Suggestion:
    """Judge each wait by the times to return of a capture."""
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
