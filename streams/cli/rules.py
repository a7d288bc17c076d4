"""Verbs on trigger files: what is right and wrong with them."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.root import app


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
