"""How much of Zendesk's quota the commands of a backtest would take: `lapse apply --forecast`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from streams.core.model import SECOND, Micros
from streams.wire import instants
from streams.zendesk.apply.plan import Command, NotACommandError, decode_command

_MINUTE: Micros = 60 * SECOND


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What the commands would take. Durations are in microseconds."""

    commands: int
    per_minute: int
    """The quota."""
    minutes: float
    """Minutes of the whole quota that the commands are."""
    span: Micros
    """From the first command to the last one."""
    longest_wait: Micros
    """How long the command that waits longest would wait for the quota."""
    most_waiting: int
    """How many would wait at the worst moment."""
    expired: int
    """How many would be older than `apply_max_age` before their turn."""
    by_trigger: dict[str, float]
    """Minutes of the quota by trigger; a command of several triggers counts for each."""
    unusable: int
    """Lines that are no commands."""


def forecast(lines: Iterable[bytes], per_minute: int, max_age: Micros) -> Forecast:
    """Play the commands of these lines against a quota: each is issued at its time and waits for its turn."""
    issued: list[Micros] = []
    triggers: Counter[str] = Counter()
    unusable = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            command: Command = decode_command(line)
        except NotACommandError:
            unusable += 1
            continue
        issued.append(instants.read(command.issued_at) or 0)
        triggers.update(command.trigger_ids)
    issued.sort()
    longest, most, expired = _play(issued, per_minute, max_age)
    return Forecast(
        commands=len(issued),
        per_minute=per_minute,
        minutes=len(issued) / per_minute,
        span=issued[-1] - issued[0] if issued else 0,
        longest_wait=longest,
        most_waiting=most,
        expired=expired,
        by_trigger={trigger: count / per_minute for trigger, count in triggers.most_common()},
        unusable=unusable,
    )


def _play(issued: list[Micros], per_minute: int, max_age: Micros) -> tuple[Micros, int, int]:
    """Return the longest wait, the most that wait at once, and how many expire.

    `issued` is sorted. In no minute are more sent than the quota. An expired command takes nothing of it.
    """
    sent: list[Micros] = []
    """Instants of sending, in order."""
    longest, most, expired, begun = 0, 0, 0, 0
    for at in issued:
        turn = at
        if len(sent) >= per_minute:
            turn = max(at, sent[-per_minute] + _MINUTE)
        if turn - at >= max_age:
            expired += 1
            continue
        sent.append(turn)
        longest = max(longest, turn - at)
        while begun < len(sent) and sent[begun] <= at:
            begun += 1
        most = max(most, len(sent) - begun)
    return longest, most, expired
