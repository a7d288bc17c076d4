"""Verbs for held commands: those that the `limit` of a trigger keeps back."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.root import UsageError, app
from streams.cli.setting_flags import BROKER, takes_settings
from streams.cli.shared import PATIENCE
from streams.core.escaping import json_text, one_line
from streams.settings.settings import Settings
from streams.wire import instants

if TYPE_CHECKING:
    from streams.operate.held import Held
    from streams.wire.shapes import HeldState

held = typer.Typer(no_args_is_help=True, help="Commands that the limit of a trigger holds: list, release, discard.")
app.add_typer(held, name="held")

OnlyTrigger = Annotated[
    list[str] | None,
    typer.Option("--trigger", metavar="ID", help="Only commands of this trigger; may be repeated.", show_default=False),
]
OnlyTicket = Annotated[
    list[str] | None,
    typer.Option("--ticket", metavar="T", help="Only commands for this ticket; may be repeated.", show_default=False),
]
Before = Annotated[
    str | None,
    typer.Option("--before", metavar="TIME", help="Only commands issued before this time.", show_default=False),
]


@held.command("list")
@takes_settings(*BROKER)
def list_held(
    settings: Settings,
    trigger: OnlyTrigger = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Print every command that is held and waits, oldest first in its partition."""
    from streams.assembly import runtime_config
    from streams.operate.held import read_held

    is_chosen = _chosen(trigger, None, None)
    shown = [one for one in asyncio.run(read_held(runtime_config(settings, patience=PATIENCE))) if is_chosen(one)]
    for one in shown:
        typer.echo(_json(_as_json(one)) if as_json else _line(one))
    if not as_json:
        typer.echo(f"{_commands(len(shown))} held", err=True)


@held.command("release")
@takes_settings(*BROKER)
def release(
    settings: Settings,
    trigger: OnlyTrigger = None,
    ticket: OnlyTicket = None,
    before: Before = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write held commands to the topic of commands, each once; without options all that wait.

    A released command has the header lapse.released_at. What was released, discarded or withdrawn before is skipped.
    """
    _settle(settings, "released", _chosen(trigger, ticket, before), as_json)


@held.command("discard")
@takes_settings(*BROKER)
def discard(
    settings: Settings,
    trigger: OnlyTrigger = None,
    ticket: OnlyTicket = None,
    before: Before = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Drop held commands for good; without options all that wait. They stay in the topic, marked as discarded."""
    _settle(settings, "discarded", _chosen(trigger, ticket, before), as_json)


def _settle(settings: Settings, state: HeldState, chosen: Callable[[Held], bool], as_json: bool) -> None:
    from streams.assembly import runtime_config
    from streams.operate.held import settle

    config = runtime_config(settings, patience=PATIENCE)
    done = asyncio.run(settle(config, state, chosen, lambda: time.time_ns() // 1_000))
    if as_json:
        typer.echo(_json({state: done.commands, "passed_over": done.passed_over, "triggers": dict(done.written)}))
        return
    typer.echo(f"{_commands(done.commands)} {state}")
    for trigger, count in done.written.most_common():
        typer.echo(f"  {one_line(trigger)}: {count}")
    if done.passed_over:
        typer.echo(f"{done.passed_over} passed over")


def _chosen(triggers: list[str] | None, tickets: list[str] | None, before: str | None) -> Callable[[Held], bool]:
    until = None if before is None else _instant(before)

    def is_chosen(one: Held) -> bool:
        return (
            (not triggers or any(trigger in triggers for trigger in one.triggers))
            and (not tickets or one.command.ticket_id in tickets)
            and (until is None or (instants.read(one.command.issued_at) or 0) < until)
        )

    return is_chosen


def _instant(text: str) -> int:
    found = instants.read(text)
    if found is None:
        raise UsageError(f"--before {text}: write a time with its offset, such as 2026-03-01T10:00:00Z.")
    return found


def _line(one: Held) -> str:
    command = one.command
    actions = ", ".join(action.field for action in command.actions)
    where = f"{one.partition}/{one.offset}"
    return one_line(f"{where}  {command.issued_at}  ticket {command.ticket_id}  {', '.join(one.triggers)}: {actions}")


def _as_json(one: Held) -> dict[str, Any]:
    return {
        "partition": one.partition,
        "offset": one.offset,
        "ticket_id": one.command.ticket_id,
        "command_id": one.command.command_id,
        "issued_at": one.command.issued_at,
        "triggers": one.triggers,
        "command": json.loads(one.value),
    }


def _commands(count: int) -> str:
    return "1 command" if count == 1 else f"{count:,} commands"


def _json(value: Any) -> str:
    return json_text(json.dumps(value, ensure_ascii=False))
