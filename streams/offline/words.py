"""Formats values, counts and commands for people."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import msgspec

from streams.core.conditions import is_none
from streams.core.escaping import json_text, one_line
from streams.core.model import Cancellation, Cancelled, FieldValue, Micros, RoundOutcome, Value
from streams.core.trace import ConditionTrace
from streams.core.triggers import OPERATOR_ALIASES, WITHOUT_VALUE, Ruleset
from streams.documents.durations import render
from streams.rules.reference import Does, action_field
from streams.wire import instants

_SPOKEN = {operator: alias for alias, operator in OPERATOR_ALIASES.items()}
"""Text output shows `changed_to` where Zendesk's API says `value`."""


def shown(value: Value) -> str:
    """Format a field's value.

    >>> shown(None), shown(["vip", "web"]), shown(True), shown(360)
    ('no value', '[vip, web]', 'true', '360')
    """
    if is_none(value):
        return "no value"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def counted(number: int, word: str, words: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "pass", "passes"), counted(2, "pass", "passes"), counted(1200, "round")
    ('1 pass', '2 passes', '1,200 rounds')
    """
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def acts(actions: Iterable[FieldValue]) -> str:
    """Format a command's actions on one line.

    >>> acts([FieldValue("status", "solved"), FieldValue("add_tags", ["a"])])
    'status = solved; add_tags = [a]'
    """
    return "; ".join(map(act, actions))


def act(action: FieldValue) -> str:
    """Format one action. An action that is passed on without a value is shown by its name alone.

    >>> act(FieldValue("group_id", None)), act(FieldValue("end_messaging_session", None))
    ('group_id = no value', 'end_messaging_session')
    """
    about = action_field(action.field)
    if action.value is None and about is not None and about.does is Does.PASSES:
        return action.field
    return f"{action.field} = {shown(action.value)}"


class Asked(NamedTuple):
    """A condition as text: what it checks, and the value it found."""

    holds: bool
    asks: str
    saw: str


def asked(one: ConditionTrace) -> Asked:
    """Return a condition as it was evaluated."""
    condition = one.condition
    wanted = "" if condition.operator in WITHOUT_VALUE else f" {shown(condition.value)}"
    saw = shown(one.now)
    if shown(one.before) != saw:
        saw = f"{shown(one.before)} → {saw}"
    operator = _SPOKEN.get(condition.operator, condition.operator.value)
    return Asked(one.holds, f"{condition.field} {operator}{wanted}", saw)


def how_it_ended(outcome: RoundOutcome, join_wait: Micros) -> str:
    """Return a sentence on why a round ended as it did, based on the outcome alone."""
    return {
        RoundOutcome.COMMANDED: "Triggers fired; the command below is what they come to.",
        RoundOutcome.DRY_RUN: "Triggers fired; with `dry_run` no command is sent.",
        RoundOutcome.HELD_OUT: "Triggers fired; the `holdout` of the trigger file leaves this ticket alone, so no "
        "command is sent.",
        RoundOutcome.HELD: "Triggers fired; a `limit` of the trigger file was reached, so the command is held until "
        "somebody releases it.",
        RoundOutcome.NO_OP: "Triggers fired, but the ticket was already as they want it.",
        RoundOutcome.NO_MATCH: "No trigger matched.",
        RoundOutcome.UNJOINED: f"No update of the ticket came within `join_wait` ({render(join_wait)}).",
        RoundOutcome.CANCELLED: "Before the round was due, the customer came back, the session ended or was another "
        "one, or the ticket was deleted.",
        RoundOutcome.CLOSED: "The ticket was closed when the round began.",
        RoundOutcome.HISTORIC: "The lapse was before `act_from`: it is counted, and nothing is done.",
    }[outcome]


_CANCELLED_BY = {
    Cancelled.RESUMED: "the customer came back",
    Cancelled.SESSION_ENDED: "the session ended",
    Cancelled.OTHER_SESSION: "another session began",
    Cancelled.NEW_EPISODE: "a new episode began",
    Cancelled.SESSION_CHANGED: "the session changed",
    Cancelled.TICKET_DELETED: "the ticket was deleted",
    Cancelled.SESSION_FORGOTTEN: "the session was forgotten",
    Cancelled.EXPIRED: "the rows of the ticket expired",
}


def why_cancelled(by: Cancellation) -> str:
    """Return a sentence on what cancelled a round."""
    event = "" if by.event_id is None else f"event {by.event_id}, "
    return f"Before the round was due, {_CANCELLED_BY[by.what]} ({event}{instants.text(by.at)})."


def not_asked(wait: Micros, ruleset: Ruleset, stopped: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield (id, reason) of the triggers that a round with this wait does not evaluate. `stopped` are ids."""
    for trigger in ruleset.triggers:
        if not trigger.active:
            yield trigger.id, "inactive"
        elif trigger.id in stopped:
            yield trigger.id, "stopped"
        elif trigger.wait != wait:
            yield trigger.id, f"wait {render(trigger.wait)}"


def say(lines: Iterable[str]) -> None:
    """Print lines. On a terminal, lines are wrapped to its width, with continuations indented further."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    safe = map(one_line, lines)
    print("\n".join(safe if width is None else folded(safe, width)))


def say_json(value: object) -> None:
    """Print one JSON object on one line, in UTF-8 whatever the terminal's encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(json_text(msgspec.json.encode(value).decode()).encode() + b"\n")
    sys.stdout.buffer.flush()


def folded(lines: Iterable[str], width: int) -> Iterator[str]:
    """Wrap lines between words; continuation lines are indented by four more columns than the first.

    >>> list(folded(["  the first words of many", "", "short"], 24))
    ['  the first words of', '      many', '', 'short']
    """
    for line in lines:
        begins = len(line) - len(line.lstrip())
        yield from (
            [line]
            if len(line) <= width
            else textwrap.wrap(
                line,
                max(width, begins + 20),
                subsequent_indent=" " * (begins + 4),
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
