"""The command of a round: its content, id and instant (SPEC section 5)."""

from __future__ import annotations

import hashlib
from uuid import NAMESPACE_URL

import msgspec

from streams.core.cycle import Decision
from streams.core.model import MILLISECOND, Command, Lapse, Micros, Value

_compact = msgspec.json.Encoder().encode
_NAMESPACE = NAMESPACE_URL.bytes


def command_id(ticket_id: str, event_id: str, episode: int, wait: Micros) -> str:
    """Return the id of a round's command; the same lapse and wait give the same id, also after a crash.

    >>> command_id("5158", "s-9", 1, 0)
    '4934461d-9fc5-5a15-afa4-3de792f40688'
    """
    name = _compact(["lapse", ticket_id, event_id, episode, wait // MILLISECOND])
    # The same as `uuid.uuid5`, which takes three times as long: SHA-1 with the version and variant bits set.
    digits = hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def command(
    *,
    ticket_id: str,
    lapse: Lapse,
    wait: Micros,
    issued_at: Micros,
    decision: Decision,
    updated_at: Value,
    ruleset: str,
    revision: int | None = None,
) -> Command:
    """Build the command of a round whose decision has actions; `updated_at` is the ticket's."""
    return Command(
        command_id=command_id(ticket_id, lapse.event_id, lapse.episode, wait),
        ticket_id=ticket_id,
        issued_at=issued_at,
        lapse=lapse,
        wait=wait,
        triggers=decision.triggers,
        actions=decision.actions,
        expected=decision.expected if updated_at is None else {**decision.expected, "updated_at": updated_at},
        ruleset=ruleset,
        revision=revision,
    )
