"""Verbs for rules that change while workers run."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated

import typer

from streams.cli.root import UsageError, app
from streams.cli.setting_flags import BROKER, takes_settings
from streams.cli.shared import PATIENCE
from streams.core.escaping import json_text, one_line
from streams.core.model import SECOND
from streams.settings.settings import Settings

rules = typer.Typer(no_args_is_help=True, help="Rules that change while workers run.")
app.add_typer(rules, name="rules")


@rules.command()
@takes_settings(*BROKER)
def shadow(
    settings: Settings,
    report: Annotated[
        bool, typer.Option("--report", help="Tell what the shadow would have done differently, from its records.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only records written since: 09:00 (UTC, the last one that has passed), or RFC 3339.",
            show_default="all there are",
        ),
    ] = None,
    revision: Annotated[
        int | None, typer.Option(metavar="N", help="That of the shadow.", show_default="the newest that differed")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell what a shadow, a candidate evaluated beside the live rules, would have done differently.

    Samples name the ticket and the event of the lapse: `lapse explain --ticket ID --event EVENT_ID` shows each trigger
    and condition of it, with either trigger file, over a capture.
    """
    from streams.assembly import runtime_config
    from streams.operate.shadow_report import ShadowReport, as_lines, as_object, begin_of, read_shadow_reports

    if not report:
        raise UsageError("Say what to do: --report tells what the shadow would have done differently.")
    try:
        begin = None if since is None else begin_of(since, int(time.time() * SECOND))
    except ValueError as error:
        raise UsageError(f"--since {error}.") from None
    config = runtime_config(settings, patience=PATIENCE)
    found = asyncio.run(read_shadow_reports(config, begin)).of(revision)
    if as_json:
        typer.echo(json_text(json.dumps(as_object(found or ShadowReport(revision)), ensure_ascii=False)))
    elif found is None:
        which = "No shadow" if revision is None else f"Revision {revision}, as a shadow, never"
        when = "" if since is None else f" since {one_line(since)}"
        typer.echo(f"{which} differed from the live rules{when}.")
    else:
        for line in as_lines(found):
            typer.echo(line)
