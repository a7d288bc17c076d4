"""`lapse apply`, and its pause."""

# ruff: noqa: PLC0415 - aiokafka and aiohttp take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
import functools
import getpass
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.process import until_stopped, warn_in_the_log
from streams.cli.root import UsageError, app
from streams.cli.setting_flags import APPLY, BROKER, LOGS, Verb, takes_settings
from streams.cli.shared import PATIENCE, opened
from streams.core.escaping import one_line
from streams.core.model import SECOND
from streams.settings.settings import Settings

if TYPE_CHECKING:
    from streams.zendesk.apply.client import Account
    from streams.zendesk.apply.config import ApplyConfig
    from streams.zendesk.apply.service import ApplyOptions

apply = typer.Typer(invoke_without_command=True, help="Carry commands out at Zendesk's API; pause and resume that.")
app.add_typer(apply, name="apply")

Author = Annotated[str | None, typer.Option("--author", metavar="A", help="Who says so.", show_default="the user")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="R", help="Why.", show_default=False)]


def _unless_a_verb_follows(verb: Verb) -> Verb:
    @functools.wraps(verb)
    def run(context: typer.Context, **given: Any) -> None:
        if context.invoked_subcommand is None:
            verb(context=context, **given)

    return run


@apply.callback()
@_unless_a_verb_follows
@until_stopped
@takes_settings(*BROKER, *APPLY, "session_timeout", "broker_patience", *LOGS, warn=warn_in_the_log)
def run(
    settings: Settings,
    context: typer.Context,
    forecast: Annotated[
        Path | None,
        typer.Option(
            "--forecast",
            metavar="FILE",
            help="Tell how much of the quota the commands of a backtest (--commands) would take, and end; - is "
            "standard input.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the forecast as one JSON object.")] = False,
    only_say: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent for the commands that wait, and end.")
    ] = False,
) -> None:
    """Carry the commands of action-commands out at Zendesk's API, until SIGTERM or Ctrl-C."""
    if forecast is not None:
        _forecast(settings, forecast, as_json)
        return
    if only_say:
        from streams.zendesk.apply.dry_run import dry_run

        dry_run(_config(settings, PATIENCE), _options(settings), lambda told: typer.echo(json.dumps(told)))
        return
    from streams.telemetry.logs import configure_logging, say
    from streams.zendesk.apply.service import run_apply

    log_format = settings.log_format or "auto"
    configure_logging(settings.log_level, log_format)
    raise typer.Exit(run_apply(_config(settings), _options(settings), lambda message: say(message, log_format)))


def _forecast(settings: Settings, file: Path, as_json: bool) -> None:
    from streams.documents.durations import render
    from streams.zendesk.apply.forecast import forecast

    with opened(file, "rb") as lines:
        told = forecast(lines, settings.zendesk_updates_per_minute, settings.apply_max_age)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "commands": told.commands,
                    "updates_per_minute": told.per_minute,
                    "minutes": round(told.minutes, 2),
                    "span_seconds": told.span // SECOND,
                    "longest_wait_seconds": told.longest_wait // SECOND,
                    "most_waiting": told.most_waiting,
                    "expired": told.expired,
                    "triggers": {trigger: round(minutes, 2) for trigger, minutes in told.by_trigger.items()},
                    "unusable": told.unusable,
                }
            )
        )
    else:
        typer.echo(f"{told.commands:,} commands are {told.minutes:,.1f} minutes of {told.per_minute} updates a minute")
        for trigger, minutes in told.by_trigger.items():
            typer.echo(f"  {one_line(trigger)}: {minutes:,.1f} minutes")
        typer.echo(f"most waiting at once: {told.most_waiting:,}, for {_in_seconds(told.longest_wait)} at most")
        typer.echo(f"older than apply_max_age ({render(settings.apply_max_age)}) before their turn: {told.expired:,}")
    if told.unusable:
        typer.echo(f"{file}: {told.unusable:,} lines are no commands", err=True)
        raise typer.Exit(1)


def _in_seconds(duration: int) -> str:
    from streams.documents.durations import render

    return render(duration - duration % SECOND)


def _options(settings: Settings) -> ApplyOptions:
    from streams.zendesk.apply.service import ApplyOptions

    return ApplyOptions(
        host=settings.apply_host,
        port=settings.apply_port,
        account=_account(settings),
        updates_per_minute=settings.zendesk_updates_per_minute,
        max_age=settings.apply_max_age,
        command_field=settings.zendesk_command_field,
        stops=_stops(settings) if settings.rules == "topic" else None,
    )


def _account(settings: Settings) -> Account:
    from streams.zendesk.apply.client import Account

    secret = settings.zendesk_client_secret
    wanted = {
        "zendesk_subdomain": settings.zendesk_url or settings.zendesk_subdomain,
        "zendesk_client_id": settings.zendesk_client_id,
        "zendesk_client_secret": secret,
    }
    lacking = [name for name, value in wanted.items() if not value]
    if lacking or secret is None:
        raise UsageError(
            f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set. Make a confidential OAuth client "
            "in Zendesk's Admin Center with the scopes tickets:read and tickets:write, and set the account's subdomain "
            "and the client's identifier and secret: LAPSE_ZENDESK_SUBDOMAIN, LAPSE_ZENDESK_CLIENT_ID, "
            "zendesk_client_secret_file."
        )
    url = settings.zendesk_url or f"https://{settings.zendesk_subdomain}.zendesk.com"
    return Account(url=url, client_id=settings.zendesk_client_id or "", client_secret=secret.get_secret_value())


def _config(settings: Settings, patience: int | None = None) -> ApplyConfig:
    import msgspec

    from streams.assembly import runtime_config
    from streams.zendesk.apply.config import ApplyConfig

    found = runtime_config(settings, patience)
    return ApplyConfig(**{name: getattr(found, name) for name in msgspec.structs.asdict(found)})


def _stops(settings: Settings) -> Any:
    """Return what makes the reader of the rules topic, which a worker has too."""
    from streams.core.revisions import Rulebook
    from streams.rules.source import compile_source
    from streams.worker.rules_reader import RulesReader

    book = Rulebook(compile_source)
    return lambda on_change: RulesReader(_config(settings), book, lambda: on_change(book.stops()))


@apply.command("pause")
@takes_settings(*BROKER)
def pause(settings: Settings, author: Author = None, reason: Reason = None) -> None:
    """Hold sending, in every process and over restarts, until `lapse apply resume`."""
    _say(settings, paused=True, author=author, reason=reason)


@apply.command("resume")
@takes_settings(*BROKER)
def resume(settings: Settings, author: Author = None, reason: Reason = None) -> None:
    """Let sending go on after a pause. A stop of the rules topic stays."""
    _say(settings, paused=False, author=author, reason=reason)


def _say(settings: Settings, *, paused: bool, author: str | None, reason: str | None) -> None:
    from streams.zendesk.apply.pause import read_pause, set_pause

    config = _config(settings, patience=PATIENCE)

    async def change() -> str:
        before = await read_pause(config)
        if (before is not None and before.paused) == paused:
            if before is None:
                return "not paused"
            why = f": {before.reason}" if before.reason else ""
            return f"already {'paused' if paused else 'resumed'} at {before.at} by {before.author or 'somebody'}{why}"
        now = time.time_ns() // 1_000
        await set_pause(config, paused=paused, now=now, author=author or _user(), reason=reason)
        return "paused" if paused else "resumed"

    typer.echo(one_line(asyncio.run(change())))


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, as in containers
        return None
