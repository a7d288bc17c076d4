"""`lapse backtest`: files in, counts out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, tzinfo
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streams.core.errors import LapseError
from streams.core.escaping import one_line
from streams.core.inputs import Decode
from streams.core.model import Micros
from streams.core.triggers import Ruleset
from streams.offline.abandonments import Abandonments
from streams.offline.as_it_was import History, history_of
from streams.offline.backtest import Against, run_backtest
from streams.offline.captures import CaptureError, Captures
from streams.offline.captures import Progress as OnProgress
from streams.offline.clocks import timestamp_warnings
from streams.offline.limits import Firings, suggest_limit
from streams.offline.outputs import Outputs
from streams.offline.processes import ProcessDied, processors
from streams.offline.report import Findings, as_object, as_text
from streams.offline.waits import suggest_wait
from streams.offline.words import say, say_json
from streams.rules.source import compile_source
from streams.rules.triggers import load_triggers
from streams.settings.engine import make_engine
from streams.settings.settings import Settings
from streams.wire.decode import decode

BROKEN_SHOWN = 10
"""Number of broken lines of a capture that are listed; the rest are only counted."""

WORTH_PROCESSES = 100_000
"""Number of records above which starting processes saves more time than it costs."""


class BacktestError(LapseError):
    """A backtest cannot run. The message gives the reason; the exit code separates bad files from wrong usage."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Keep the message and the exit code: 1 for bad file contents, 2 for wrong usage."""
        super().__init__(message)
        self.exit_code = exit_code


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `lapse backtest`, apart from the capture and the triggers."""

    against: Path | None = None
    """The old trigger file to compare with."""
    samples: int = 5
    """Number of examples of each kind of difference."""
    suggest_wait: bool = False
    suggest_limit: Micros | None = None
    """The span of the limits to suggest."""
    html: Path | None = None
    time_zone: tzinfo = UTC
    """Time zone of the hours and weekdays on the page."""
    commands: Path | None = None
    transitions: Path | None = None
    as_json: bool = False
    strict: bool = False
    """Treat a broken line as an error."""
    jobs: int | None = None
    """Number of processes; None for one per processor, or a single one for a small capture."""


def backtest(
    *,
    events: Sequence[Path],
    triggers: Path | None,
    settings: Settings,
    now: Micros | None = None,
    wanted: Wanted,
    decode: Decode = decode,
) -> None:
    """Run a backtest and print the results to standard output; progress and warnings go to standard error.

    `now` is the clock used to detect `bad_timestamp`, by default the current time. Without `triggers`, the rules are
    those that were in use when the records were captured. Raises `BacktestError`.
    """
    ruleset = Ruleset(()) if triggers is None else usable(triggers)
    old_ruleset = None if wanted.against is None else usable(wanted.against)
    if sum(path == Path("-") for path in events) > 1:
        raise BacktestError("standard input (`-`) can be read only once", 2)
    if wanted.html is not None:
        _require_plots()
    clock = time.time_ns() // 1000 if now is None else now
    trigger_ids = [trigger.id for trigger in ruleset.triggers]
    abandonments = (
        Abandonments(settings.abandonment_reasons, settings.false_abandonment_window)
        if wanted.suggest_wait or wanted.html is not None
        else None
    )
    firings = None if wanted.suggest_limit is None else Firings(wanted.suggest_limit)
    against = (
        None
        if old_ruleset is None
        else Against(
            make_engine(old_ruleset, settings),
            [trigger.id for trigger in old_ruleset.triggers],
            trigger_ids,
            wanted.samples,
        )
    )
    try:
        with ExitStack() as stack:
            page = _opened(stack, "--html", wanted.html)
            bar = stack.enter_context(_progress())
            captures = stack.enter_context(Captures(events, bar("reading")))
            name_broken_lines(captures, strict=wanted.strict)
            warn_of_timestamps(captures, clock, decode)
            history = None
            if triggers is None:
                history = history_of(captures, compile_source)
                name_what_was_in_force(history)
                trigger_ids = history.trigger_ids
            outputs = Outputs(
                settings.app_id,
                _opened(stack, "--commands", wanted.commands),
                _opened(stack, "--transitions", wanted.transitions),
            )
            report = run_backtest(
                captures,
                make_engine(ruleset, settings),
                trigger_ids,
                now=clock,
                outputs=outputs,
                progress=bar("running"),
                abandonments=abandonments,
                firings=firings,
                against=against,
                jobs=_jobs(captures) if wanted.jobs is None else wanted.jobs,
                decode=decode,
                history=history,
            )
            findings = Findings(
                report=report,
                ruleset=ruleset.digest or "as it was",
                broken_lines=len(captures.broken),
                against=against,
                old_ruleset=None if old_ruleset is None else old_ruleset.digest,
                suggestion=None if abandonments is None else suggest_wait(abandonments),
                limits=None if firings is None else suggest_limit(firings, trigger_ids, captures.partition_count),
            )
            if page is not None and abandonments is not None:
                from streams.offline.page import html_page  # noqa: PLC0415 - plots take a second to import

                page.write(
                    html_page(
                        findings,
                        abandonments,
                        captures=events,
                        triggers=triggers or Path("as it was"),
                        against=wanted.against,
                        zone=wanted.time_zone,
                    )
                )
    except CaptureError as error:
        raise BacktestError(str(error), 2) from None
    except ProcessDied as error:
        raise BacktestError(str(error), 1) from None
    _print(findings, wanted)


def _jobs(captures: Captures) -> int:
    return 1 if captures.records < WORTH_PROCESSES else processors()


def usable(triggers: Path) -> Ruleset:
    """Read a trigger file; its errors go to standard error. Raises `BacktestError` when it can't be used."""
    file = load_triggers(triggers)
    for problem in file.errors:
        print(one_line(str(problem)), file=sys.stderr)
    if file.ruleset is None:
        raise BacktestError(f"{triggers}: not usable, see above; `lapse check {triggers}` says the same", 1)
    return file.ruleset


def _require_plots() -> None:
    if find_spec("matplotlib") is None:
        raise BacktestError("--html draws with matplotlib, which is not installed: pip install 'lapse[report]'", 2)


def _print(findings: Findings, wanted: Wanted) -> None:
    if wanted.as_json:
        say_json(as_object(findings, with_advice=wanted.suggest_wait))
    else:
        say(as_text(findings, with_advice=wanted.suggest_wait))


def name_broken_lines(captures: Captures, *, strict: bool) -> None:
    """List the broken lines of the captures. With `strict`, raises `BacktestError` if there are any."""
    for broken in captures.broken[:BROKEN_SHOWN]:
        print(one_line(str(broken)), file=sys.stderr)
    count = len(captures.broken)
    if count > BROKEN_SHOWN:
        print(f"… and {count - BROKEN_SHOWN} more lines that hold no record", file=sys.stderr)
    if count and not captures.records:
        raise BacktestError("not one line of the captures could be read", 1)
    if count and strict:
        raise BacktestError(f"{count} broken lines; without --strict they are left out", 1)


def name_what_was_in_force(history: History) -> None:
    """Say on standard error in which partitions the rules at the beginning are known from a row alone."""
    for note in history.notes:
        print(one_line(note), file=sys.stderr)


def warn_of_timestamps(captures: Captures, now: Micros, decode: Decode) -> None:
    """Warn on standard error about topics with implausible record timestamps."""
    for warning in timestamp_warnings(captures, now, decode):
        print(one_line(warning), file=sys.stderr)


def _opened(stack: ExitStack, flag: str, path: Path | None) -> IO[bytes] | None:
    if path is None:
        return None
    try:
        return stack.enter_context(path.open("wb"))
    except OSError as error:
        raise BacktestError(f"{flag} {path}: cannot write: {error.strerror}", 2) from None


@contextmanager
def _progress() -> Iterator[Callable[[str], OnProgress]]:
    """Yield a function that makes one progress bar per phase. Without a terminal, nothing is shown."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def phase(name: str) -> OnProgress:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield phase
