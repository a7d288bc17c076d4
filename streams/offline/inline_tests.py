"""Runs the tests that stand in a trigger file, each by itself, on the worker's own engine and with real records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from streams.config.engine import make_engine
from streams.config.inline_tests import Expectation, InlineTest
from streams.config.problems import Problem
from streams.config.reference import ACTION_FIELD_ALIASES
from streams.config.settings import Settings
from streams.config.triggers import TriggerFile
from streams.core import normal
from streams.core.actions import is_passed_on
from streams.core.engine import Engine
from streams.core.model import MILLISECOND, SECOND, Command, Evaluation, Micros, Topic
from streams.core.partition import Partition, Step
from streams.core.triggers import TAG_ACTIONS
from streams.wire import instants
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows

GIVEN_AT: Micros = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z
WHEN_AT: Micros = GIVEN_AT + 3_600 * SECOND
_NOW: Micros = GIVEN_AT + 10 * 366 * 86_400 * SECOND
_EVENT_ID = "when"


class Found(msgspec.Struct, frozen=True):
    """What became of the round that a test speaks of; None for all when there was no such round."""

    evaluation: Evaluation | None
    command: Command | None
    trouble: str | None = None
    """Why a record of the test could not be used."""


def run_tests(file: TriggerFile) -> Iterator[Problem]:
    """Run all tests of a file without errors, with default settings; yield a `failed_test` for each that fails."""
    if file.ruleset is None:
        return
    engine = make_engine(file.ruleset, Settings())
    for test in file.tests:
        if reasons := list(_differences(test.expect, _run(test, engine), test, engine)):
            message = f"`{test.name}`: {'; '.join(reasons)}"
            yield Problem(file.file, test.line, test.column, "failed_test", message)


def _run(test: InlineTest, engine: Engine) -> Found:
    """Play the test's records, let time pass until its round has ended whatever it waits for, and look it up."""
    partition = Partition(
        engine,
        number=0,
        partition_count=None,
        decode=decode,
        rows=MsgpackRows(),
        dead_letter_limit=None,
        clock_grace=0,
    )
    steps: list[Step] = []
    for topic, members, at in _records(test):
        partition.add(topic, [_record(members, at)], 0)
        steps += _settled(partition, partition.step(_NOW, dict.fromkeys(Topic, 0), 1))
    # Twice the join wait: a round without a ticket is parked for that long after its due time.
    end = WHEN_AT + test.after + 2 * engine.settings.rounds.join_wait
    steps += _settled(partition, partition.drain_until(end))
    letters = [letter for step in steps for letter in step.dead_letters]
    if letters:
        return Found(None, None, f"{letters[0].rejection.path}: {letters[0].rejection.message}")
    evaluations = (record for step in steps for record in step.records if isinstance(record, Evaluation))
    event_id = str(test.when.get("event_id") or _EVENT_ID)
    ended = next((e for e in evaluations if e.event_id == event_id and e.wait == test.after), None)
    commands = {command.command_id: command for step in steps for command in step.commands}
    return Found(ended, commands.get(ended.command_id or "") if ended is not None else None)


def _records(test: InlineTest) -> Iterator[tuple[Topic, Mapping[str, Any], Micros]]:
    """Yield topic, members and instant of the test's records. All are of one ticket, whatever they call it."""
    if test.session is not None:
        yield Topic.SESSIONS, test.session, GIVEN_AT
    if test.ticket is not None:
        yield Topic.TICKETS, {"ticket": test.ticket}, GIVEN_AT + SECOND
    yield Topic.SESSIONS, {"event_id": _EVENT_ID, **test.when}, WHEN_AT


def _record(members: Mapping[str, Any], at: Micros) -> CapturedRecord:
    value = {"occurred_at": instants.text(at), **members, "ticket_id": "1"}
    return CapturedRecord(0, at // MILLISECOND, b"1", msgspec.json.encode(value))


def _settled(partition: Partition, step: Step | None) -> list[Step]:
    if step is None:
        return []
    partition.commit(step)
    return [step]


# --- what was expected -----------------------------------------------------------------------------------------------


def _differences(expect: Expectation, found: Found, test: InlineTest, engine: Engine) -> Iterator[str]:
    if found.trouble is not None:
        yield f"its records can't be used: {found.trouble}"
        return
    ended = found.evaluation
    fired = () if ended is None else ended.triggers
    actions = () if found.command is None else found.command.actions
    if expect.outcome is not None and (ended is None or ended.outcome != expect.outcome):
        happened = _no_round(test, engine) if ended is None else f"the outcome is {ended.outcome}"
        yield f"{happened}, expected {expect.outcome}"
    if expect.fired is not None and fired != expect.fired:
        yield f"fired: {_listed(fired)}, expected {_listed(expect.fired)}"
    if expect.actions is not None:
        happened_actions = [_comparable(action.field, action.value) for action in actions]
        expected_actions = [_comparable(str(action["field"]), action.get("value")) for action in expect.actions]
        if happened_actions != expected_actions:
            yield f"actions: {_shown(happened_actions)}, expected {_shown(expected_actions)}"


def _no_round(test: InlineTest, engine: Engine) -> str:
    if test.after not in engine.rules.waits:
        return f"no active trigger waits {test.after / SECOND:g} s, so there is no round then"
    return "the event is no lapse, so there is no round"


def _comparable(field: str, value: Any) -> tuple[str, Any]:
    """Return an action as it can be compared, however it was written."""
    field = ACTION_FIELD_ALIASES.get(field, field)
    if field in TAG_ACTIONS:
        return field, sorted(normal.words(value))
    if is_passed_on(field):
        return field, value
    value = normal.field_value(field, value)
    return field, value if value is None or isinstance(value, list) else normal.text(value)


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids) or "none"


def _shown(actions: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{field}={msgspec.json.encode(value).decode()}" for field, value in actions) or "none"
