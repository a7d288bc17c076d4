"""Whether an event is new to its row: SPEC section 2, *Order*."""

from __future__ import annotations

from typing import Protocol

import msgspec

from streams.core.model import Micros, OrderKey
from streams.core.names import Result

SEEN_IDS = 64
"""Maximum number of event ids kept for the row's latest instant: Zendesk's `updated_at` has whole seconds, so equal
instants are normal."""


class Event(Protocol):
    """The members that determine an event's order."""

    @property
    def event_id(self) -> str:
        """The event's id."""

    @property
    def occurred_at(self) -> Micros:
        """The instant at which it happened."""

    @property
    def sequence(self) -> int | None:
        """A number that increases per ticket and topic, if the producer provides it."""


def judge(order: OrderKey | None, event: Event) -> Result:
    """Return the result of `event` for a row with this order key: applied, stale or duplicate."""
    if order is None:
        return Result.APPLIED
    if order.deleted_at is not None and event.occurred_at < order.deleted_at:
        return Result.STALE  # a late update does not restore a deleted ticket, whatever its sequence
    if event.sequence is not None and order.sequence is not None:
        if event.sequence > order.sequence:
            return Result.APPLIED
        return Result.DUPLICATE if event.sequence == order.sequence else Result.STALE
    if event.occurred_at < order.occurred_at:
        return Result.STALE
    if event.occurred_at == order.occurred_at and event.event_id in order.seen:
        return Result.DUPLICATE
    return Result.APPLIED


def advance(order: OrderKey | None, event: Event) -> OrderKey:
    """Return the order key of the row once `event` is applied to it."""
    if order is None or event.occurred_at > order.occurred_at:
        # The row moves to a new instant; only the sequence is kept from the old one.
        sequence = event.sequence if event.sequence is not None or order is None else order.sequence
        return OrderKey(event.occurred_at, (event.event_id,), sequence, None if order is None else order.deleted_at)
    seen = order.seen
    if event.occurred_at == order.occurred_at:
        seen = (*seen, event.event_id)[-SEEN_IDS:]
    sequence = order.sequence if event.sequence is None else event.sequence
    return OrderKey(order.occurred_at, seen, sequence, order.deleted_at)


def delete(order: OrderKey | None, at: Micros) -> OrderKey:
    """Return the order key of the row once a tombstone with the record timestamp `at` is applied to it."""
    if order is None:
        return OrderKey(at, deleted_at=at)
    return msgspec.structs.replace(order, deleted_at=at if order.deleted_at is None else max(at, order.deleted_at))
