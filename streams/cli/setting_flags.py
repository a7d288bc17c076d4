"""Settings as flags of a verb. Flags override the environment, `lapse.yaml` and defaults (SPEC section 7)."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from pydantic.fields import FieldInfo

from streams.core.model import Micros
from streams.documents.durations import render
from streams.settings.settings import SECRET_FILES, SECRETS, Settings, Use, load_settings
from streams.settings.values import duration, positive_duration
from streams.wire import instants

Verb = Callable[..., None]

SECURITY = tuple(name for name in Settings.model_fields if name.startswith(("security_", "sasl_", "ssl_")))
BROKER = tuple(name for name, field in Settings.model_fields.items() if Use.CONNECTION in field.metadata)
DECISION = tuple(name for name, field in Settings.model_fields.items() if Use.DECISION in field.metadata)
INGEST = tuple(name for name, field in Settings.model_fields.items() if Use.INGEST in field.metadata)
APPLY = tuple(name for name, field in Settings.model_fields.items() if Use.APPLY in field.metadata)
FILE = tuple(name for name, field in Settings.model_fields.items() if Use.FILE in field.metadata)
RUN = tuple(name for name in Settings.model_fields if name not in {*INGEST, *APPLY, *FILE})
LOGS = ("log_level", "log_format")


MAPPING = ("mapping", "schema_registry_url", "schema_registry_username", "schema_registry_password")


def _echo(warning: str, _: Settings) -> None:
    typer.echo(f"lapse: {warning}", err=True)


def takes_settings(
    *names: str, warn: Callable[[str, Settings], None] = _echo, **defaults: str
) -> Callable[[Verb], Verb]:
    """Add to a verb a flag for each of these settings, and `--config`; the verb is called with `settings=Settings`.

    `defaults` adds flags for settings that have a different default for this verb. `warn` shows warnings about the
    settings before the verb is called.
    """

    def decorate(verb: Verb) -> Verb:
        own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "settings"]
        config = _parameter("config", Path | None, typer.Option(help="Settings file.", show_default="lapse.yaml"))
        files = [f"{name}_file" for name in names if name in SECRETS]
        flags = [_parameter(name, *_flag(name, defaults.get(name))) for name in [*names, *files, *defaults]]

        def with_settings(config: Path | None, **given: Any) -> None:
            chosen = {name: given.pop(name) for name in [*names, *files, *defaults]}
            settings = load_settings(chosen, os.environ, config, defaults)
            for warning in settings.warnings:
                warn(warning, settings)
            verb(settings=settings, **given)

        # Typer reads a verb's flags from its signature, so they must be part of it.
        with_settings.__name__, with_settings.__doc__ = verb.__name__, verb.__doc__
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, config, *flags]]
        with_settings.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_settings.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_settings

    return decorate


def _flag(name: str, default: str | None) -> tuple[Any, Any]:
    """Return the type and the option of a setting's flag. The value stays text and is parsed like one from a file."""
    if name in SECRET_FILES:
        panel = "Connection" if SECRET_FILES[name] in BROKER else "Settings"
        text = f"File that holds `{SECRET_FILES[name]}`."
        return str | None, typer.Option(help=text, show_default=False, metavar="FILE", rich_help_panel=panel)
    field = Settings.model_fields[name]
    panel = "Connection" if name in BROKER else "Settings"
    shown = default or default_text(field)
    if isinstance(field.default, bool):
        return bool | None, typer.Option(help=field.description, show_default=shown, rich_help_panel=panel)
    option = typer.Option(help=field.description, show_default=shown or False, metavar="TEXT", rich_help_panel=panel)
    return str | None, option


def default_text(field: FieldInfo) -> str:
    """Return a setting's default as it would be written in a file; empty if there is none."""
    default = field.default
    if isinstance(default, dict):
        return ",".join(f"{name}={render(value)}" for name, value in sorted(default.items()))
    if any(getattr(reader, "func", None) in {duration, positive_duration} for reader in field.metadata):
        return render(default)
    if isinstance(default, tuple | frozenset):
        return ",".join(sorted(default))
    return str(default).lower() if isinstance(default, bool) else "" if default is None else str(default)


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def instant(text: str) -> Micros:
    """Parse an RFC 3339 time given on the command line."""
    read = instants.read(text)
    if read is not None:
        return read
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time such as 2026-03-01T10:00:00Z") from None
    if when.tzinfo is None:
        raise typer.BadParameter(f"{text!r} lacks its offset, such as Z or +01:00")
    return instants.micros(when)


def zone(name: str) -> tzinfo:
    """Parse a time zone given on the command line."""
    if name == "UTC":
        return UTC  # needs no time zone database
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(
            f"{name!r} is no time zone such as Europe/Berlin, or this machine lacks tzdata"
        ) from None
