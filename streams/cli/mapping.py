"""The verb for mapping files, which shows how they read captured records."""

# ruff: noqa: PLC0415 - loading what the verb uses takes longer than most verbs take to run

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.cli.root import app
from streams.cli.setting_flags import MAPPING, instant, takes_settings
from streams.core.model import Micros
from streams.settings.settings import Settings


@app.command("map")
@takes_settings(*MAPPING[1:])
def map_(
    settings: Settings,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Mapping file.", show_default=False)],
    events: Annotated[list[Path], typer.Option(help="Captures; - is standard input.", show_default=False)],
    now: Annotated[
        Micros | None, typer.Option(parser=instant, metavar="TIME", show_default="the present", help="The clock.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each record.")] = False,
) -> None:
    """Show what a mapping makes of captured records, one by one, and what it does not find."""
    from streams.mapping.load import mappers_of
    from streams.offline.mapped import show_mapped

    mappers = mappers_of(settings.model_copy(update={"mapping": file}))
    raise typer.Exit(show_mapped(events, mappers, now=now, as_json=as_json))
