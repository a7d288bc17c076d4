"""Whether an event is new to its row: SPEC section 2, *Order*."""

from __future__ import annotations

from typing import Protocol

import msgspec

from streams.core.model import Micros, OrderKey
from streams.core.names import Result

SEEN_IDS = 64
"""Event ids kept of the row's latest instant: Zendesk's `updated_at` has whole seconds, equal instants are normal."""


class Event(Protocol):
    """What orders an event."""

    @property
    def event_id(self) -> str:
        """Names the event."""

    @property
    def occurred_at(self) -> Micros:
        """When it happened."""

    @property
    def sequence(self) -> int | None:
        """Grows per ticket and topic, where the producer gives it."""


def judge(order: OrderKey | None, event: Event) -> Result:
    """Say what becomes of `event` on a row with this order key: applied, stale or duplicate."""
    if order is None:
        return Result.APPLIED
    if order.deleted_at is not None and event.occurred_at < order.deleted_at:
        return Result.STALE  # a late update does not bring a deleted ticket back, whatever its sequence
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
        # The row is at a new instant; only the sequence outlives the old one.
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
