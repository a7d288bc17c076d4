"""Backtest: the same engine over a capture, no broker (SPEC section 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import IO, TypeAlias

import msgspec

from streams.core import model as m
from streams.core.engine import Engine
from streams.core.model import MILLISECOND, Kind, Micros, Rejection, RoundOutcome, Topic, Transition
from streams.core.partition import Partition, Step
from streams.offline.abandonments import Abandonments
from streams.offline.captures import Captures, Progress
from streams.offline.comparison import Deeds, compared
from streams.wire import encode
from streams.wire.capture import CapturedRecord
from streams.wire.decode import Code, decode
from streams.wire.rows import MsgpackRows

CHUNK = 2_000
"""Records of one topic that are read ahead at a time."""

Taker: TypeAlias = Callable[[Step], None]


class Report(msgspec.Struct):
    """What a backtest counted; the members of `lapse backtest --json`. Counts that are 0 are 0, not left out."""

    records: int = 0
    applied: int = 0
    stale: int = 0
    duplicate: int = 0
    dead_letters: dict[str, int] = msgspec.field(default_factory=lambda: {code.value: 0 for code in Code})
    transitions: dict[str, int] = msgspec.field(default_factory=lambda: {kind.value: 0 for kind in Kind})
    rounds: dict[str, int] = msgspec.field(default_factory=lambda: {outcome.value: 0 for outcome in RoundOutcome})
    commands: int = 0
    pending: int = 0
    triggers: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, step: Step) -> None:
        """Count what one step did."""
        self.records += step.taken
        for (_, result), count in step.counts.items():
            if result != "dead_letter":
                setattr(self, result, getattr(self, result) + count)
        for letter in step.dead_letters:
            self.dead_letters[letter.rejection.code] += 1
        for record in step.records:
            if isinstance(record, Transition):
                self.transitions[record.kind] += 1
            else:
                self.rounds[record.outcome] += 1
                for trigger in record.triggers:
                    self.triggers[trigger] = self.triggers.get(trigger, 0) + 1
        self.commands += len(step.commands)


class Outputs:
    """Where a backtest writes what it decides, one JSON object a line; None for nowhere."""

    def __init__(self, app_id: str, commands: IO[bytes] | None = None, transitions: IO[bytes] | None = None) -> None:
        """Write commands and transition records to these files."""
        self._app_id = app_id
        self._commands = commands
        self._transitions = transitions

    def write(self, step: Step) -> None:
        """Write one step's commands and records, in the order in which they arose."""
        if self._commands is not None:
            for command in step.commands:
                self._commands.write((encode.command(command, self._app_id).value or b"") + b"\n")
        if self._transitions is not None:
            for record in step.records:
                self._transitions.write((encode.record(record).value or b"") + b"\n")


class Against:
    """Other rules to run over the same capture, and what they do differently."""

    def __init__(self, engine: Engine, trigger_ids: list[str], new_trigger_ids: list[str], samples: int) -> None:
        """Compare `engine`, the old rules, to those of the backtest; keep so many examples of each kind."""
        self.engine = engine
        self.report = _empty_report(trigger_ids)
        self.comparison = compared(trigger_ids, new_trigger_ids, samples)


def run_backtest(
    captures: Captures,
    engine: Engine,
    trigger_ids: list[str],
    *,
    now: Micros,
    outputs: Outputs,
    progress: Progress | None = None,
    abandonments: Abandonments | None = None,
    against: Against | None = None,
) -> Report:
    """Run every captured partition by itself, in merged order, and report what it did.

    `now` is the wall clock that `bad_timestamp` is judged by. Rounds that are due by the capture's last usable record
    run; later ones stay pending. `trigger_ids` are reported with 0 when they never fired. `abandonments` and `against`
    are filled in.
    """
    report = _empty_report(trigger_ids)
    last = captures.latest(
        lambda partition, topic, record: not isinstance(decode(topic, partition, record, now), Rejection)
    )
    runs = 1 if against is None else 2

    def run(number: int, engine: Engine, report: Report, takers: Sequence[Taker]) -> None:
        def settle(partition: Partition, step: Step) -> None:
            partition.commit(step)
            report.add(step)
            for take in takers:
                take(step)
            if progress is not None:
                progress(done(), runs * captures.records)

        partition = Partition(
            engine,
            number=number,
            partition_count=None,
            decode=decode,
            rows=MsgpackRows(),
            dead_letter_limit=None,
            clock_grace=0,
        )
        _run_partition(captures, number, partition, now, settle)
        if last is not None and (step := partition.drain_until(last * MILLISECOND)) is not None:
            settle(partition, step)
        report.pending += partition.pending_rounds

    def done() -> int:
        return report.records + (0 if against is None else against.report.records)

    takers: list[Taker] = [outputs.write]
    if abandonments is not None:
        takers.append(abandonments.add)
    for number in captures.partitions:
        if against is None:
            run(number, engine, report, takers)
            continue
        new, old = Deeds(), Deeds()
        run(number, engine, report, [*takers, new.add])
        run(number, against.engine, against.report, [old.add])
        against.comparison.add(old, new)
    return report


def _empty_report(trigger_ids: list[str]) -> Report:
    return Report(triggers=dict.fromkeys(trigger_ids, 0))


def _run_partition(
    captures: Captures, number: int, partition: Partition, now: Micros, settle: Callable[[Partition, Step], None]
) -> None:
    inputs: dict[Topic, Iterator[CapturedRecord]] = {topic: captures.read(number, topic) for topic in Topic}
    ends: dict[Topic, m.Micros | None] = dict.fromkeys(Topic)
    while True:
        for topic, records in inputs.items():
            if ends[topic] is None and not partition.queued(topic):
                chunk = list(islice(records, CHUNK))
                if chunk:
                    partition.add(topic, chunk, 0)
                else:
                    ends[topic] = 0
        step = partition.step(now, ends, CHUNK)
        if step is not None:
            settle(partition, step)
        elif all(end is not None for end in ends.values()) and not any(partition.queued(topic) for topic in Topic):
            return
