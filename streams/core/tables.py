"""The rows of one partition: settled rows, and over them the rows of batches that are still under way.

All rows are kept encoded, and a row is encoded as soon as it has changed. Keeping rows decoded until the end of a batch
would save encoding the few that change again, but cost more: objects of thousands of rows do not fit the processor's
caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from streams.core.model import OrderKey, Outcome, SessionRow, TicketRow
from streams.core.names import Table

ROW_LIMIT = 256 * 1024
"""Bytes an encoded row may have (SPEC section 2); an event that would make it larger is a dead letter."""

SMALL_RECORD = 16 * 1024
LARGE_ROW = ROW_LIMIT - 4 * SMALL_RECORD
"""A row grows by at most four times the bytes of a record (custom fields get their prefix), so a small record cannot
take a row past its limit unless the row is large already."""

Rows: TypeAlias = dict[str, bytes | None]
"""Changed rows by ticket id, encoded; None deletes."""


class RowCodec(Protocol):
    """Rows to bytes and back. Both directions are exact: what is decoded equals what was encoded."""

    def encode_ticket(self, row: TicketRow) -> bytes:
        """Encode a ticket row."""

    def decode_ticket(self, data: bytes) -> TicketRow:
        """Decode a ticket row."""

    def ticket_order(self, data: bytes) -> OrderKey | None:
        """Decode no more of a ticket row than its order key."""

    def encode_plain(self, row: Any) -> bytes:
        """Encode a `PlainRow` as a ticket row."""

    def encode_session(self, row: SessionRow) -> bytes:
        """Encode a session row."""

    def decode_session(self, data: bytes) -> SessionRow:
        """Decode a session row."""


class Tables:
    """The rows of one partition as the engine sees them.

    A lookup goes through three layers: the batch that is being filled, the batch that is being carried out, and the
    settled rows. `hand_over` moves the first to the second, `settle` the second to the third.
    """

    def __init__(self, codec: RowCodec) -> None:
        """Begin with empty tables."""
        self._codec = codec
        self.tickets: dict[str, bytes] = {}
        self.sessions: dict[str, bytes] = {}
        self._sent_tickets: Rows = {}
        self._sent_sessions: Rows = {}
        self._changed_tickets: Rows = {}
        self._changed_sessions: Rows = {}
        self.changed_bytes = 0
        """Bytes of rows changed since the last `hand_over`."""
        self.large: set[str] = set()
        """Tickets that have, or once had, a row above `LARGE_ROW`."""
        self._fields: dict[str, frozenset[str]] = {}
        """Of ticket rows of which it is known: fields outside which a row has none."""

    # --- reading -----------------------------------------------------------------------------------------------------

    def ticket(self, ticket_id: str) -> TicketRow | None:
        """Return the ticket's row, None when there is none."""
        data = self._changed_tickets.get(ticket_id)
        if data is None:
            if ticket_id in self._changed_tickets:
                return None
            data = self._sent_tickets.get(ticket_id)
            if data is None and (ticket_id in self._sent_tickets or (data := self.tickets.get(ticket_id)) is None):
                return None
        return self._codec.decode_ticket(data)

    def session(self, ticket_id: str) -> SessionRow | None:
        """Return the session's row, None when there is none."""
        data = self._changed_sessions.get(ticket_id)
        if data is None:
            if ticket_id in self._changed_sessions:
                return None
            data = self._sent_sessions.get(ticket_id)
            if data is None and (ticket_id in self._sent_sessions or (data := self.sessions.get(ticket_id)) is None):
                return None
        return self._codec.decode_session(data)

    def order_within(self, ticket_id: str, fields: frozenset[str]) -> OrderKey | None:
        """Return the order key of a ticket row that is known to have no field outside `fields`, else None."""
        known = self._fields.get(ticket_id)
        if known is not fields and (known is None or not known <= fields):
            return None
        data = self._changed_tickets.get(ticket_id)
        if data is None and (data := self._sent_tickets.get(ticket_id)) is None:
            data = self.tickets[ticket_id]
        return self._codec.ticket_order(data)

    def settled_ticket(self, ticket_id: str) -> TicketRow | None:
        """Return the ticket's row as it is committed."""
        data = self.tickets.get(ticket_id)
        return None if data is None else self._codec.decode_ticket(data)

    def settled_session(self, ticket_id: str) -> SessionRow | None:
        """Return the session's row as it is committed."""
        data = self.sessions.get(ticket_id)
        return None if data is None else self._codec.decode_session(data)

    # --- changing ----------------------------------------------------------------------------------------------------

    def put(self, ticket_id: str, outcome: Outcome) -> None:
        """Take the new rows of an outcome into the batch that is being filled."""
        row = outcome.ticket
        if row is not None:
            self._changed_tickets[ticket_id] = data = self._codec.encode_ticket(row)
            self.changed_bytes += len(data)
            if len(data) > LARGE_ROW:
                self.large.add(ticket_id)
            known = self._fields.get(ticket_id)
            if known is not None and (row.fields is None or not row.fields.keys() <= known):
                del self._fields[ticket_id]
        if outcome.session is not None:
            self._changed_sessions[ticket_id] = data = self._codec.encode_session(outcome.session)
            self.changed_bytes += len(data)
            if len(data) > LARGE_ROW:
                self.large.add(ticket_id)

    def put_plain(self, ticket_id: str, row: Any, fields: frozenset[str]) -> None:
        """Take a `PlainRow`, which has no field outside `fields`, into the batch that is being filled."""
        self._changed_tickets[ticket_id] = data = self._codec.encode_plain(row)
        self.changed_bytes += len(data)
        self._fields[ticket_id] = fields

    def note_fields(self, ticket_id: str, row: TicketRow, fields: frozenset[str]) -> None:
        """Remember that a row that was just put has no field outside `fields`, if that is so."""
        if row.fields is not None and row.fields.keys() <= fields:
            self._fields[ticket_id] = fields

    def delete(self, table: Table, ticket_id: str) -> None:
        """Delete a row in the batch that is being filled."""
        if table is Table.TICKETS:
            self._changed_tickets[ticket_id] = None
            self._fields.pop(ticket_id, None)
        else:
            self._changed_sessions[ticket_id] = None

    def would_pass_limit(self, outcome: Outcome) -> bool:
        """Whether a row of this outcome is over `ROW_LIMIT`."""
        ticket, session = outcome.ticket, outcome.session
        return (ticket is not None and len(self._codec.encode_ticket(ticket)) > ROW_LIMIT) or (
            session is not None and len(self._codec.encode_session(session)) > ROW_LIMIT
        )

    def restore(self, table: Table, ticket_id: str, row: bytes | None) -> None:
        """Take one changelog record into the settled rows."""
        rows = self.tickets if table is Table.TICKETS else self.sessions
        if row is None:
            rows.pop(ticket_id, None)
        else:
            rows[ticket_id] = row
            if len(row) > LARGE_ROW:
                self.large.add(ticket_id)

    # --- batches -----------------------------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether a row has changed since the last `hand_over`."""
        return bool(self._changed_tickets or self._changed_sessions)

    def hand_over(self) -> tuple[Rows, Rows]:
        """Return the changed ticket and session rows, which are now being carried out; what follows is a new batch."""
        assert not self._sent_tickets and not self._sent_sessions, "one batch at a time is carried out"  # noqa: S101
        self._sent_tickets, self._sent_sessions = self._changed_tickets, self._changed_sessions
        self._changed_tickets, self._changed_sessions = {}, {}
        self.changed_bytes = 0
        return self._sent_tickets, self._sent_sessions

    def settle(self) -> None:
        """Make the rows of the batch that was carried out settled ones."""
        _overlay(self.tickets, self._sent_tickets)
        _overlay(self.sessions, self._sent_sessions)
        self._sent_tickets, self._sent_sessions = {}, {}


def _overlay(table: dict[str, bytes], rows: Mapping[str, bytes | None]) -> None:
    if None in rows.values():
        for key, row in rows.items():
            if row is None:
                table.pop(key, None)
            else:
                table[key] = row
    else:
        table.update(rows)  # type: ignore[arg-type]
