"""Backtest: the same engine over a capture, no broker (SPEC section 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from streams.core.batch import Batch
from streams.core.engine import Engine
from streams.core.inputs import Decode
from streams.core.model import Evaluation, Kind, Micros, Rejection, RoundOutcome, Transition
from streams.core.names import Code, Result
from streams.offline.abandonments import Abandonments
from streams.offline.as_it_was import History, run_as_it_was
from streams.offline.captures import Captures, Progress
from streams.offline.comparison import Comparison, Deeds, compared
from streams.offline.limits import Firings
from streams.offline.outputs import Outputs
from streams.offline.processes import InProcesses, can_fork
from streams.offline.run import new_pipeline, run_partition
from streams.wire.decode import decode

Taker: TypeAlias = Callable[[Batch], None]


class Report(msgspec.Struct):
    """The counts of a backtest: the members of `lapse backtest --json`. Counts of 0 are included."""

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
    held_out: dict[str, int] = msgspec.field(default_factory=dict)
    """By trigger: firings in rounds that the holdout left alone. The JSON has it only where there are any."""

    def add(self, batch: Batch) -> None:
        """Add the counts of one batch."""
        self.records += batch.taken
        for (_, result), count in batch.counts.items():
            if result != Result.DEAD_LETTER:
                setattr(self, result, getattr(self, result) + count)
        for letter in batch.dead_letters:
            self.dead_letters[letter.rejection.code] += 1
        for record in batch.records:
            if isinstance(record, Transition):
                self.transitions[record.kind] += 1
            elif isinstance(record, Evaluation):
                self.rounds[record.outcome] += 1
                for trigger in record.triggers:
                    self.triggers[trigger] = self.triggers.get(trigger, 0) + 1
                    if record.outcome is RoundOutcome.HELD_OUT:
                        self.held_out[trigger] = self.held_out.get(trigger, 0) + 1
        self.commands += len(batch.commands)

    def merge(self, other: Report) -> None:
        """Add the counts of another partition."""
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                for key, count in theirs.items():
                    mine[key] = mine.get(key, 0) + count
            else:
                setattr(self, name, mine + theirs)


class Against:
    """Other rules to run over the same capture, and the differences in their results."""

    def __init__(self, engine: Engine, trigger_ids: list[str], new_trigger_ids: list[str], samples: int) -> None:
        """Compare `engine` (the old rules) with the rules of the backtest; keep `samples` examples of each kind."""
        self.engine = engine
        self.report = _empty_report(trigger_ids)
        self.comparison = compared(trigger_ids, new_trigger_ids, samples)


class Found(msgspec.Struct):
    """The results that are filled in, partition by partition."""

    report: Report
    abandonments: Abandonments | None = None
    firings: Firings | None = None
    old_report: Report | None = None
    comparison: Comparison | None = None

    def add(self, other: Found) -> None:
        """Add the results of the next partition."""
        self.report.merge(other.report)
        if self.abandonments is not None and other.abandonments is not None:
            self.abandonments.extend(other.abandonments)
        if self.firings is not None and other.firings is not None:
            self.firings.extend(other.firings)
        if self.old_report is not None and other.old_report is not None:
            self.old_report.merge(other.old_report)
        if self.comparison is not None and other.comparison is not None:
            self.comparison.extend(other.comparison)


def run_backtest(
    captures: Captures,
    engine: Engine,
    trigger_ids: list[str],
    *,
    now: Micros,
    outputs: Outputs,
    progress: Progress | None = None,
    abandonments: Abandonments | None = None,
    firings: Firings | None = None,
    against: Against | None = None,
    jobs: int = 1,
    decode: Decode = decode,
    history: History | None = None,
) -> Report:
    """Run each captured partition separately, in merged order, and report the results.

    `now` is the wall clock used to detect `bad_timestamp`. Rounds that are due by the capture's last usable record
    run; later ones stay pending. `trigger_ids` that never fired are reported with 0. `abandonments`, `firings` and
    `against` are filled in. If `jobs` is greater than 1, each partition runs in its own process; the result is the
    same. With `history`, each partition uses the revisions that it had in use.
    """
    last = captures.latest(
        lambda partition, topic, record: not isinstance(decode(topic, partition, record, now), Rejection)
    )
    total = captures.records * (1 if against is None else 2)
    whole = Found(
        _empty_report(trigger_ids),
        abandonments,
        firings,
        None if against is None else against.report,
        None if against is None else against.comparison,
    )

    def run(number: int, outputs: Outputs, tell: Callable[[int], None]) -> Found:
        found = Found(
            _empty_report(trigger_ids),
            None if abandonments is None else abandonments.empty(),
            None if firings is None else firings.empty(),
        )
        takers: list[Taker] = [found.report.add, outputs.write, lambda _: tell(found.report.records)]
        if found.abandonments is not None:
            takers.append(found.abandonments.add)
        if found.firings is not None:
            takers.append(found.firings.add)
        if against is None:
            found.report.pending = _run_partition(
                captures, number, engine, takers, decode, now=now, last=last, history=history
            )
            return found
        new, old = Deeds(), Deeds()
        report = found.old_report = _empty_report(list(against.report.triggers))
        found.comparison = against.comparison.empty()
        found.report.pending = _run_partition(captures, number, engine, [*takers, new.add], decode, now=now, last=last)
        done = found.report.records
        old_takers: list[Taker] = [report.add, old.add, lambda _: tell(done + report.records)]
        report.pending = _run_partition(captures, number, against.engine, old_takers, decode, now=now, last=last)
        found.comparison.add(old, new)
        return found

    def told(done: int) -> None:
        if progress is not None:
            progress(done, total)

    if jobs > 1 and len(captures.partitions) > 1 and can_fork():
        with outputs.apart() as parts:
            processes = InProcesses(lambda number, tell: run(number, parts.of(number), tell), jobs, told)
            for number, found in zip(captures.partitions, processes.over(captures.partitions), strict=True):
                whole.add(found)
                parts.take(number)
    else:
        finished = 0
        for number in captures.partitions:
            whole.add(run(number, outputs, lambda done, before=finished: told(before + done)))  # type: ignore[misc]
            finished = whole.report.records + (0 if whole.old_report is None else whole.old_report.records)
    return whole.report


def _empty_report(trigger_ids: list[str]) -> Report:
    return Report(triggers=dict.fromkeys(trigger_ids, 0))


def _run_partition(
    captures: Captures,
    number: int,
    engine: Engine,
    takers: Sequence[Taker],
    decode: Decode,
    *,
    now: Micros,
    last: int | None,
    history: History | None = None,
) -> int:
    """Run one partition and the rounds due by `last` (milliseconds); return the number of rounds still pending."""
    pipeline = new_pipeline(engine, number, decode, captures.partition_count)
    if history is None:
        batches = run_partition(captures, pipeline, now=now, last=last)
    else:
        batches = run_as_it_was(captures, pipeline, history, now=now, last=last)
    for batch in batches:
        for take in takers:
            take(batch)
    return pipeline.partition.pending_rounds
