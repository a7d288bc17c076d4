"""What verbs that run until they are stopped share: how they begin, and what a SIGTERM does before they have begun."""

# ruff: noqa: PLC0415 - the logging library takes longer to import than most verbs take to run

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import typer

from streams.cli.setting_flags import Verb
from streams.core.errors import LapseError
from streams.settings.settings import DEFAULT_CONFIG, Settings
from streams.settings.sources import from_environment, from_file, from_flags


def until_stopped(verb: Verb) -> Verb:
    """Make a verb a process that runs until it is stopped.

    Startup errors are reported in the log format of the process, so that the whole log has one format. SIGTERM ends
    the process with exit code 0 while its libraries are still being imported: nothing has begun that could be lost.
    Later the verb handles the signal itself.
    """

    @functools.wraps(verb)
    def run(**flags: Any) -> None:
        signal.signal(signal.SIGTERM, _leave_with_0)
        try:
            verb(**flags)
        except LapseError as error:
            from streams.telemetry.logs import say

            say(str(error), _wanted_log_format(flags))
            raise typer.Exit(error.exit_code) from None

    return run


def _leave_with_0(*_: object) -> None:
    os._exit(0)


def _wanted_log_format(flags: Mapping[str, object]) -> Literal["text", "json", "auto"]:
    """Return the requested log format, even if other settings are invalid."""
    file = flags.get("config") or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
    layers = (
        from_flags({"log_format": flags.get("log_format")}),
        from_environment(os.environ, {"log_format"}),
        from_file(file, set(Settings.model_fields), frozenset(), []) if isinstance(file, Path) else {},
    )
    wanted = next((layer["log_format"].value for layer in layers if "log_format" in layer), "auto")
    return "text" if wanted == "text" else "json" if wanted == "json" else "auto"


def warn_in_the_log(warning: str, settings: Settings) -> None:
    """Log a warning about the settings."""
    from streams.telemetry.logs import say

    say(warning, settings.log_format or "auto", level="warning")
