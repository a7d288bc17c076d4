"""Rows of older versions are read, rows of a newer version are refused: SPEC section 6, decision 0019."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.errors import NewerRow
from streams.core.guard import HEADS, read_head
from streams.core.model import Lapse, OrderKey, PendingRound, SessionRow, TicketRow
from streams.core.names import Table
from streams.core.partition import Partition
from streams.core.plain import PlainRow
from streams.core.revisions import RULES_KEY, InUse, Stops
from streams.core.shadow import KEYS as SHADOW_KEYS
from streams.core.shadow import ShadowRow
from streams.core.tables import OWN
from streams.core.triggers import Ruleset
from streams.wire.decode import decode
from streams.wire.rows import UNREADABLE, MsgpackRows, unreadable

AT = 1_772_359_200_000_000
CODEC = MsgpackRows()
OLDER = json.loads((Path(__file__).parent / "rows_of_older_versions.json").read_text())
"""Rows as the code of each older version wrote them, with what that version itself read in them."""

ORDER = OrderKey(AT, ("e-1",), 4)
LAPSE = Lapse("s-9", AT, AT, 1, "active", None, "web", "left", "web")
SESSION = SessionRow(
    "inactive", "left", AT, None, "web", 1, ORDER, AT, LAPSE, (PendingRound(AT + 5, 5),),
    holdout_group="acted_on", held=("c-1",),
)  # fmt: skip
TICKET = TicketRow({"status": "open"}, ORDER, AT)
PLAIN = PlainRow({"status": "open"}, ORDER, AT)
IN_USE = InUse(3, "9f2c41d0a7be", 4, Stops(False, ("a",)), 4, AT, "me", "why", 5, "0123456789ab")
SHADOW = ShadowRow(2, LAPSE, (), (0,))


def head(row: bytes) -> Any:
    """Return the head row of a history of limits as an array; nobody but the guard knows its struct."""
    read_head(row)
    return msgspec.msgpack.decode(row)


READ: dict[str, Callable[[bytes], Any]] = {
    "ticket": CODEC.decode_ticket,
    "session": CODEC.decode_session,
    "rules": CODEC.decode_rules,
    "shadow": CODEC.decode_shadow,
    "limit": head,
}


def same(now: Any, then: Any) -> bool:
    """Whether a decoded row says what it said then; what was added to its arrays since has its default."""
    if isinstance(now, list) and isinstance(then, list):
        added = now[len(then) :]
        return len(now) >= len(then) and not any(added) and all(map(same, now, then))
    return now == then


@pytest.mark.parametrize("row", OLDER, ids=lambda row: f"{row['what']}, {row['version']}")
def test_a_row_of_an_older_version_reads_as_it_did_then(row: dict[str, Any]) -> None:
    now = json.loads(msgspec.json.encode(READ[row["kind"]](bytes.fromhex(row["row"]))))
    assert same(now, row["reads"]), f"now {now}, then {row['reads']}"


def longer(row: Any, *path: int) -> bytes:
    """Return a row, encoded, with one more element at the end of the array at `path`."""
    array = msgspec.msgpack.decode(msgspec.msgpack.encode(row))
    inner = array
    for index in path:
        inner = inner[index]
    inner.append("what this version does not know")
    return msgspec.msgpack.encode(array)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("ticket", longer([{"status": "open"}, ORDER, AT, True])),
        ("ticket", longer(TICKET, 1)),
        ("session", longer(SESSION)),
        ("session", longer(SESSION, 6)),
        ("session", longer(SESSION, 8)),
        ("session", longer(SESSION, 9, 0)),
        ("session", longer([*msgspec.to_builtins(SESSION)[:11], [AT, "web"]], 11)),
        ("rules", longer(IN_USE)),
        ("rules", longer(IN_USE, 3)),
        ("shadow", longer(SHADOW)),
        ("shadow", longer(SHADOW, 1)),
        ("shadow", msgspec.msgpack.encode([2, LAPSE, [], [0], False, [[0, ["postponed"]]]])),
        ("limit", longer([[], 0, b""])),
        ("limit", longer([[[0, 1, 2]], 1, b""], 0, 0)),
    ],
)
def test_a_row_of_a_newer_version_is_refused_with_a_message_that_says_so(kind: str, row: bytes) -> None:
    with pytest.raises(UNREADABLE) as refusal:
        READ[kind](row)
    said = unreadable(refusal.value, "lapse-sessions-changelog")
    assert said.startswith("a row of lapse-sessions-changelog was written by a newer version of Lapse")
    assert "Start that version or a later one" in said


@pytest.mark.parametrize(
    "row",
    [
        *(b"", b"\x93\x81", b"\x91\xc0", b"\x93\x81\xa1a\xa1\xff\xc0\x01", b"{}"),
        msgspec.msgpack.encode([{"custom_fields": [1]}, None, AT, True]),
        msgspec.msgpack.encode([{"custom_fields": {7: "x"}}, None, AT, True]),
    ],
)
def test_what_is_no_row_is_not_taken_for_one_of_a_newer_version(row: bytes) -> None:
    with pytest.raises(UNREADABLE) as refusal:
        CODEC.decode_ticket(row)
    assert "can't be read" in unreadable(refusal.value, "lapse-tickets-changelog")


@pytest.mark.parametrize(
    ("row", "elements"),
    [
        (SessionRow("active", None, AT, None, None, 0, ORDER, AT), 15),
        (SessionRow("active", None, AT, None, None, 0, ORDER, AT, holdout_group="held_out"), 16),
        (SessionRow("active", None, AT, None, None, 0, ORDER, AT, held=("c-1",)), 17),
    ],
)
def test_a_row_has_no_more_elements_than_it_needs_so_that_an_older_version_reads_it(
    row: SessionRow, elements: int
) -> None:
    data = CODEC.encode_session(row)
    assert len(msgspec.msgpack.decode(data)) == elements
    assert CODEC.decode_session(data) == row


def opened(table: Table, key: bytes, row: bytes) -> None:
    """Open a partition that has this row, as a worker does after a restore."""
    partition = Partition(
        Engine(Rules(Ruleset(())), EngineSettings()),
        number=0,
        partition_count=1,
        decode=decode,
        rows=CODEC,
        dead_letter_limit=None,
        clock_grace=0,
    )
    partition.restore(table, [(key, row)])
    partition.start()


@pytest.mark.parametrize(
    ("table", "key", "row"),
    [
        (Table.TICKETS, b"51", longer([{"status": "open"}, ORDER, AT, True])),
        (Table.TICKETS, b"51", longer(TICKET, 1)),
        (Table.SESSIONS, b"51", longer(SESSION)),
        (Table.SESSIONS, HEADS + b"solve", longer([[], 0, b""])),
    ],
)
def test_a_partition_with_a_row_of_a_newer_version_does_not_open(table: Table, key: bytes, row: bytes) -> None:
    with pytest.raises(msgspec.ValidationError, match="of at most length"):
        opened(table, key, row)


def test_a_partition_with_a_kind_of_row_that_it_does_not_know_does_not_open() -> None:
    with pytest.raises(NewerRow, match="unknown kind of row: quota"):
        opened(Table.SESSIONS, OWN + b"quota/51", b"\x90")


@pytest.mark.parametrize(
    ("key", "row"),
    [
        (RULES_KEY, CODEC.encode_rules(IN_USE)),
        (SHADOW_KEYS + b"51", CODEC.encode_shadow(SHADOW)),
        (HEADS + b"solve", msgspec.msgpack.encode([[], 0, b""])),
    ],
)
def test_a_partition_opens_with_the_rows_of_its_own(key: bytes, row: bytes) -> None:
    opened(Table.SESSIONS, key, row)


@pytest.mark.parametrize("row", [CODEC.encode_ticket(TICKET), CODEC.encode_plain(PLAIN)])
def test_a_partition_opens_with_a_ticket_row_in_either_form(row: bytes) -> None:
    opened(Table.TICKETS, b"51", row)
