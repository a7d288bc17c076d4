"""Table rows as bytes: positional MessagePack, the value format of the two changelogs.

The format is small and fast, not readable (`lapse state` prints rows in readable form). The number of elements is the
version of a row. Fields may only be added at the end, with a default, and the meaning of a field never changes: then
rows of an older version can be decoded. A row with more elements than are known is refused, as one of a newer version.
So a field is written only where it has another value than its default: then an older version reads all other rows.

A ticket row has two forms. A `TicketRow` has flat fields and no fourth element. A `PlainRow` has true as its fourth
element, custom fields in a separate object, and nil for no value; its members are written without being processed.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from streams.core.errors import NewerRow
from streams.core.model import Micros, OrderKey, SessionRow, TicketRow
from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.core.revisions import InUse
from streams.core.shadow import ShadowRow


class _State(msgspec.Struct, array_like=True, gc=False):
    """The first member of a session row; the others are skipped, which is ten times as fast as decoding them."""

    state: str | None


_decode_state = msgspec.msgpack.Decoder(_State).decode


def session_state(row: bytes) -> str | None:
    """Return the session state of an encoded session row.

    >>> session_state(msgspec.msgpack.encode(["inactive", "reason", 0]))
    'inactive'
    """
    return _decode_state(row).state


class _TicketHead(msgspec.Struct, array_like=True, gc=False):
    """The order key of a ticket row; its fields are skipped."""

    fields: msgspec.Raw
    order: OrderKey | None


class _StoredTicket(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A ticket row in either form."""

    fields: dict[str, Any] | None
    order: OrderKey | None
    touched: Micros
    nested: bool = False


_CUSTOM = "custom_fields"


class MsgpackRows:
    """The row codec for `streams.core.partition.Partition`."""

    def __init__(self) -> None:
        """Create the encoders and decoders once; they are not shared between threads."""
        encoder = msgspec.msgpack.Encoder()
        self.encode_ticket = encoder.encode
        self._encode = encoder.encode
        self.encode_plain = encoder.encode
        self._decode_ticket = msgspec.msgpack.Decoder(_StoredTicket).decode
        self._decode_head = msgspec.msgpack.Decoder(_TicketHead).decode
        self.decode_session = msgspec.msgpack.Decoder(SessionRow).decode
        self.encode_rules = encoder.encode
        self.decode_rules = msgspec.msgpack.Decoder(InUse).decode
        self.encode_shadow = encoder.encode
        self.decode_shadow = msgspec.msgpack.Decoder(ShadowRow).decode

    def encode_session(self, row: SessionRow) -> bytes:
        """Encode a session row; without held commands, and without a holdout group, as before there were any."""
        data = self._encode(row)
        # An array of 16 or more has a head of three bytes, one of 15 has one; the last elements, the empty array and
        # nil, are one byte each.
        if row.held:
            return data
        return b"\xdc\x00\x10" + data[3:-1] if row.holdout_group is not None else b"\x9f" + data[3:-2]

    def decode_ticket(self, data: bytes) -> TicketRow:
        """Decode a ticket row in either form."""
        row = self._decode_ticket(data)
        fields = row.fields
        if row.nested and fields is not None:
            custom = fields.pop(_CUSTOM, None) or {}
            fields = {name: value for name, value in fields.items() if value is not None}
            try:
                for name, value in custom.items():
                    if value is not None:
                        fields[CUSTOM_FIELD_PREFIX + name] = value
            except (AttributeError, TypeError):
                raise msgspec.ValidationError(f"`{_CUSTOM}` is not an object whose names are text") from None
        return TicketRow(fields, row.order, row.touched)

    def ticket_order(self, data: bytes) -> OrderKey | None:
        """Decode only the order key of a ticket row."""
        return self._decode_head(data).order


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, NewerRow)
"""What reading a row may raise."""

_OF_A_NEWER_VERSION = re.compile(
    r"Expected `array` of (?:at most )?length (?P<known>\d+), got (?P<found>\d+)"
    r"|Object contains unknown field|Invalid enum value"
)


def unreadable(error: Exception, changelogs: str) -> str:
    """Return why a row of `changelogs` can't be read, and what to do, for a person.

    >>> unreadable(NewerRow("unknown kind of row: quota"), "lapse-sessions-changelog").partition(". ")[0]
    'a row of lapse-sessions-changelog was written by a newer version of Lapse (unknown kind of row: quota)'
    """
    if isinstance(error, NewerRow) or _is_of_a_newer_version(str(error)):
        return (
            f"a row of {changelogs} was written by a newer version of Lapse ({error}). Start that version or a later "
            "one. To go back to this one, build the tables anew with another app_id: *A new installation* in "
            "docs/operations.md."
        )
    return (
        f"a row of {changelogs} can't be read: {error}. Only Lapse may write there. Start the version that wrote it, "
        "or build tables anew with another app_id: *A new installation* in docs/operations.md."
    )


def _is_of_a_newer_version(text: str) -> bool:
    """Whether msgspec says that a row has more elements than its struct, or a member or a name that is unknown."""
    found = _OF_A_NEWER_VERSION.match(text)
    return found is not None and (found["known"] is None or int(found["found"]) > int(found["known"]))
