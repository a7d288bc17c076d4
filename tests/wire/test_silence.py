"""The rows of `lapse ingest --silence`: whole after a restart, and refused by a version that does not know them."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import fields

from streams.core.model import OrderKey, PendingRound, SessionRow
from streams.core.silence import SilenceRow
from streams.wire.rows import UNREADABLE, unreadable
from streams.wire.silence import SilenceRows

ROW = SilenceRow(
    state="inactive",
    reason="silent",
    since=1,
    session_id=None,
    channel="mobile",
    episode=0,
    order=OrderKey(2, ("e-1",), 3, 4),
    touched=4,
    pending=(PendingRound(5, 6),),
    mark=7,
    ours=True,
    ticket_channel="whatsapp",
    over=True,
    deleted_at=8,
    unread=9,
)
UNUSED = {"session_id", "episode"} | {field.name for field in fields(SessionRow)[8:] if field.name != "pending"}
"""Members of the worker's rows that `SilenceEngine` never sets."""


def test_a_row_comes_back_as_it_was():
    rows = SilenceRows()
    assert rows.decode_session(rows.encode_session(ROW)) == ROW
    assert not [name for name in SilenceRow.__struct_fields__ if name not in UNUSED and not getattr(ROW, name)]


def test_its_bytes_do_not_depend_on_the_rows_of_the_worker():
    stored = msgspec.msgpack.decode(SilenceRows().encode_session(ROW))
    order, pending = [2, ["e-1"], 3, 4], [[5, 6, None]]
    assert stored == ["inactive", "silent", 1, "mobile", order, 4, pending, 7, True, "whatsapp", True, 8, 9]


def test_a_row_of_a_newer_version_is_refused_as_one():
    stored = msgspec.msgpack.decode(SilenceRows().encode_session(ROW))
    with pytest.raises(UNREADABLE) as error:
        SilenceRows().decode_session(msgspec.msgpack.encode([*stored, "new"]))
    assert "written by a newer version of Lapse" in unreadable(error.value, "lapse-silence-changelog")
