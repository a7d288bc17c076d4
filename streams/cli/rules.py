"""Verbs for trigger files: check them, list fields and operators, import and export."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.root import UsageError, app
from streams.cli.shared import opened
from streams.core.escaping import json_text, one_line
from streams.rules.annotations import Form

if TYPE_CHECKING:
    from streams.rules.zendesk.command import Converted


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Trigger files; - is standard input.", show_default=False)
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="sarif and github show problems in place in a review.", show_default="text"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object: --format json.")] = False,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Name triggers and conditions that no test made true, or false.")
    ] = False,
) -> None:
    """Lint trigger files and run the tests in them."""
    from streams.offline.inline_tests import run_tests
    from streams.rules.check import check_files

    if as_json and form not in (None, Form.JSON):
        raise UsageError(f"--json is --format json, and --format {form} is asked for too; give one of them.")
    written = Form.JSON if as_json else form or Form.TEXT
    if coverage and written not in (Form.TEXT, Form.JSON):
        raise UsageError(f"--coverage is for --format text and json, not for {written}.")
    report = check_files(files, run_tests, coverage=coverage)
    typer.echo(report.written(written))
    raise typer.Exit(report.exit_code(strict=strict))


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def fields(
    name: Annotated[str | None, typer.Argument(metavar="[FIELD]", help="Only this one.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List what conditions can look at and actions can write, with values, meaning and an example each."""
    from streams.rules import reference_pages

    if as_json:
        typer.echo(json_text(json.dumps(reference_pages.fields_json(name), ensure_ascii=False)))
        return
    conditions, actions = reference_pages.field_entries(name)
    from streams.cli.reference_tables import print_fields

    print_fields(conditions, actions)


@app.command()
def operators(
    name: Annotated[str | None, typer.Argument(metavar="[OPERATOR]", help="Only this one.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List what conditions can ask, with aliases, what each takes, meaning and an example each."""
    from streams.rules import reference_pages

    if as_json:
        typer.echo(json_text(json.dumps(reference_pages.operators_json(name), ensure_ascii=False)))
        return
    entries = reference_pages.operator_entries(name)
    from streams.cli.reference_tables import print_operators

    print_operators(entries)


Definitions = Annotated[
    Path | None, typer.Option(help="The answer of GET /api/v2/triggers/definitions.json.", show_default=False)
]
Output = Annotated[Path, typer.Option("-o", "--output", help="File to write; - is standard output.")]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that exists.")]


@app.command("import")
def import_(  # noqa: PLR0917 - typer makes arguments and options of them
    files: Annotated[
        list[Path],
        typer.Argument(metavar="ZENDESK.json...", help="Answers of GET /api/v2/triggers.json.", show_default=False),
    ],
    definitions: Definitions = None,
    categories: Annotated[
        Path | None, typer.Option(help="The answer of GET /api/v2/trigger_categories.json.", show_default=False)
    ] = None,
    sessions_only: Annotated[
        bool, typer.Option("--sessions-only", help="Keep triggers inactive that ask nothing about the session.")
    ] = False,
    output: Output = Path("-"),
    force: Force = False,
) -> None:
    """Turn Zendesk's triggers into a trigger file; what can't be carried is named, and kept inactive."""
    from streams.rules.zendesk.command import convert_import

    _require_new(output, force=force)
    _write(convert_import(files, definitions, categories, sessions_only=sessions_only), output)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Trigger file.", show_default=False)],
    definitions: Definitions = None,
    output: Output = Path("-"),
    force: Force = False,
) -> None:
    """Turn a trigger file into JSON that Zendesk's API takes; what Zendesk can't do is named, and inactive."""
    from streams.rules.zendesk.command import convert_export

    _require_new(output, force=force)
    _write(convert_export(file, definitions), output)


def _require_new(output: Path, *, force: bool) -> None:
    """Refuse to overwrite a file, before anything is read."""
    if not force and output != Path("-") and output.is_file():
        raise UsageError(f"{output}: the file exists; name another one with -o, or write over it with --force.")


def _write(converted: Converted, output: Path) -> None:
    for message in converted.messages:
        typer.echo(one_line(message), err=True)
    with opened(output, "wb") as file:
        file.write(converted.text.encode())
    typer.echo(converted.summary, err=True)
