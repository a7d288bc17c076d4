"""Table rows in a form for people and tools: members by name, times as RFC 3339, waits in milliseconds."""

from __future__ import annotations

from typing import Any

from streams.core.model import (
    GROUP_ACTED_ON,
    GROUP_HELD_OUT,
    MILLISECOND,
    Micros,
    OrderKey,
    SessionRow,
    TicketRow,
)
from streams.core.triggers import PPM, Holdout
from streams.wire import instants


def ticket_state(row: TicketRow) -> dict[str, Any]:
    """Return `{"fields", "order", "touched"}` of a ticket row; `fields` is null after the ticket was deleted."""
    return {
        "fields": None if row.fields is None else dict(row.fields),
        "order": _order(row.order),
        "touched": instants.text(row.touched),
    }


def session_state(row: SessionRow) -> dict[str, Any]:
    """Return a session row; `state` is null after a tombstone, `lapse` is null while no round is pending.

    `held_commands` are ids of commands that a limit holds; `holdout_group` is that of the latest abandonment.
    """
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
        "held_commands": list(row.held),
        "holdout_group": row.holdout_group,
    }


def holdout_state(holdout: Holdout, ticket_id: str, revision: int | None) -> dict[str, Any]:
    """Return `{"group", "share", "salt", "revision"}`: the group of a ticket by these rules; a file has no revision."""
    return {
        "group": GROUP_HELD_OUT if holdout.holds_out(ticket_id) else GROUP_ACTED_ON,
        "share": f"{holdout.share_ppm / (PPM / 100):.4f}".rstrip("0").rstrip(".") + "%",
        "salt": holdout.salt,
        "revision": revision,
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
