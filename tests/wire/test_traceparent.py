"""The trace context of the record that was the lapse goes on to every command of its rounds."""

from __future__ import annotations

import msgspec
import pytest

from streams.core.model import Lapse, PendingRound, SessionRow
from streams.testing.driver import Driver
from streams.wire.rows import MsgpackRows
from tests.core.stories import RULES, SETTINGS, START_MS, rfc3339

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = b"00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-00"


def lapsed(*traces: bytes) -> Driver:
    """A customer whose session became inactive by a record with these headers; the waiting rounds have not run."""
    driver = Driver(RULES, SETTINGS)
    ticket = {"ticket_id": "1", "occurred_at": rfc3339(START_MS), "ticket": {"status": "open", "tags": ["vip"]}}
    session = {"ticket_id": "1", "occurred_at": rfc3339(START_MS), "state": "active"}
    driver.pipe("ticket-updates", "1", ticket, START_MS, headers=[("traceparent", OTHER)])
    driver.pipe("session-states", "1", session, START_MS, headers=[("traceparent", OTHER)])
    left = {**session, "state": "inactive", "occurred_at": rfc3339(START_MS + 1)}
    headers = [("traceparent", trace) for trace in traces]
    driver.pipe("session-states", "1", left, START_MS + 1, headers=headers)
    driver.run()
    return driver


def traces(driver: Driver) -> list[bytes | None]:
    return [dict(command.headers).get("traceparent") for command in driver.read("action-commands")]


def test_a_command_carries_the_trace_of_the_record_that_was_the_lapse():
    assert traces(lapsed(TRACE)) == [TRACE]


def test_a_waiting_round_remembers_the_trace_over_a_restart():
    driver = lapsed(TRACE)
    driver.crash()
    driver.advance(START_MS + 10_000)
    assert traces(driver) == [TRACE, TRACE]


def test_a_record_without_a_trace_leads_to_commands_without_one():
    driver = lapsed()
    driver.advance(START_MS + 10_000)
    assert traces(driver) == [None, None]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        TRACE.upper(),
        TRACE + b"-00",
        b"\xff",
        b"00-" + b"0" * 32 + TRACE[35:],
        TRACE[:36] + b"0" * 16 + b"-01",
    ],
)
def test_what_is_no_trace_context_is_not_carried(value: bytes):
    assert traces(lapsed(value)) == [None]


class OldLapse(msgspec.Struct, frozen=True, array_like=True):
    event_id: str
    occurred_at: int
    timestamp: int
    episode: int
    before_state: str | None
    before_reason: str | None
    before_channel: str | None
    reason: str | None
    channel: str | None


class OldRow(msgspec.Struct, frozen=True, array_like=True):
    state: str | None
    reason: str | None
    since: int
    session_id: str | None
    channel: str | None
    episode: int
    order: list[object] | None
    touched: int
    lapse: OldLapse | None = None


def test_rows_of_before_are_read_and_rows_of_now_are_read_by_those_who_know_no_trace():
    old = OldLapse("s-1", 1, 2, 1, "active", None, "web", "gone", "web")
    row = OldRow("inactive", "gone", 1, None, "web", 1, None, 2, old)
    read = MsgpackRows().decode_session(msgspec.msgpack.encode(row))
    assert read.lapse == Lapse("s-1", 1, 2, 1, "active", None, "web", "gone", "web")
    lapse = msgspec.structs.replace(read.lapse, traceparent=TRACE.decode())
    new = SessionRow("inactive", "gone", 1, None, "web", 1, None, 2, lapse, (PendingRound(1, 1),))
    assert msgspec.msgpack.decode(MsgpackRows().encode_session(new), type=OldRow) == row
