"""The plain path against the long way: the same updates, the same rows, the same outputs, whatever the bytes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.core.engine import Engine
from streams.core.inputs import Decode
from streams.core.model import Rejection, TicketRow
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.core.plain import PlainTicket
from streams.wire import decode as decoding
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode, decode_fully
from streams.wire.plain import SHAPES_KEPT, PlainTickets
from streams.wire.rows import MsgpackRows
from streams.wire.writes import writes
from tests.core.stories import RULES, SETTINGS

NOW = 2**62
AT = 1_772_359_200_000

MEMBERS = st.sampled_from(
    ["status", "priority", "type", "subject", "group_id", "assignee_id", "via", "tags", "custom_fields_1", "ß", "m0"]
)
TEXTS = st.sampled_from(
    ["open", "Closed", "On-hold", "closed", "", "__NULL__", " -- ", "Grüße", "日本", 'a"b', "a\\b", "x" * 300, "\ud83d"]
) | st.text(max_size=8)
NUMBERS = st.sampled_from([0, 1, -1, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 1.0, 1.5, 360.0, 1e300])
SCALARS = TEXTS | NUMBERS | st.booleans() | st.none()
ODD = st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from("ab"), SCALARS, max_size=2)
TAGS = st.lists(TEXTS, max_size=3) | TEXTS | st.none() | ODD
CUSTOM = st.dictionaries(st.sampled_from(["1", "2", "11", "x y", ""]), SCALARS, max_size=3) | st.none() | ODD
INSTANTS = st.sampled_from(
    ["2026-03-01T10:00:00Z", "2026-03-01T10:00:00.123456Z", "2026-03-01T10:00:00.1234567Z", "2026-03-01T10:00:60Z",
     "2026-03-01T11:00:00+01:00", "2026-03-01 10:00:01z", "2026-03-01T10:00:00", "0001-01-01T00:00:00Z", 7, None]
)  # fmt: skip


@st.composite
def tickets(draw: st.DrawFn) -> dict[str, Any]:
    """A ticket update: mostly of a few shapes, mostly sound."""
    ticket: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"status": "open", "group_id": "7", "subject": "Grüße"},
                {"status": "pending", "group_id": "8", "subject": "x", "tags": ["vip"], "custom_fields": {"1": "a"}},
                {"subject": "y", "custom_fields": {"1": None, "2": 3}},
                {"status": "open", "tags": ["vip", "late"]},
                {"priority": "High"},
            ]
        )
    )
    ticket = dict(ticket)
    for member in draw(st.lists(MEMBERS, max_size=2)):
        ticket[member] = draw(TAGS if member == "tags" else SCALARS)
    if draw(st.integers(0, 3)) == 0:
        ticket["custom_fields"] = draw(CUSTOM)
    record: dict[str, Any] = {
        "event_id": f"e{draw(st.integers(0, 12))}",
        "ticket_id": draw(st.sampled_from("123")),
        "occurred_at": f"2026-03-01T10:00:{draw(st.integers(0, 9)):02}Z",
        "ticket": ticket,
    }
    for member, values in (
        ("sequence", st.none() | st.integers(0, 9) | st.sampled_from([2.0, -1, 2**63])),
        ("command_id", st.none() | TEXTS),
        ("event_id", SCALARS),
        ("occurred_at", INSTANTS),
        ("source", SCALARS | ODD),
    ):
        if draw(st.integers(0, 7)) == 0:
            record[member] = draw(values)
    return record


@st.composite
def ticket_values(draw: st.DrawFn) -> bytes:
    """The bytes of a ticket update; now and then broken ones, or ones with a member twice."""
    record = draw(tickets())
    value = json.dumps(record, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    match draw(st.integers(0, 15)):
        case 0:
            place = draw(st.integers(0, len(value) - 1))
            value = value[:place] + draw(st.binary(max_size=2)) + value[place + 1 :]
        case 1:
            value = value.replace(b'"ticket": {', b'"ticket": {"status": "new", "subject": 1e999, ', 1)
        case 2:
            value = value[:-1] + b', "ticket_id": "2"}'
        case 3:
            value = value.replace(b"open", rb"__\u004eULL__").replace(b"vip", b"__NULL__")
    return value


def learned(values: list[bytes]) -> None:
    """Forget all shapes and learn those of `values`."""
    decoding._plain_tickets = PlainTickets()
    for value in values:
        decode(Topic.TICKETS, 0, CapturedRecord(0, AT, b"1", value), NOW)


def whole(update: Any) -> Any:
    """The update as the long way has it, its changes without their order."""
    return update.whole() if isinstance(update, PlainTicket) else update


@given(st.lists(ticket_values(), min_size=1, max_size=6))
@settings(max_examples=600, deadline=None)
@example(
    [
        json.dumps(
            {"ticket_id": "1", "event_id": "e", "occurred_at": "2026-03-01T10:00:00Z", "ticket": {"a": "b"}}
        ).encode()
    ]
    * 2
)
def test_both_ways_decode_alike(values: list[bytes]) -> None:
    learned(values)
    for value in values:
        for key in (b"1", b"2", b"3"):
            record = CapturedRecord(5, AT, key, value)
            short, long = decode(Topic.TICKETS, 0, record, NOW), decode_fully(Topic.TICKETS, 0, record, NOW)
            assert whole(short) == long


def sessions() -> st.SearchStrategy[bytes]:
    """Session states of the same tickets."""
    return st.builds(
        lambda ticket, event, state, second: json.dumps(
            {
                "event_id": f"s{event}",
                "ticket_id": ticket,
                "occurred_at": f"2026-03-01T10:00:{second:02}Z",
                "state": state,
                "reason": "User inactive or offline" if state == "inactive" else None,
                "channel": "web",
            }
        ).encode(),
        st.sampled_from("123"),
        st.integers(0, 30),
        st.sampled_from(["active", "inactive", "active", "ended"]),
        st.integers(0, 9),
    )


def outcome(records: list[tuple[Topic, CapturedRecord]], way: Decode, slices: int) -> tuple[Any, Any, Any]:
    """What a partition writes of these records, its rows and its counts; restarted once, in the middle."""
    changelogs: dict[str, list[tuple[bytes, bytes | None]]] = {"tickets": [], "sessions": []}
    outputs: list[tuple[str, Any]] = []
    counts: list[Any] = []
    codec = MsgpackRows()

    def opened(stream_time: int) -> Pipeline:
        partition = Partition(
            Engine(RULES, SETTINGS), number=0, partition_count=None, decode=way, rows=codec, dead_letter_limit=None,
            clock_grace=0, stream_time=stream_time,
        )  # fmt: skip
        for table, rows in changelogs.items():
            partition.restore(table, rows)
        partition.start()
        return Pipeline(partition, slice_records=slices, batch_records=2 * slices)

    def carry_out(pipeline: Pipeline) -> None:
        if (batch := pipeline.hand_over()) is not None:
            # A slice runs ahead of the commit.
            pipeline.slice(NOW, dict.fromkeys(Topic, 0))
            for name, written in writes(batch, app_id="lapse", partition=0).items():
                if name in changelogs:
                    changelogs[name] += [(write.key or b"", write.value) for write in written]
                else:
                    outputs.extend((name, write) for write in written)
            counts.append((batch.counts, batch.taken, batch.facts, batch.stream_time, batch.next_offsets))
            pipeline.settle()

    pipeline = opened(0)
    half = len(records) // 2
    for part in (records[:half], records[half:]):
        for topic, record in part:
            pipeline.feed(topic, [record], 0)
        took_all = False
        while not took_all:
            took_all = pipeline.slice(NOW, dict.fromkeys(Topic, 0))
            if took_all or pipeline.is_full:
                carry_out(pipeline)
        while not pipeline.is_empty:
            carry_out(pipeline)
        pipeline = opened(pipeline.partition.stream_time)
    tables = pipeline.partition.tables
    rows = {ticket_id: codec.decode_ticket(row) for ticket_id, row in tables.tickets.items()}
    return (outputs, counts, (rows, tables.sessions))


@given(
    st.lists(st.tuples(st.booleans(), ticket_values(), sessions(), st.integers(0, 9)), max_size=25), st.integers(1, 5)
)
@settings(max_examples=300, deadline=None)
def test_both_ways_give_the_same_rows_and_the_same_outputs(
    story: list[tuple[bool, bytes, bytes, int]], slices: int
) -> None:
    learned([ticket for _, ticket, _, _ in story])
    records = []
    offsets = dict.fromkeys(Topic, 0)
    for is_ticket, ticket, session, second in story:
        topic, value = (Topic.TICKETS, ticket) if is_ticket else (Topic.SESSIONS, session)
        found = decode_fully(topic, 0, CapturedRecord(0, AT, b"1", value), NOW)
        given_id = _ticket_id(value)
        key = b"1" if isinstance(found, Rejection) and given_id is None else (given_id or b"1")
        records.append((topic, CapturedRecord(offsets[topic], AT + 1000 * second, key, value)))
        offsets[topic] += 1
    short, long = outcome(records, decode, slices), outcome(records, decode_fully, slices)
    assert short[0] == long[0], "outputs"
    assert short[1] == long[1], "counts"
    assert short[2] == long[2], "rows"


def _ticket_id(value: bytes) -> bytes | None:
    try:
        found = json.loads(value)
        return str(found["ticket_id"]).encode() if isinstance(found, dict) else None
    except (ValueError, KeyError):
        return None


def _ticket(**members: Any) -> bytes:
    record = {"event_id": "e", "ticket_id": "1", "occurred_at": "2026-03-01T10:00:00Z", "ticket": members}
    return json.dumps(record, ensure_ascii=False).encode()


REAL = [
    _ticket(status="open", priority=None, subject="Grüße aus Köln", group_id=360, tags=["vip", "später"],
            custom_fields={"1": "x", "2": None, "3": 4.5, "4": True}),
    _ticket(status="pending", updated_at="2026-03-01T10:00:00Z"),
    _ticket(subject='She said "no" \\ twice', description="x" * 700),
    _ticket(status="open", **{f"field {n}": f"{n}" for n in range(40)}, description="y" * 250, body="é" * 200),
]  # fmt: skip


def test_real_traffic_is_plain_once_its_shapes_are_known() -> None:
    learned(REAL)
    for value in REAL:
        update = decode(Topic.TICKETS, 0, CapturedRecord(0, AT, b"1", value), NOW)
        assert isinstance(update, PlainTicket), value


@pytest.mark.parametrize(
    "value",
    [
        _ticket(status="closed"),
        _ticket(status="__NULL__"),
        _ticket(status=""),
        _ticket(tags=["a", "a"]),
        _ticket(subject="x" * 2000),
        _ticket(custom_fields=None),
        _ticket(ticket_form={"id": 1}),
    ],
)
def test_what_needs_a_closer_look_is_not_plain(value: bytes) -> None:
    learned([value, _ticket(status="open"), _ticket(subject="x"), _ticket(tags=["a", "b"])])
    assert not isinstance(decode(Topic.TICKETS, 0, CapturedRecord(0, AT, b"1", value), NOW), PlainTicket)


def test_the_shapes_that_are_remembered_are_bounded() -> None:
    plain = PlainTickets()
    for number in range(3 * SHAPES_KEPT):
        plain.learn(_ticket(**{f"member{number}": "x" * 5}))
    assert len(plain._shapes) <= SHAPES_KEPT


def test_a_row_in_the_form_of_the_version_before_is_read() -> None:
    row = TicketRow({"status": "open", "custom_fields_1": "x"}, None, 7)
    assert MsgpackRows().decode_ticket(msgspec.msgpack.encode(row)) == row
