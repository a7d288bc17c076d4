"""What verbs that run until they are stopped share: errors and warnings of the start go to the log, in its format."""

# ruff: noqa: PLC0415 - the logging library takes longer to import than most verbs take to run

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import typer

from streams.cli.setting_flags import Verb
from streams.core.errors import LapseError
from streams.settings.settings import DEFAULT_CONFIG, Settings
from streams.settings.sources import from_environment, from_file, from_flags


def in_the_log_format(verb: Verb) -> Verb:
    """Report startup errors in the log format of the process, so that the whole log has one format."""

    @functools.wraps(verb)
    def run(**flags: Any) -> None:
        try:
            verb(**flags)
        except LapseError as error:
            from streams.telemetry.logs import say

            say(str(error), _wanted_log_format(flags))
            raise typer.Exit(error.exit_code) from None

    return run


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
