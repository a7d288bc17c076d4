"""Verbs that try out triggers on a capture, with the worker's engine and without a broker."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.root import UsageError, app
from streams.cli.setting_flags import DECISION, MAPPING, instant, takes_settings, zone
from streams.core.model import Micros
from streams.documents.durations import parse
from streams.settings.settings import Settings


@app.command()
@takes_settings(*DECISION, *MAPPING, act_from="beginning")
def backtest(
    *,
    settings: Settings,
    events: Annotated[list[Path], typer.Option(help="Captures; - is standard input.", show_default=False)],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More captures.")] = None,
    triggers: Annotated[Path | None, typer.Option(help="Trigger file.", show_default=False)] = None,
    as_it_was: Annotated[
        bool,
        typer.Option("--as-it-was", help="With the revisions that were in use, which the capture has along."),
    ] = False,
    against: Annotated[
        Path | None, typer.Option(help="Another trigger file, the old one: show what would differ.")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Examples of each difference.")] = 5,
    suggest_wait: Annotated[
        bool, typer.Option("--suggest-wait", help="Show what each wait would have spared, by when customers came back.")
    ] = False,
    suggest_limit: Annotated[
        bool, typer.Option("--suggest-limit", help="Suggest a `limit` for each trigger, by how often it fired.")
    ] = False,
    span: Annotated[str, typer.Option(metavar="DURATION", help="The `per` of the limits to suggest.")] = "10m",
    html: Annotated[Path | None, typer.Option(help="Write a page with plots here.")] = None,
    time_zone: Annotated[
        tzinfo, typer.Option(parser=zone, metavar="ZONE", help="Of the page's hours and weekdays.")
    ] = "UTC",  # type: ignore[assignment] # typer parses it
    commands: Annotated[Path | None, typer.Option(help="Write the commands here, one a line.")] = None,
    transitions: Annotated[Path | None, typer.Option(help="Write transitions and evaluations here.")] = None,
    now: Annotated[
        Micros | None, typer.Option(parser=instant, metavar="TIME", show_default="the present", help="The clock.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A line that holds no record is an error.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Partitions that run at a time.", show_default="one for each processor"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run triggers over captured records with the worker's own engine, and say what they would have done."""
    from streams.mapping.load import decode_by
    from streams.offline.command import Wanted
    from streams.offline.command import backtest as run_backtest

    _one_source_of_rules(triggers, as_it_was=as_it_was)
    if as_it_was and against is not None:
        raise UsageError("--against compares two trigger files; leave out --as-it-was.")

    per = _span(span)
    run_backtest(
        events=[*events, *(more or [])],  # `--events a b` and `--events a --events b`
        triggers=triggers,
        settings=settings,
        now=now,
        wanted=Wanted(
            against=against,
            samples=samples,
            suggest_wait=suggest_wait,
            suggest_limit=per if suggest_limit else None,
            html=html,
            time_zone=time_zone,
            commands=commands,
            transitions=transitions,
            as_json=as_json,
            strict=strict,
            jobs=jobs,
        ),
        decode=decode_by(settings),
    )


@app.command()
@takes_settings(*DECISION, *MAPPING, act_from="beginning")
def explain(
    *,
    settings: Settings,
    events: Annotated[list[Path], typer.Option(help="Captures; - is standard input.", show_default=False)],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More captures.")] = None,
    triggers: Annotated[Path | None, typer.Option(help="Trigger file.", show_default=False)] = None,
    as_it_was: Annotated[
        bool,
        typer.Option("--as-it-was", help="By the revision in use when each round ended, which the capture has along."),
    ] = False,
    ticket: Annotated[str, typer.Option(metavar="ID", help="Ticket id.", show_default=False)],
    event: Annotated[str | None, typer.Option(metavar="EVENT_ID", help="Only the rounds of this lapse.")] = None,
    now: Annotated[
        Micros | None, typer.Option(parser=instant, metavar="TIME", show_default="the present", help="The clock.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what happened to a ticket in a capture, and why: every trigger and condition of its rounds."""
    from streams.mapping.load import decode_by
    from streams.offline.explanation import explain as run_explain

    _one_source_of_rules(triggers, as_it_was=as_it_was)
    run_explain(
        events=[*events, *(more or [])],
        triggers=triggers,
        settings=settings,
        ticket=ticket,
        event=event,
        now=now,
        as_json=as_json,
        decode=decode_by(settings),
    )


def _span(text: str) -> Micros:
    try:
        per = parse(text)
    except ValueError as error:
        raise UsageError(f"--span {text}: {error}.") from None
    if not per:
        raise UsageError("--span must be longer than 0s.")
    return per


def _one_source_of_rules(triggers: Path | None, *, as_it_was: bool) -> None:
    if (triggers is None) != as_it_was:
        raise UsageError("Say which rules to use: --triggers FILE, or --as-it-was for those that were in use.")
