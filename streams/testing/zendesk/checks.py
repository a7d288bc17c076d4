"""What must hold of the record of changes, whatever failed on the way. Each check returns the breaches it found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from streams.testing.zendesk.tickets import Change

Command = Mapping[str, Any]
"""A command as SPEC section 5 has it."""


def against_expected(changes: Iterable[Change], commands: Iterable[Command]) -> list[str]:
    """Find changes made for a command while the ticket's values were others than the command's `expected`.

    `updated_at` is no part of it: any change moves it.
    """
    by_id = {command["command_id"]: command for command in commands}
    found = []
    for change in changes:
        if change.command_id is None:
            continue
        command = by_id.get(change.command_id)
        if command is None:
            found.append(f"change {change.id} of ticket {change.ticket_id}: no command {change.command_id}")
            continue
        for field, wanted in command.get("expected", {}).items():
            if field != "updated_at" and (was := _text(change.before.get(field))) != _text(wanted):
                found.append(
                    f"change {change.id} of ticket {change.ticket_id}, command {change.command_id}: "
                    f"{field} was {was!r}, and the command expected {_text(wanted)!r}"
                )
    return found


def twice(changes: Iterable[Change]) -> list[str]:
    """Find commands carried out more than once: a second change, or a comment written again."""
    counts = Counter(change.command_id for change in changes if change.command_id is not None)
    return [f"command {command_id}: {count} changes" for command_id, count in counts.items() if count > 1]


def out_of_order(changes: Iterable[Change], commands: Iterable[Command]) -> list[str]:
    """Find tickets whose commands were carried out in another order than that of `commands`."""
    place = {command["command_id"]: number for number, command in enumerate(commands)}
    made: dict[str, list[int]] = defaultdict(list)
    for change in changes:
        if change.command_id in place:
            made[change.ticket_id].append(place[change.command_id])
    return [f"ticket {ticket}: commands {order}" for ticket, order in made.items() if order != sorted(order)]


def _text(value: Any) -> Any:
    """Bring values of both sides to one form: ids and numbers as text, lists sorted, no value as None."""
    if value is None or value == "":
        return None
    if isinstance(value, list | tuple):
        return sorted(str(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
