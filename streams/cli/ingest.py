"""`lapse ingest`."""

# ruff: noqa: PLC0415 - aiokafka and aiohttp take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.process import until_stopped, warn_in_the_log
from streams.cli.root import UsageError, app
from streams.cli.setting_flags import BROKER, INGEST, LOGS, takes_settings
from streams.cli.shared import PATIENCE, opened
from streams.core.escaping import one_line
from streams.settings.settings import Settings
from streams.settings.values import each_secret


@app.command()
@until_stopped
@takes_settings(*BROKER, *INGEST, "broker_patience", *LOGS, warn=warn_in_the_log)
def ingest(
    settings: Settings,
    file: Annotated[
        Path | None,
        typer.Option(
            "--replay", metavar="FILE", help="Write the records of saved bodies and end; - is standard input."
        ),
    ] = None,
    silence: Annotated[
        bool,
        typer.Option("--silence", help="Instead, make sessions inactive whose customer is silent (setting `silence`)."),
    ] = False,
) -> None:
    """Receive Zendesk's webhooks and write the two input topics, until SIGTERM or Ctrl-C."""
    if silence:
        if file is not None:
            raise UsageError("--silence receives nothing: leave --replay out.")
        from streams.assembly import run_silence

        raise typer.Exit(run_silence(settings))
    if file is not None:
        _replay(settings, file)
        return
    from streams.assembly import runtime_config
    from streams.telemetry.logs import configure_logging, say
    from streams.zendesk.service import IngestOptions, run_ingest

    log_format = settings.log_format or "auto"
    configure_logging(settings.log_level, log_format)
    options = IngestOptions(
        host=settings.ingest_host,
        port=settings.ingest_port,
        secrets=tuple(each_secret(settings.ingest_secrets)),
        max_age=settings.ingest_max_age,
        keep_bodies=settings.ingest_keep_bodies,
        command_field=settings.zendesk_command_field,
    )
    raise typer.Exit(run_ingest(runtime_config(settings), options, lambda message: say(message, log_format)))


def _replay(settings: Settings, file: Path) -> None:
    from streams.assembly import runtime_config
    from streams.zendesk.replay import replay

    config = runtime_config(settings, patience=PATIENCE)
    with opened(file, "rb") as lines:
        done = asyncio.run(replay(config, str(file), lines, settings.zendesk_command_field))
    for problem in done.problems:
        typer.echo(one_line(problem), err=True)
    typer.echo(", ".join(f"{count} {kind}" for kind, count in sorted(done.kinds.items())) or "nothing to write")
    if done.problems:
        raise typer.Exit(1)
