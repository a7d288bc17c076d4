"""The command line: each verb hands over to the package that does the work, which is imported only then.

Exit codes: 0 all went well; 1 something failed, or errors were found; 2 wrong usage or settings.
"""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from msgspec import structs
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from streams.config.durations import render
from streams.config.setting_values import duration, positive_duration
from streams.config.settings import Settings, SettingsError, load_settings
from streams.core.model import SECOND, Micros
from streams.wire.instants import micros

app = typer.Typer(
    name="lapse",
    help="Sees customers leave a messaging conversation and asks for what should happen to their tickets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
topics = typer.Typer(no_args_is_help=True, help="The topics that a worker needs.")
app.add_typer(topics, name="topics")


# --- settings as flags -----------------------------------------------------------------------------------------------

Verb = Callable[..., None]

SECURITY = tuple(name for name in Settings.model_fields if name.startswith(("security_", "sasl_", "ssl_")))
BROKER = ("brokers", "topic_prefix", "app_id", *SECURITY)
DECISION = (
    *("dry_run", "first_inactive", "join_wait", "state_ttl"),
    *("abandonment_reasons", "false_abandonment_window", "app_id"),
)


def takes_settings(*names: str, **defaults: str) -> Callable[[Verb], Verb]:
    """Give a verb a flag for each of these settings, and `--config`; it is called with `settings=Settings`.

    `defaults` are flags too: what they say when they are not given, over environment and file.
    """

    def decorate(verb: Verb) -> Verb:
        own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "settings"]
        config = _parameter("config", Path | None, typer.Option(help="Settings file.", show_default="lapse.yaml"))
        flags = [_parameter(name, *_flag(name, defaults.get(name))) for name in [*names, *defaults]]

        def with_settings(config: Path | None, **given: Any) -> None:
            chosen = {name: given.pop(name) for name in [*names, *defaults]}
            chosen |= {name: value for name, value in defaults.items() if chosen[name] is None}
            settings = load_settings(chosen, os.environ, config)
            for warning in settings.warnings:
                typer.echo(f"lapse: {warning}", err=True)
            verb(settings=settings, **given)

        # Typer reads a verb's flags from its signature, so that is where they have to stand.
        with_settings.__name__, with_settings.__doc__ = verb.__name__, verb.__doc__
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, config, *flags]]
        with_settings.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_settings.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_settings

    return decorate


def _flag(name: str, default: str | None) -> tuple[Any, Any]:
    """Return the type and the option of a setting's flag. The value stays text: it is read like that of a file."""
    field = Settings.model_fields[name]
    panel = "Connection" if name in BROKER else "Settings"
    shown = default or default_text(field)
    if isinstance(field.default, bool):
        return bool | None, typer.Option(help=field.description, show_default=shown, rich_help_panel=panel)
    option = typer.Option(help=field.description, show_default=shown or False, metavar="TEXT", rich_help_panel=panel)
    return str | None, option


def default_text(field: FieldInfo) -> str:
    """Return a setting's default as it would be written; empty when there is none."""
    default = field.default
    if any(getattr(reader, "func", None) in {duration, positive_duration} for reader in field.metadata):
        return render(default)
    if isinstance(default, tuple | frozenset):
        return ",".join(sorted(default))
    return str(default).lower() if isinstance(default, bool) else "" if default is None else str(default)


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def instant(text: str) -> Micros:
    """Read an RFC 3339 time given on the command line."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time such as 2026-03-01T10:00:00Z") from None
    if when.tzinfo is None:
        raise typer.BadParameter(f"{text!r} lacks its offset, such as Z or +01:00")
    return micros(when)


# --- the verbs -------------------------------------------------------------------------------------------------------


@app.command()
def demo(
    brokers: Annotated[str | None, typer.Option(help="Brokers to use.", show_default="an embedded one")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so long.", show_default="Ctrl-C")] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=20_000, help="Records a second.")] = 60.0,
    triggers: Annotated[
        Path | None, typer.Option(help="Trigger file.", show_default="the demo's own", exists=True, dir_okay=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file, for --brokers.")] = None,
) -> None:
    """Show everything at work: broker, topics, traffic, worker and live page in one go."""
    from rich.console import Console

    from streams.demo.demo import TRIGGERS, Options, run_demo

    options = Options(seconds=seconds, rate=rate, triggers=triggers or TRIGGERS)
    if brokers is not None:
        from streams.app import runtime_config

        settings = load_settings({"brokers": brokers}, os.environ, config)
        runtime = runtime_config(settings)
        security = {name: _text(getattr(settings, name)) for name in SECURITY if name in settings.model_fields_set}
        options = structs.replace(options, brokers=runtime.brokers, security=runtime.security, settings=security)
    run_demo(options, Console())


@app.command()
@takes_settings(*Settings.model_fields)
def run(settings: Settings) -> None:
    """Run the worker until SIGTERM or Ctrl-C."""
    from streams.app import run_worker

    raise typer.Exit(run_worker(settings))


@topics.command("create")
@takes_settings(*BROKER)
def create_topics(
    settings: Settings,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of each topic.", show_default="as existing ones, else 1")
    ] = None,
    replication: Annotated[int, typer.Option(min=-1, help="Of each topic; -1 is the broker's default.")] = -1,
) -> None:
    """Make what is missing, and change nothing that exists."""
    from streams.app import runtime_config
    from streams.runtime.topics import create_topics as create

    made = asyncio.run(create(runtime_config(settings, patience=PATIENCE), partitions, replication))
    for name in made:
        typer.echo(f"created {name}")
    if not made:
        typer.echo("every topic exists")


@topics.command("check")
@takes_settings(*BROKER)
def check_topics(settings: Settings) -> None:
    """Say everything that is wrong with the topics."""
    from streams.app import runtime_config
    from streams.runtime.topics import check_topics as check

    report = asyncio.run(check(runtime_config(settings, patience=PATIENCE)))
    for problem in report.problems:
        typer.echo(problem)
    if report.problems:
        raise typer.Exit(1)
    typer.echo(f"{len(report.existing)} topics of {report.existing[0].partitions} partitions: all is well")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Trigger files.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Lint trigger files and run the tests in them."""
    from streams.config.check import check_files
    from streams.offline.inline_tests import run_tests

    report = check_files(files, run_tests)
    typer.echo(json.dumps(report.json(), ensure_ascii=False) if as_json else report.text())
    raise typer.Exit(report.exit_code(strict=strict))


@app.command()
@takes_settings(*DECISION, act_from="beginning")
def backtest(
    *,
    settings: Settings,
    events: Annotated[list[Path], typer.Option(help="Captures; - is standard input.", show_default=False)],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More captures.")] = None,
    triggers: Annotated[Path, typer.Option(help="Trigger file.", show_default=False)],
    commands: Annotated[Path | None, typer.Option(help="Write the commands here, one a line.")] = None,
    transitions: Annotated[Path | None, typer.Option(help="Write transitions and evaluations here.")] = None,
    now: Annotated[
        Micros | None, typer.Option(parser=instant, metavar="TIME", show_default="the present", help="The clock.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A line that holds no record is an error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run triggers over captured records with the worker's own engine, and say what they would have done."""
    from streams.offline.command import backtest as run_backtest

    run_backtest(
        events=[*events, *(more or [])],  # `--events a b` and `--events a --events b`
        triggers=triggers,
        settings=settings,
        now=now,
        commands=commands,
        transitions=transitions,
        as_json=as_json,
        strict=strict,
    )


@app.command()
@takes_settings(*BROKER)
def capture(
    settings: Settings,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File to write; - is standard output.", show_default=False)
    ],
) -> None:
    """Write all records of both inputs to a capture file."""
    from streams.app import runtime_config
    from streams.runtime.capture import capture as run_capture

    with opened(output, "wb") as file, counting("captured") as progress:
        count = asyncio.run(run_capture(runtime_config(settings, patience=PATIENCE), file.write, progress))
    typer.echo(f"{count} records captured", err=True)


@app.command()
@takes_settings(*BROKER)
def feed(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="Capture to read; - is standard input.", show_default=False)],
) -> None:
    """Write a capture file to the inputs, each record to the partition it came from."""
    from streams.app import runtime_config
    from streams.runtime.capture import feed as run_feed

    with opened(file, "rb") as lines, counting("fed") as progress:
        count = asyncio.run(run_feed(runtime_config(settings, patience=PATIENCE), lines, progress))
    typer.echo(f"{count} records fed", err=True)


def _text(value: Any) -> str:
    """Return a setting's value as `lapse.yaml` has it, secrets in the clear."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


# --- what verbs share ------------------------------------------------------------------------------------------------

PATIENCE = 5 * SECOND
"""How long a verb that somebody waits for tries to reach a broker; a worker has more patience."""


@contextlib.contextmanager
def opened(path: Path, mode: str) -> Iterator[IO[bytes]]:
    """Give a file, or standard input or output for `-`. Ends the command when it can't be opened."""
    if path == Path("-"):
        yield sys.stdin.buffer if mode == "rb" else sys.stdout.buffer
        return
    try:
        file = path.open(mode)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    with file:
        yield file


@contextlib.contextmanager
def counting(word: str) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many records are done, on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("") if console.is_terminal else contextlib.nullcontext() as status:
        yield lambda done: status.update(f"{done:,} records {word}") if status is not None else None


class UsageError(Exception):
    """The command can't be run as it was given."""

    exit_code = 2


def main() -> None:
    """Run the command line; what users can mend ends in one message, what they can't in a traceback."""
    # Only `run` has a log. For the other verbs, what matters of it reaches the user as an error of ours.
    logging.lastResort = logging.NullHandler()
    try:
        app()
    except Exception as error:
        code = 2 if isinstance(error, SettingsError) else getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        typer.echo(f"lapse: {error}{_setting_at_fault(error)}", err=True)
        sys.exit(code)


def _setting_at_fault(error: Exception) -> str:
    """Name the setting when no broker could be reached: whoever made the error does not know where it came from."""
    unreachable = type(error.__cause__).__name__ == "KafkaConnectionError"
    return " The setting is `brokers` (--brokers, LAPSE_BROKERS)." if unreachable else ""
