"""The rate guard holds what a trigger does too often, remembers it, and withdraws what it held when that is over."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.cycle import Rules
from streams.core.guard import BLOCK, BLOCKS, HEADS, Guard
from streams.core.model import SECOND, SessionRow
from streams.core.names import Output
from streams.core.tables import Tables
from streams.core.triggers import HIGHEST_COUNT, Limit
from streams.testing.driver import Driver
from streams.wire.rows import MsgpackRows

from .stories import RULESET, SETTINGS, START_MS, records, rfc3339

END_MS = START_MS + 3_600_000


def put(tables: Tables, guard: Guard) -> None:
    for key, row in guard.rows.items():
        tables.put_own(key, row)


def judged(instants: list[int], limit: Limit, partitions: int = 1) -> list[bool]:
    """Whether each firing of one trigger is held, by the guard; the rows are settled after each."""
    tables = Tables(MsgpackRows(), partitions)
    found = []
    for now in instants:
        guard = Guard(tables, {"a": limit}, now)
        found.append(bool(guard.judge(["a"])))
        put(tables, guard)
        tables.hand_over()
        tables.settle()
    return found


def expected(instants: list[int], limit: Limit, partitions: int = 1) -> list[bool]:
    """The same by the sentence of the contract alone."""
    most = -(-limit.count // partitions)
    return [
        sum(now - limit.per < earlier for earlier in instants[:place]) >= most for place, now in enumerate(instants)
    ]


@given(
    st.lists(st.integers(0, 40), max_size=60),
    st.integers(1, 30),
    st.integers(1, 200),
    st.integers(1, 5),
)
def test_the_firings_in_the_span_before_decide(gaps: list[int], count: int, per: int, partitions: int) -> None:
    instants = [sum(gaps[: place + 1]) for place in range(len(gaps))]
    limit = Limit(count, per)
    assert judged(instants, limit, partitions) == expected(instants, limit, partitions)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 400)), max_size=6), st.integers(1, 1200), st.integers(1, 60)
)
@settings(max_examples=40, deadline=None)
def test_full_blocks_count_as_their_instants_would(bursts: list[tuple[int, int]], count: int, per: int) -> None:
    instants, now = [], 0
    for gap, many in bursts:
        now += gap
        instants += [now] * many
    assert judged(instants, Limit(count, per)) == expected(instants, Limit(count, per))


def test_a_firing_rewrites_a_small_row_however_high_the_limit() -> None:
    tables = Tables(MsgpackRows())
    largest = 0
    for now in range(3 * HIGHEST_COUNT):
        guard = Guard(tables, {"a": Limit(HIGHEST_COUNT, 10**9)}, now)
        assert bool(guard.judge(["a"])) == (now >= HIGHEST_COUNT)
        largest = max(largest, len(guard.rows[HEADS + b"a"] or b""))
        put(tables, guard)
    assert largest <= 3 * 1024
    assert len(tables.own_keys(BLOCKS)) <= HIGHEST_COUNT // BLOCK + 2


def limited(count: int, per: int = 10) -> Rules:
    return Rules(msgspec.structs.replace(RULESET, limit=Limit(count, per * SECOND)))


def outputs(driver: Driver) -> dict[str, list[Any]]:
    driver.advance(END_MS)
    return {topic: driver.read(topic) for topic in Output}


@given(records(), st.integers(1, 4), st.integers(1, 30), st.data())
@settings(max_examples=60, deadline=None)
def test_a_restart_anywhere_gives_the_same_outcomes(
    story: list[tuple[str, str | None, Any, int]], count: int, per: int, data: st.DataObject
) -> None:
    whole, broken = Driver(limited(count, per), SETTINGS), Driver(limited(count, per), SETTINGS)
    stops = data.draw(st.sets(st.integers(0, max(0, len(story) - 1)), max_size=4))
    broken.crash_after(data.draw(st.integers(0, 30)))
    for place, one in enumerate(story):
        whole.pipe(*one)
        broken.pipe(*one)
        if place in stops:
            whole.run()
            broken.run()
            broken.crash()
    assert outputs(broken) == outputs(whole)


@given(records(), st.integers(1, 4), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_a_limit_moves_commands_and_changes_none(
    story: list[tuple[str, str | None, Any, int]], count: int, per: int
) -> None:
    free, guarded = Driver(Rules(RULESET), SETTINGS), Driver(limited(count, per), SETTINGS)
    for one in story:
        free.pipe(*one)
        guarded.pipe(*one)
    whole, less = outputs(free), outputs(guarded)
    held = [write for write in less[Output.HELD_COMMANDS] if b'"state"' not in write.value]
    assert sorted(less[Output.COMMANDS] + held) == sorted(whole[Output.COMMANDS])
    assert [one["command_id"] for one in map(json.loads, (write.value for write in held))] == [
        one["command_id"] for one in guarded.records() if one.get("outcome") == "held"
    ]
    markers = [json.loads(write.value) for write in less[Output.HELD_COMMANDS] if b'"state"' in write.value]
    ids = [marker["command_id"] for marker in markers]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= {json.loads(write.value)["command_id"] for write in held}


def held_story(*after: tuple[str, Any]) -> tuple[Driver, list[Any]]:
    """A ticket whose only command is held, because another ticket's came just before; then what is given."""
    driver = Driver(limited(1, 600), SETTINGS)
    at = START_MS
    for ticket in ("1", "2"):
        driver.pipe("ticket-updates", ticket, _ticket(ticket, at, {"priority": "high"}), at)
        driver.pipe("session-states", ticket, _session(ticket, at + 1_000, "active"), at + 1_000)
    driver.pipe("ticket-updates", "1", _ticket("1", at + 2_000, {"status": "open"}), at + 2_000)
    driver.pipe("ticket-updates", "2", _ticket("2", at + 2_000, {"status": "open"}), at + 2_000)
    driver.pipe("session-states", "1", _session("1", at + 3_000, "inactive"), at + 3_000)
    driver.pipe("session-states", "2", _session("2", at + 3_500, "inactive"), at + 3_500)
    for topic, value in after:
        at = START_MS + 4_000
        if topic == "ticket-updates":
            driver.pipe(topic, "2", None if value is None else _ticket("2", at, value), at)
        else:
            driver.pipe(topic, "2", None if value is None else _session("2", at, value), at)
    return driver, driver.read(Output.HELD_COMMANDS)


def _ticket(ticket: str, at: int, members: dict[str, Any]) -> dict[str, Any]:
    return {"event_id": f"t-{at}", "ticket_id": ticket, "occurred_at": rfc3339(at), "ticket": members}


def _session(ticket: str, at: int, state: str) -> dict[str, Any]:
    found = {"event_id": f"s-{at}", "ticket_id": ticket, "occurred_at": rfc3339(at), "state": state}
    return found | ({"reason": "user_inactive_or_offline"} if state == "inactive" else {})


def test_a_held_command_is_the_command_that_it_would_have_been_in_the_transaction_of_its_round() -> None:
    driver, [held] = held_story()
    [first] = driver.read(Output.COMMANDS)
    assert held.key == b"2"
    assert json.loads(held.value)["triggers"] == json.loads(first.value)["triggers"]
    assert [name for name, _ in held.headers] == [name for name, _ in first.headers]
    last = driver.records()[-1]
    assert (last["outcome"], last["held_by"]) == ("held", ["solve", "after-solve"])
    assert last["command_id"] == json.loads(held.value)["command_id"]


@pytest.mark.parametrize(
    "after",
    [
        ("session-states", "active"),
        ("session-states", "ended"),
        ("session-states", "on_hold"),
        ("session-states", None),
        ("ticket-updates", None),
        ("ticket-updates", {"status": "closed"}),
    ],
)
def test_a_held_command_is_withdrawn_when_what_it_answers_is_over(after: tuple[str, Any]) -> None:
    _, [held, marker] = held_story(after)
    assert marker.key == b"2"
    assert json.loads(marker.value) == {"command_id": json.loads(held.value)["command_id"], "state": "withdrawn"}


def test_a_held_command_is_withdrawn_once() -> None:
    _, found = held_story(("session-states", "active"), ("ticket-updates", None))
    assert len(found) == 2


def test_a_held_command_stays_while_the_ticket_changes_otherwise() -> None:
    _, found = held_story(("ticket-updates", {"status": "solved"}), ("session-states", "inactive"))
    assert len(found) == 1


def test_a_held_command_is_outstanding() -> None:
    driver, [held] = held_story()
    session = MsgpackRows().decode_session(dict(driver.broker.changelogs["sessions"])[b"2"])
    command_id = json.loads(held.value)["command_id"]
    assert [one for one, _ in session.outstanding] == [command_id]
    assert session.held == (command_id,)


@pytest.mark.parametrize("group", [None, "held_out"])
@pytest.mark.parametrize("held", [(), ("c-1", "c-2")])
def test_a_row_without_held_commands_has_the_bytes_that_it_had_before(group: str | None, held: tuple[str, ...]) -> None:
    codec = MsgpackRows()
    row = SessionRow("inactive", None, 1, None, "web", 1, None, 2, holdout_group=group, held=held)
    members = list(msgspec.structs.astuple(row))
    if not held:
        members = members[: 15 if group is None else 16]
    assert codec.encode_session(row) == msgspec.msgpack.encode(members)
    assert codec.decode_session(codec.encode_session(row)) == row
