"""What `lapse ingest --silence` writes, and the rows that it keeps."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from streams.core.batch import Batch
from streams.core.inputs import Decode, RawRecord, Update
from streams.core.model import Micros, OrderKey, PendingRound, Rejection, SessionRow, SilentState
from streams.core.names import Table, Topic
from streams.core.plain import PlainTicket
from streams.core.silence import SilenceRow
from streams.wire import instants
from streams.wire.rows import MsgpackRows
from streams.wire.writes import Write, row_writes


class _State(msgspec.Struct):
    """A session state as written."""

    event_id: str
    ticket_id: str
    occurred_at: str
    state: str
    reason: str | UnsetType = UNSET
    channel: str | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode


def state_write(state: SilentState) -> Write:
    """Return a session state as a record of `session-states`.

    >>> state_write(SilentState("7", "lapse-silence/7/0/inactive", 900_000_000, "inactive", "silent", "mobile")).value
    b'{"event_id":"lapse-silence/7/0/inactive","ticket_id":"7","occurred_at":"1970-01-01T00:15:00Z",\
"state":"inactive","reason":"silent","channel":"mobile"}'
    """
    record = _State(
        event_id=state.event_id,
        ticket_id=state.ticket_id,
        occurred_at=instants.text(state.occurred_at),
        state=state.state,
        reason=UNSET if state.reason is None else state.reason,
        channel=UNSET if state.channel is None else state.channel,
    )
    return Write(state.ticket_id.encode(), _encode(record))


def silence_writes(batch: Batch, **_: Any) -> dict[Topic | Table, list[Write]]:
    """Return all writes of a batch. Records that could not be used are left to the worker, which keeps them."""
    every: dict[Topic | Table, list[Write]] = {
        Topic.SESSIONS: [state_write(state) for state in batch.states],
        Table.SESSIONS: row_writes(batch.session_rows),
    }
    return {name: records for name, records in every.items() if records}


class _StoredRow(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A `SilenceRow` without what only the worker's session rows use. The rules of `streams.wire.rows` hold."""

    state: str | None
    reason: str | None
    since: Micros
    channel: str | None
    order: OrderKey | None
    touched: Micros
    pending: tuple[PendingRound, ...]
    mark: Micros | None
    ours: bool
    ticket_channel: str | None
    over: bool
    deleted_at: Micros | None
    unread: int


_MEMBERS = _StoredRow.__struct_fields__


class SilenceRows(MsgpackRows):
    """The codec of the rows: positional MessagePack, as for the worker's tables."""

    def __init__(self) -> None:
        """Create the encoders and decoders once."""
        super().__init__()
        self._encode_row = msgspec.msgpack.Encoder().encode
        self._decode_row = msgspec.msgpack.Decoder(_StoredRow).decode
        self.decode_session = self._decoded

    def encode_session(self, row: SessionRow) -> bytes:
        """Encode a row."""
        return self._encode_row([getattr(row, name) for name in _MEMBERS])

    def _decoded(self, data: Any) -> SilenceRow:
        stored = self._decode_row(data)
        return SilenceRow(session_id=None, episode=0, **{name: getattr(stored, name) for name in _MEMBERS})


def decode_whole(decode: Decode) -> Decode:
    """Return a decoder that gives every ticket update as a `TicketUpdate`, never in the worker's short form."""

    def whole(topic: Topic, partition: int, record: RawRecord, now: Micros) -> Update | Rejection:
        decoded = decode(topic, partition, record, now)
        return decoded.whole() if isinstance(decoded, PlainTicket) else decoded

    return whole
