"""What must hold of commands, their results and the changes of tickets, whatever failed on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streams.testing.zendesk import checks
from streams.testing.zendesk.tickets import Change

Command = Mapping[str, Any]


def breaches(commands: Sequence[Command], results: Iterable[Mapping[str, Any]], changes: Sequence[Change]) -> list[str]:
    """Return what does not hold, a line each. `commands` are in the order of their partitions."""
    found = [*checks.twice(changes), *checks.against_expected(changes, commands)]
    found += checks.out_of_order(changes, commands)
    told: dict[str, str] = {}
    for result in results:
        command_id = result["command_id"]
        if command_id in told:
            found.append(f"command {command_id}: a second result, {result['result']} after {told[command_id]}")
        told[command_id] = result["result"]
    ids = {command["command_id"] for command in commands}
    found += [f"command {command_id}: no result" for command_id in sorted(ids - told.keys())]
    found += [f"command {command_id}: a result, and no such command" for command_id in sorted(told.keys() - ids)]
    done = {change.command_id for change in changes if change.command_id is not None}
    for command_id, result in sorted(told.items()):
        if (result == "applied") != (command_id in done):
            what = "changed" if command_id in done else "not changed"
            found.append(f"command {command_id}: {result}, and its ticket was {what}")
    return found
