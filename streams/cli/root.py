"""The command line's root: what all verbs hang on, and where their errors end.

Exit codes: 0 all went well; 1 something failed, or errors were found; 2 wrong usage or settings.
"""

from __future__ import annotations

import logging
import sys

import typer

from streams.settings.settings import SettingsError

app = typer.Typer(
    name="lapse",
    help="Sees customers leave a messaging conversation and asks for what should happen to their tickets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class UsageError(Exception):
    """The command can't be run as it was given."""

    exit_code = 2


def main() -> None:
    """Run the command line; what users can mend ends in one message, what they can't in a traceback."""
    # Only `run` has a log. For the other verbs, what matters of it reaches the user as an error of ours.
    logging.lastResort = logging.NullHandler()
    try:
        app()
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        typer.echo(f"lapse: {error}{_setting_at_fault(error)}", err=True)
        sys.exit(code)


def exit_code(error: Exception) -> int | None:
    """Return the code that an error of the user's ends with; None for any other error."""
    code = 2 if isinstance(error, SettingsError) else getattr(error, "exit_code", None)
    return code if isinstance(code, int) else None


def _setting_at_fault(error: Exception) -> str:
    """Name the setting when no broker could be reached: whoever made the error does not know where it came from."""
    unreachable = type(error.__cause__).__name__ == "KafkaConnectionError"
    return " The setting is `brokers` (--brokers, LAPSE_BROKERS)." if unreachable else ""
