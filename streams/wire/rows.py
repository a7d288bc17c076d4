"""Table rows as bytes: positional MessagePack, the value format of the two changelogs.

Small and quick rather than readable (`lapse state` reads it for people). Fields may only ever be added at the end of a
row, with a default: then rows of an older version decode, and an older version ignores what it does not know.
"""

from __future__ import annotations

import msgspec

from streams.core.model import SessionRow, TicketRow


class _State(msgspec.Struct, array_like=True, gc=False):
    """The first member of a session row; the others are skipped, which is ten times as quick as decoding them."""

    state: str | None


_decode_state = msgspec.msgpack.Decoder(_State).decode


def session_state(row: bytes) -> str | None:
    """Return the state that an encoded session row is in.

    >>> session_state(msgspec.msgpack.encode(["inactive", "reason", 0]))
    'inactive'
    """
    return _decode_state(row).state


class MsgpackRows:
    """The codec that `streams.core.partition.Partition` is given."""

    def __init__(self) -> None:
        """Build the coders once; they are not shared between threads."""
        encoder = msgspec.msgpack.Encoder()
        self.encode_ticket = encoder.encode
        self.encode_session = encoder.encode
        self.decode_ticket = msgspec.msgpack.Decoder(TicketRow).decode
        self.decode_session = msgspec.msgpack.Decoder(SessionRow).decode
