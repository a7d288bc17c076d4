"""The plain path: a ticket update that only replaces its row, which is what most records are.

A `PlainTicket` carries members that the wire has checked but not looked at. When the row has no member that the update
lacks, the update replaces the row as a whole: the order key decides whether it is new, and nothing else is decoded,
merged or normalised further. Whatever is not that simple goes the long way, as the `TicketUpdate` that `whole` returns.
Both ways leave rows that decode alike and write the same outputs; `tests/wire/test_plain.py` holds them to that.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from streams.core import ordering
from streams.core.model import Micros, OrderKey, TicketUpdate, Value
from streams.core.names import Result
from streams.core.tables import Tables


class Shape(Protocol):
    """What is known of the members of plain updates of one kind."""

    @property
    def fields(self) -> frozenset[str]:
        """The fields that such an update sets or clears, by the names that rows have for them."""

    def changes(self, members: Any) -> dict[str, Value]:
        """Return members as `TicketUpdate.changes`."""


class PlainTicket(msgspec.Struct, frozen=True, gc=False):
    """A ticket update that sets or clears the fields of `shape`, neither closes the ticket nor names a command."""

    ticket_id: str
    event_id: str
    occurred_at: Micros
    timestamp: Micros
    shape: Shape
    members: Any
    """Normalised, in the form in which a row keeps them."""
    sequence: int | None
    size: int

    def whole(self) -> TicketUpdate:
        """Return the same update for the long way."""
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
    """A ticket row with its members as they came: custom fields in an object of their own, None for no value."""

    members: Any
    order: OrderKey
    touched: Micros
    nested: bool = True
    """Tells such a row from a `TicketRow` when it is read back."""


def replace_row(tables: Tables, update: PlainTicket, clock: Micros) -> Result | None:
    """Let an update replace its row; None when it has to go the long way."""
    order = tables.order_within(update.ticket_id, update.shape.fields)
    if order is None:
        return None
    verdict = ordering.judge(order, update)
    if verdict is Result.APPLIED:
        row = PlainRow(update.members, ordering.advance(order, update), clock)
        tables.put_plain(update.ticket_id, row, update.shape.fields)
    return verdict
