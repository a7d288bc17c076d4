"""The command line's root: what all verbs hang on, and where their errors end.

Exit codes: 0 all went well; 1 something failed, or errors were found; 2 wrong usage or settings.
"""

from __future__ import annotations

import logging
import sys

import typer

from streams.core.errors import LapseError, Refused, Unreachable

app = typer.Typer(
    name="lapse",
    help="Sees customers leave a messaging conversation and asks for what should happen to their tickets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class UsageError(Refused):
    """The command can't be run as it was given."""


def main() -> None:
    """Run the command line; what users can mend ends in one message, what they can't in a traceback."""
    # Only `run` has a log. For the other verbs, what matters of it reaches the user as an error of ours.
    logging.lastResort = logging.NullHandler()
    try:
        app()
    except LapseError as error:
        # Whoever made the error does not know where the addresses came from.
        hint = " The setting is `brokers` (--brokers, LAPSE_BROKERS)." if isinstance(error, Unreachable) else ""
        typer.echo(f"lapse: {error}{hint}", err=True)
        sys.exit(error.exit_code)
