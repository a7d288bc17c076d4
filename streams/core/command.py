"""What a round asks for: the command, its id and its instant (SPEC section 5)."""

from __future__ import annotations

import json
from uuid import NAMESPACE_URL, uuid5

from streams.core.actions import WorkingCopy
from streams.core.model import MILLISECOND, Command, FieldValue, Lapse, Micros
from streams.core.triggers import Trigger

_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def command_id(ticket_id: str, event_id: str, episode: int, wait: Micros) -> str:
    """Name the command of one round; the same lapse and wait give the same name, whatever crashed.

    >>> command_id("5158", "s-9", 1, 0)
    '4934461d-9fc5-5a15-afa4-3de792f40688'
    """
    return str(uuid5(NAMESPACE_URL, _compact(["lapse", ticket_id, event_id, episode, wait // MILLISECOND])))


def command(
    *,
    ticket_id: str,
    lapse: Lapse,
    wait: Micros,
    issued_at: Micros,
    fired: list[Trigger],
    copy: WorkingCopy,
    actions: tuple[FieldValue, ...],
    ruleset: str,
) -> Command:
    """Put together the one command of a round; `actions` must not be empty."""
    return Command(
        command_id=command_id(ticket_id, lapse.event_id, lapse.episode, wait),
        ticket_id=ticket_id,
        issued_at=issued_at,
        lapse=lapse,
        wait=wait,
        triggers=tuple((trigger.id, trigger.title) for trigger in fired),
        actions=actions,
        expected=copy.expected(actions),
        ruleset=ruleset,
    )
