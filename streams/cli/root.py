"""The root of the command line: all verbs are registered here, and their errors are reported here.

Exit codes: 0 success; 1 something failed, or errors were found; 2 wrong usage or settings.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from streams.core.errors import LapseError, Refused
from streams.core.escaping import lines

app = typer.Typer(
    name="lapse",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lapse {version('lapse')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Sees customers leave a messaging conversation and asks for what should happen to their tickets."""


class UsageError(Refused):
    """The command can't be run with the given arguments."""


def main() -> None:
    """Run the command line. Errors that users can fix end in one message; all others in a traceback."""
    # Only `run` has a log. For the other verbs, important messages reach the user as Lapse errors.
    logging.lastResort = logging.NullHandler()
    try:
        app()
    except LapseError as error:
        typer.echo(lines(f"lapse: {error}"), err=True)
        sys.exit(error.exit_code)
