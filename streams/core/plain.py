"""The plain path, which most records take: a ticket update that only replaces its row.

A `PlainTicket` carries members that the wire package has validated but not processed. When the row has no member that
is missing from the update, the update replaces the row as a whole: the order key decides whether it is new, and nothing
else is decoded, merged or normalised. All other updates take the full path, as the `TicketUpdate` that `whole` returns.
Both paths leave rows that decode to the same values and write the same outputs; `tests/wire/test_plain.py` checks this.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from streams.core import ordering
from streams.core.model import Micros, OrderKey, TicketUpdate, Value
from streams.core.names import Result
from streams.core.tables import Tables


class Shape(Protocol):
    """Describes the members of plain updates of one kind."""

    @property
    def fields(self) -> frozenset[str]:
        """The fields that such an update sets or clears, by their names in rows."""

    def changes(self, members: Any) -> dict[str, Value]:
        """Return members as `TicketUpdate.changes`."""


class PlainTicket(msgspec.Struct, frozen=True, gc=False):
    """A ticket update that sets or clears the fields of `shape`; it does not close the ticket or name a command."""

    ticket_id: str
    event_id: str
    occurred_at: Micros
    timestamp: Micros
    shape: Shape
    members: Any
    """The members, normalised, in the form in which a row stores them."""
    sequence: int | None
    size: int

    def whole(self) -> TicketUpdate:
        """Return the same update for the full path."""
        return TicketUpdate(
            self.ticket_id,
            self.event_id,
            self.occurred_at,
            self.timestamp,
            self.shape.changes(self.members),
            self.sequence,
            size=self.size,
        )


class PlainRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A ticket row with its members as received: custom fields in a separate object, None for no value."""

    members: Any
    order: OrderKey
    touched: Micros
    nested: bool = True
    """Distinguishes such a row from a `TicketRow` when it is decoded."""


def replace_row(tables: Tables, update: PlainTicket, clock: Micros) -> Result | None:
    """Replace the row by an update; None when the update has to take the full path."""
    order = tables.order_within(update.ticket_id, update.shape.fields)
    if order is None:
        return None
    verdict = ordering.judge(order, update)
    if verdict is Result.APPLIED:
        row = PlainRow(update.members, ordering.advance(order, update), clock)
        tables.put_plain(update.ticket_id, row, update.shape.fields)
    return verdict
