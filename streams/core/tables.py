"""The rows of one partition: settled rows, overlaid by the rows of batches that are not settled yet.

All rows are stored encoded, and a row is encoded as soon as it has changed. Keeping rows decoded until the end of a
batch would avoid encoding twice the few rows that change again, but would be slower overall: the objects of thousands
of rows do not fit into the processor's caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from streams.core.model import OrderKey, Outcome, SessionRow, TicketRow
from streams.core.names import Table

ROW_LIMIT = 256 * 1024
"""Maximum size of an encoded row in bytes (SPEC section 2); an event that would make it larger is a dead letter."""

SMALL_RECORD = 16 * 1024
LARGE_ROW = ROW_LIMIT - 4 * SMALL_RECORD
"""A row grows by at most four times the size of a record (custom fields get their prefix), so a small record cannot
make a row exceed its limit unless the row is already large."""

Rows: TypeAlias = dict[str, bytes | None]
"""Changed rows by ticket id, encoded; None for a deleted row."""

OwnRows: TypeAlias = dict[bytes, bytes | None]
"""Changed rows of the partition by key, encoded; None for a deleted row."""

OWN = b"\xff"
"""The first byte of the key of a row that belongs to the partition and to no ticket: it is in no UTF-8 text."""


class RowCodec(Protocol):
    """Encodes and decodes rows. The round trip is exact: a decoded row equals the row that was encoded."""

    def encode_ticket(self, row: TicketRow) -> bytes:
        """Encode a ticket row."""

    def decode_ticket(self, data: bytes) -> TicketRow:
        """Decode a ticket row."""

    def ticket_order(self, data: bytes) -> OrderKey | None:
        """Decode only the order key of a ticket row."""

    def encode_plain(self, row: Any) -> bytes:
        """Encode a `PlainRow` as a ticket row."""

    def encode_session(self, row: SessionRow) -> bytes:
        """Encode a session row."""

    def decode_session(self, data: bytes) -> SessionRow:
        """Decode a session row."""

    def encode_rules(self, row: Any) -> bytes:
        """Encode an `InUse`."""

    def decode_rules(self, data: bytes) -> Any:
        """Decode an `InUse`."""

    def encode_shadow(self, row: Any) -> bytes:
        """Encode a `ShadowRow`."""

    def decode_shadow(self, data: bytes) -> Any:
        """Decode a `ShadowRow`."""


class Tables:
    """The rows of one partition, as used by the engine.

    A lookup goes through three layers: the batch that is being filled, the batch that has been handed over, and the
    settled rows. `hand_over` moves the first layer to the second, `settle` the second to the third.
    """

    def __init__(self, codec: RowCodec, partitions: int = 1) -> None:
        """Start with empty tables; `partitions` is the number of partitions that the topics have."""
        self.partitions = partitions
        self._codec = codec
        self.tickets: dict[str, bytes] = {}
        self.sessions: dict[str, bytes] = {}
        self._sent_tickets: Rows = {}
        self._sent_sessions: Rows = {}
        self._changed_tickets: Rows = {}
        self._changed_sessions: Rows = {}
        self.own: dict[bytes, bytes] = {}
        self._sent_own: OwnRows = {}
        self._changed_own: OwnRows = {}
        self.changed_bytes = 0
        """Total size in bytes of the rows changed since the last `hand_over`."""
        self.large: set[str] = set()
        """Tickets that have, or have had, a row larger than `LARGE_ROW`."""
        self._fields: dict[str, frozenset[str]] = {}
        """By ticket, where known: a set that contains all fields of its row."""

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
        """Return the ticket's committed row."""
        data = self.tickets.get(ticket_id)
        return None if data is None else self._codec.decode_ticket(data)

    def settled_session(self, ticket_id: str) -> SessionRow | None:
        """Return the session's committed row."""
        data = self.sessions.get(ticket_id)
        return None if data is None else self._codec.decode_session(data)

    def own_row(self, key: bytes) -> bytes | None:
        """Return a row of the partition, encoded; None when there is none."""
        for rows in (self._changed_own, self._sent_own):
            if key in rows:
                return rows[key]
        return self.own.get(key)

    def own_keys(self, prefix: bytes) -> list[bytes]:
        """Return the keys of the partition's rows that begin with `prefix`, in order."""
        known = self.own.keys() | self._sent_own.keys() | self._changed_own.keys()
        return sorted(key for key in known if key.startswith(prefix) and self.own_row(key) is not None)

    # --- changing ----------------------------------------------------------------------------------------------------

    def put(self, ticket_id: str, outcome: Outcome) -> None:
        """Add the new rows of an outcome to the batch that is being filled."""
        row = outcome.ticket
        if row is not None:
            self._changed_tickets[ticket_id] = data = self._codec.encode_ticket(row)
            self.changed_bytes += len(data)
            if len(data) > LARGE_ROW:
                self.large.add(ticket_id)
            known = self._fields.get(ticket_id)
            if known is not None and (row.fields is None or not row.fields.keys() <= known):
                del self._fields[ticket_id]
        for key, own in outcome.own_rows:
            self.put_own(key, own)
        if outcome.session is not None:
            self._changed_sessions[ticket_id] = data = self._codec.encode_session(outcome.session)
            self.changed_bytes += len(data)
            if len(data) > LARGE_ROW:
                self.large.add(ticket_id)

    def put_plain(self, ticket_id: str, row: Any, fields: frozenset[str]) -> None:
        """Add a `PlainRow`, which has no field outside `fields`, to the batch that is being filled."""
        self._changed_tickets[ticket_id] = data = self._codec.encode_plain(row)
        self.changed_bytes += len(data)
        self._fields[ticket_id] = fields

    def note_fields(self, ticket_id: str, row: TicketRow, fields: frozenset[str]) -> None:
        """Record that a row just put has no field outside `fields`, if that is the case."""
        if row.fields is not None and row.fields.keys() <= fields:
            self._fields[ticket_id] = fields

    def delete(self, table: Table, ticket_id: str) -> None:
        """Delete a row in the batch that is being filled."""
        if table is Table.TICKETS:
            self._changed_tickets[ticket_id] = None
            self._fields.pop(ticket_id, None)
        else:
            self._changed_sessions[ticket_id] = None

    def put_own(self, key: bytes, row: bytes | None) -> None:
        """Put a row of the partition into the batch that is being filled; None deletes it. Its key begins with `OWN`.

        It is written to the sessions changelog, in the transaction of the batch.
        """
        self._changed_own[key] = row
        self.changed_bytes += 0 if row is None else len(row)

    def restore_own(self, key: bytes, row: bytes | None) -> None:
        """Load one changelog record into the settled rows of the partition."""
        if row is None:
            self.own.pop(key, None)
        else:
            self.own[key] = row

    def would_pass_limit(self, outcome: Outcome) -> bool:
        """Whether a row of this outcome is over `ROW_LIMIT`."""
        ticket, session = outcome.ticket, outcome.session
        return (ticket is not None and len(self._codec.encode_ticket(ticket)) > ROW_LIMIT) or (
            session is not None and len(self._codec.encode_session(session)) > ROW_LIMIT
        )

    def restore(self, table: Table, ticket_id: str, row: bytes | None) -> None:
        """Load one changelog record into the settled rows."""
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
        return bool(self._changed_tickets or self._changed_sessions or self._changed_own)

    def hand_over(self) -> tuple[Rows, Rows, OwnRows]:
        """Return the changed rows of tickets, sessions and the partition for writing, and start a new batch."""
        assert not self._sent_tickets and not self._sent_sessions, "one batch at a time is carried out"  # noqa: S101
        self._sent_tickets, self._sent_sessions = self._changed_tickets, self._changed_sessions
        self._changed_tickets, self._changed_sessions = {}, {}
        self._sent_own, self._changed_own = self._changed_own, {}
        self.changed_bytes = 0
        return self._sent_tickets, self._sent_sessions, self._sent_own

    def settle(self) -> None:
        """Move the rows of the committed batch to the settled rows."""
        _overlay(self.tickets, self._sent_tickets)
        _overlay(self.sessions, self._sent_sessions)
        for key, row in self._sent_own.items():
            self.restore_own(key, row)
        self._sent_tickets, self._sent_sessions, self._sent_own = {}, {}, {}


def _overlay(table: dict[str, bytes], rows: Mapping[str, bytes | None]) -> None:
    if None in rows.values():
        for key, row in rows.items():
            if row is None:
                table.pop(key, None)
            else:
                table[key] = row
    else:
        table.update(rows)  # type: ignore[arg-type]
