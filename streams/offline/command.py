"""`lapse backtest`: files in, counts out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streams.config.engine import make_engine
from streams.config.settings import Settings
from streams.config.triggers import load_triggers
from streams.core.model import Micros
from streams.offline.backtest import Outputs, Report, run_backtest
from streams.offline.captures import CaptureError, Captures
from streams.offline.captures import Progress as OnProgress

BROKEN_SHOWN = 10
"""Broken lines of a capture that are named; the rest are only counted."""


class BacktestError(Exception):
    """A backtest that cannot run; the text says why, the exit code whose fault it is."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Keep the message and the exit code: 1 for what files hold, 2 for how the command was called."""
        super().__init__(message)
        self.exit_code = exit_code


def backtest(
    *,
    events: Sequence[Path],
    triggers: Path,
    settings: Settings,
    now: Micros | None = None,
    commands: Path | None = None,
    transitions: Path | None = None,
    as_json: bool = False,
    strict: bool = False,
) -> None:
    """Run a backtest and print what it did to standard output; progress and warnings go to standard error.

    `now` is the clock for `bad_timestamp`, the present by default. With `strict` a broken line is an error. Raises
    `BacktestError`.
    """
    file = load_triggers(triggers)
    for problem in file.errors:
        print(problem, file=sys.stderr)
    if file.ruleset is None:
        raise BacktestError(f"{triggers}: not usable, see above; `lapse check {triggers}` says the same", 1)
    if sum(path == Path("-") for path in events) > 1:
        raise BacktestError("standard input (`-`) can be read only once", 2)
    clock = time.time_ns() // 1000 if now is None else now
    try:
        with ExitStack() as stack:
            bar = stack.enter_context(_progress())
            captures = stack.enter_context(Captures(events, bar("reading")))
            _name_broken_lines(captures, strict)
            outputs = Outputs(
                settings.app_id, _opened(stack, "--commands", commands), _opened(stack, "--transitions", transitions)
            )
            report = run_backtest(
                captures,
                make_engine(file.ruleset, settings),
                [trigger.id for trigger in file.ruleset.triggers],
                now=clock,
                outputs=outputs,
                progress=bar("running"),
            )
            broken = len(captures.broken)
    except CaptureError as error:
        raise BacktestError(str(error), 2) from None
    if as_json:
        members = msgspec.to_builtins(report)
        sys.stdout.buffer.write(msgspec.json.encode(members | ({"broken_lines": broken} if broken else {})) + b"\n")
        sys.stdout.flush()
    else:
        print("\n".join(summary(report)))


def summary(report: Report) -> Iterator[str]:
    """Yield the lines of a report for people."""
    yield f"{report.records} records: {report.applied} applied, {report.stale} stale, {report.duplicate} duplicate"
    yield from _counts("dead letters", report.dead_letters)
    yield from _counts("transitions", report.transitions)
    yield from _counts("rounds", report.rounds)
    yield from _counts("triggers fired", report.triggers, zeros=True)
    yield f"commands: {report.commands}"
    if report.pending:
        yield f"rounds not yet due at the end of the capture: {report.pending}"


def _counts(title: str, counts: Mapping[str, int], *, zeros: bool = False) -> Iterator[str]:
    shown = {name: count for name, count in counts.items() if count or zeros}
    yield f"{title}: {sum(counts.values())}"
    width = max(map(len, shown), default=0)
    for name, count in shown.items():
        yield f"  {name:<{width}}  {count}"


def _name_broken_lines(captures: Captures, strict: bool) -> None:
    for broken in captures.broken[:BROKEN_SHOWN]:
        print(broken, file=sys.stderr)
    count = len(captures.broken)
    if count > BROKEN_SHOWN:
        print(f"… and {count - BROKEN_SHOWN} more lines that hold no record", file=sys.stderr)
    if count and strict:
        raise BacktestError(f"{count} broken lines; without --strict they are left out", 1)


def _opened(stack: ExitStack, flag: str, path: Path | None) -> IO[bytes] | None:
    if path is None:
        return None
    try:
        return stack.enter_context(path.open("wb"))
    except OSError as error:
        raise BacktestError(f"{flag} {path}: cannot write: {error.strerror}", 2) from None


@contextmanager
def _progress() -> Iterator[Callable[[str], OnProgress]]:
    """Give a function that makes one progress bar a phase; nothing is shown where no one watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def phase(name: str) -> OnProgress:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield phase
