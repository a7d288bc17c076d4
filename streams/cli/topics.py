"""`lapse topics create` and `lapse topics check`."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from streams.cli.root import app
from streams.cli.setting_flags import BROKER, takes_settings
from streams.cli.shared import PATIENCE
from streams.settings.settings import Settings

topics = typer.Typer(no_args_is_help=True, help="The topics that a worker needs.")
app.add_typer(topics, name="topics")


@topics.command("create")
@takes_settings(*BROKER)
def create_topics(
    settings: Settings,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of each topic.", show_default="as existing ones, else 1")
    ] = None,
    replication: Annotated[int, typer.Option(min=-1, help="Of each topic; -1 is the broker's default.")] = -1,
) -> None:
    """Create the topics that are missing; existing topics are not changed."""
    from streams.assembly import runtime_config
    from streams.kafka.topics import create_topics as create

    made = asyncio.run(create(runtime_config(settings, patience=PATIENCE), partitions, replication))
    for name in made:
        typer.echo(f"created {name}")
    if not made:
        typer.echo("every topic exists")


@topics.command("check")
@takes_settings(*BROKER)
def check_topics(settings: Settings) -> None:
    """Report everything that is wrong with the topics, and warn of what may cause trouble later."""
    from streams.assembly import runtime_config
    from streams.kafka.topics import check_topics as check

    report = asyncio.run(check(runtime_config(settings, patience=PATIENCE)))
    for problem in report.problems:
        typer.echo(problem)
    for warning in report.warnings:
        typer.echo(f"warning: {warning}")
    if report.problems:
        raise typer.Exit(1)
    verdict = "all is well, with warnings" if report.warnings else "all is well"
    typer.echo(f"{len(report.existing)} topics of {report.existing[0].partitions} partitions: {verdict}")
