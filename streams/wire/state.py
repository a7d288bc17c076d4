"""Table rows in a form for people and tools: members by name, times as RFC 3339, waits in milliseconds."""

from __future__ import annotations

from typing import Any

from streams.core.model import MILLISECOND, Micros, OrderKey, SessionRow, TicketRow
from streams.wire import instants


def ticket_state(row: TicketRow) -> dict[str, Any]:
    """Return `{"fields", "order", "touched"}` of a ticket row; `fields` is null after the ticket was deleted."""
    return {
        "fields": None if row.fields is None else dict(row.fields),
        "order": _order(row.order),
        "touched": instants.text(row.touched),
    }


def session_state(row: SessionRow) -> dict[str, Any]:
    """Return a session row; `state` is null after a tombstone, `lapse` is null while no round is pending."""
    lapse = row.lapse
    return {
        "state": row.state,
        "reason": row.reason,
        "since": instants.text(row.since),
        "session_id": row.session_id,
        "channel": row.channel,
        "episode": row.episode,
        "order": _order(row.order),
        "touched": instants.text(row.touched),
        "lapse": None
        if lapse is None
        else {
            "event_id": lapse.event_id,
            "occurred_at": instants.text(lapse.occurred_at),
            "episode": lapse.episode,
            "from": lapse.before_state,
            "reason": lapse.reason,
        },
        "pending": [
            {
                "wait_ms": entry.wait // MILLISECOND,
                "due": instants.text(entry.due),
                "parked_until": _text(entry.parked_until),
            }
            for entry in row.pending
        ],
        "opened_at": _text(row.opened_at),
        "abandoned_at": None if row.abandoned is None else instants.text(row.abandoned[0]),
        "outstanding": [
            {"command_id": command_id, "issued_at": instants.text(issued_at)}
            for command_id, issued_at in row.outstanding
        ],
    }


def _order(order: OrderKey | None) -> dict[str, Any] | None:
    if order is None:
        return None
    return {
        "occurred_at": instants.text(order.occurred_at),
        "sequence": order.sequence,
        "event_ids": list(order.seen),
    }


def _text(instant: Micros | None) -> str | None:
    return None if instant is None else instants.text(instant)
