"""`lapse demo` and `lapse run`."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import structs
from pydantic import SecretStr

from streams.cli.process import until_stopped, warn_in_the_log
from streams.cli.root import UsageError, app
from streams.cli.setting_flags import RUN, SECURITY, takes_settings
from streams.cli.shared import PATIENCE
from streams.settings.settings import Settings, load_settings


@app.command()
def demo(
    *,
    brokers: Annotated[str | None, typer.Option(help="Brokers to use.", show_default="an embedded one")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so long.", show_default="Ctrl-C")] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=20_000, help="Records a second.")] = 60.0,
    triggers: Annotated[
        Path | None, typer.Option(help="Trigger file.", show_default="the demo's own", exists=True, dir_okay=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file, for --brokers.")] = None,
    runaway: Annotated[
        bool, typer.Option("--runaway", help="Let a bad trigger go live after a while, and its limit hold it.")
    ] = False,
    zendesk: Annotated[
        bool,
        typer.Option(
            "--zendesk", help="Show the whole loop, with a stand-in for Zendesk: webhooks, ingest, worker, apply."
        ),
    ] = False,
    traffic_only: Annotated[
        bool, typer.Option("--traffic-only", help="Only write traffic, into the topics of an installation of yours.")
    ] = False,
) -> None:
    """Show everything at work: broker, topics, traffic, worker and live page in one go."""
    if traffic_only:
        _write_traffic(brokers, rate, seconds, config)
        return
    from rich.console import Console

    from streams.demo.demo import TRIGGERS, Options, run_demo

    if runaway and triggers is not None:
        raise UsageError("--runaway has triggers of its own: leave --triggers out.")
    if runaway and zendesk:
        raise UsageError("--runaway and --zendesk are two demos: give one of them.")
    run, own_triggers = run_demo, TRIGGERS
    if zendesk:
        from streams.demo import loop

        run, own_triggers = loop.run_loop, loop.TRIGGERS
    options = Options(seconds=seconds, rate=rate, triggers=triggers or own_triggers, runaway=runaway)
    if brokers is not None:
        from streams.assembly import runtime_config

        settings = load_settings({"brokers": brokers}, os.environ, config)
        runtime = runtime_config(settings)
        security = {name: _text(getattr(settings, name)) for name in SECURITY if name in settings.model_fields_set}
        options = structs.replace(options, brokers=runtime.brokers, security=runtime.security, settings=security)
    run(options, Console())


def _write_traffic(brokers: str | None, rate: float, seconds: float | None, config: Path | None) -> None:
    from streams.assembly import runtime_config
    from streams.demo.sample_traffic import write_sample_traffic

    settings = load_settings({"brokers": brokers}, os.environ, config)
    written = write_sample_traffic(runtime_config(settings, patience=PATIENCE), rate, seconds)
    typer.echo(f"{written:,} records written")


@app.command()
@until_stopped
@takes_settings(*RUN, warn=warn_in_the_log)
def run(settings: Settings) -> None:
    """Run the worker until SIGTERM or Ctrl-C."""
    from streams.assembly import run_worker

    raise typer.Exit(run_worker(settings))


def _text(value: Any) -> str:
    """Return a setting's value as written in `lapse.yaml`, with secrets in plain text."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
