"""Runs the tests in a trigger file, each on its own, with the worker's engine and real records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from streams.core.batch import Batch
from streams.core.engine import Engine
from streams.core.model import MILLISECOND, SECOND, Evaluation, Micros
from streams.core.names import Topic
from streams.core.triggers import Ruleset, Trigger
from streams.documents.problems import Problem
from streams.offline.run import new_pipeline, settled
from streams.rules.inline_tests import InlineTest, TestRun
from streams.rules.mismatch import Found, mismatch
from streams.rules.triggers import TriggerFile
from streams.settings.engine import make_engine
from streams.settings.settings import Settings
from streams.wire import instants
from streams.wire.capture import CapturedRecord

GIVEN_AT: Micros = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z
WHEN_AT: Micros = GIVEN_AT + 3_600 * SECOND
_NOW: Micros = GIVEN_AT + 10 * 366 * 86_400 * SECOND
_EVENT_ID = "when"


def run_tests(file: TriggerFile) -> Iterator[TestRun]:
    """Run all tests of a file that has no errors, with default settings. Each failure gives a `failed_test`.

    `holdout` and `limit` do not count: tests say what the triggers do, whatever ticket they meet and however often.
    """
    if file.ruleset is None:
        return
    engines: dict[tuple[str, ...] | None, tuple[Engine, list[Trigger]]] = {}
    for test in file.tests:
        if test.active not in engines:
            ruleset = _switched(file.ruleset, test.active)
            active = [trigger for trigger in ruleset.triggers if trigger.active]
            engines[test.active] = make_engine(ruleset, Settings()), active
        engine, active = engines[test.active]
        found = _run(test, engine)
        problem = None
        if reasons := mismatch(test, found, file, active):
            message = f"`{test.name}`: {reasons[0]}"
            problem = Problem(file.file, test.line, test.column, "failed_test", message, reasons[1:])
        yield TestRun(test, problem, found.trace)


def _switched(ruleset: Ruleset, active: tuple[str, ...] | None) -> Ruleset:
    """Return the rules without holdout and limits, and with only these triggers active if the test specifies any."""
    if ruleset.holdout is not None:
        ruleset = msgspec.structs.replace(ruleset, holdout=None)
    unlimited = tuple(msgspec.structs.replace(trigger, limit=None) for trigger in ruleset.triggers)
    ruleset = msgspec.structs.replace(ruleset, limit=None, triggers=unlimited)
    if active is None:
        return ruleset
    triggers = tuple(msgspec.structs.replace(trigger, active=trigger.id in active) for trigger in ruleset.triggers)
    return msgspec.structs.replace(ruleset, triggers=triggers)


def _run(test: InlineTest, engine: Engine) -> Found:
    """Feed the test's records, advance time until its round must have ended, and look up the result."""
    pipeline = new_pipeline(engine)
    batches: list[Batch] = []
    for topic, members, at in _records(test):
        pipeline.feed(topic, [_record(members, at)], 0)
        pipeline.slice(_NOW, dict.fromkeys(Topic, 0))
        batches += settled(pipeline)
    # Twice the join wait: a round without a ticket is parked for that long after its due time.
    pipeline.advance(WHEN_AT + test.after + 2 * engine.settings.rounds.join_wait)
    batches += settled(pipeline)
    letters = [letter for batch in batches for letter in batch.dead_letters]
    if letters:
        return Found(engine.rules, trouble=f"{letters[0].rejection.path}: {letters[0].rejection.message}")
    evaluations = (record for batch in batches for record in batch.records if isinstance(record, Evaluation))
    event_id = str(test.when.get("event_id") or _EVENT_ID)
    ended = next((e for e in evaluations if e.event_id == event_id and e.wait == test.after), None)
    commands = {command.command_id: command for batch in batches for command in batch.commands}
    return Found(engine.rules, ended, commands.get(ended.command_id or "") if ended is not None else None)


def _records(test: InlineTest) -> Iterator[tuple[Topic, Mapping[str, Any], Micros]]:
    """Yield topic, members and instant of the test's records. All get the same ticket id, whatever id they state."""
    if test.session is not None:
        yield Topic.SESSIONS, test.session, GIVEN_AT
    if test.ticket is not None:
        yield Topic.TICKETS, {"ticket": test.ticket}, GIVEN_AT + SECOND
    yield Topic.SESSIONS, {"event_id": _EVENT_ID, **test.when}, WHEN_AT


def _record(members: Mapping[str, Any], at: Micros) -> CapturedRecord:
    value = {"occurred_at": instants.text(at), **members, "ticket_id": "1"}
    return CapturedRecord(0, at // MILLISECOND, b"1", msgspec.json.encode(value))
