"""The abandonment figures and how a session event changes them (SPEC section 8).

The session row keeps what they need: `opened_at`, `abandoned` (the latest abandonment without a return), its
`holdout_group`, and whether the session and the ticket were ever abandoned. These members do not affect any decision.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from streams.core import model as m
from streams.core.model import Fact, Kind, Lapse, Micros, SessionRow, SessionUpdate
from streams.core.session import Change


class Figures(NamedTuple):
    """The members of a session row that the figures are computed from."""

    opened_at: Micros | None
    abandoned: tuple[Micros, str | None] | None
    session_abandoned: bool
    ticket_abandoned: bool
    holdout_group: str | None = None


def is_of(abandoned: tuple[Micros, str | None] | None, lapse: Lapse | None) -> bool:
    """Whether a lapse is the latest abandonment of its ticket."""
    return lapse is not None and abandoned == (lapse.occurred_at, lapse.channel)


def count(
    before: SessionRow, done: Change, update: SessionUpdate, *, reasons: Container[str | None], false_window: Micros
) -> tuple[Figures, list[Fact]]:
    """Return the row's figures after an event, and the facts to count.

    A lapse with one of `reasons` is an abandonment; a return within `false_window` makes it a false abandonment.
    """
    at = update.occurred_at
    opened_at = None if done.new_session else before.opened_at
    session_abandoned = before.session_abandoned and not done.new_session
    facts: list[Fact] = []
    if done.kind is not None:
        facts.append(Fact(m.TRANSITION, (done.kind.value, update.reason or m.NONE, done.channel or m.NONE)))
    if done.new_session:
        facts.append(Fact(m.SESSION, (done.channel or m.NONE,)))
    if done.kind is Kind.OPENED or done.kind is Kind.RESUMED:
        if before.abandoned is not None:
            facts.extend(_return_facts(before.abandoned, at, false_window))
            if before.holdout_group is not None:
                within = m.WITHIN_WINDOW if max(0, at - before.abandoned[0]) <= false_window else m.AFTER_WINDOW
                facts.append(Fact(m.HOLDOUT_RETURN, (before.holdout_group, within)))
        return Figures(at, None, session_abandoned, before.ticket_abandoned), facts
    if done.lapsed and done.reason in reasons:
        channel = done.channel or m.NONE
        facts.append(Fact(m.ABANDONMENT, (done.reason or m.NONE, channel)))
        if done.new_session or not before.session_abandoned:
            facts.append(Fact(m.SESSION_ABANDONED, (channel,)))
        if not before.ticket_abandoned:
            facts.append(Fact(m.TICKET_ABANDONED, (channel,)))
        if opened_at is not None:
            facts.append(Fact(m.TIME_TO_ABANDON_SECONDS, amount=max(0, at - opened_at) / m.SECOND))
        return Figures(opened_at, (at, done.channel), True, True), facts
    return Figures(opened_at, before.abandoned, session_abandoned, before.ticket_abandoned, before.holdout_group), facts


def _return_facts(abandoned: tuple[Micros, str | None], at: Micros, window: Micros) -> list[Fact]:
    left_at, channel = abandoned
    away = max(0, at - left_at)
    facts = [Fact(m.TIME_TO_RETURN_SECONDS, amount=away / m.SECOND)]
    if away <= window:
        facts.append(Fact(m.FALSE_ABANDONMENT, (channel or m.NONE,)))
    return facts
