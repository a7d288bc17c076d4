"""Turns the output topics into figures for people, and into one line for each notable happening.

Receives the values of `session-transitions` and `action-commands` in the order read. Depends on neither Kafka nor a
screen.
"""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from streams.core.model import Kind, RoundOutcome
from streams.core.triggers import TAG_ACTIONS

Seconds = float
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Happening(msgspec.Struct, frozen=True):
    """One line of the story. `at` is in seconds since the epoch; `what` is one of the words in the screen's colours."""

    at: Seconds
    ticket: str
    what: str
    text: str


class Rate:
    """The rate of something over the last ten seconds."""

    SPAN: Seconds = 10.0

    def __init__(self, started: Seconds) -> None:
        """Start counting at `started`, so that the rate is not too low in the first seconds."""
        self._started = started
        self._added: deque[tuple[Seconds, int]] = deque()
        self.total = 0

    def add(self, now: Seconds, count: int = 1) -> None:
        """Count `count` occurrences."""
        self._added.append((now, count))
        self.total += count

    def per_second(self, now: Seconds) -> float:
        """Return the rate over the last ten seconds, or since the start if that is more recent."""
        while self._added and self._added[0][0] <= now - self.SPAN:
            self._added.popleft()
        return sum(count for _, count in self._added) / max(1.0, min(self.SPAN, now - self._started))


class Story:
    """The figures of one demo. Times are seconds since the epoch, durations seconds."""

    def __init__(self, started: Seconds, abandonment_reasons: frozenset[str], false_window: Seconds) -> None:
        """Start at `started`. A return within `false_window` makes an abandonment a false one."""
        self.started = started
        self.reasons = abandonment_reasons
        self.false_window = false_window
        self.fed = Rate(started)
        self.transitions = Rate(started)
        self.rounds = Rate(started)
        self.commands = Rate(started)
        self.kinds: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self.limited = False
        """Whether a trigger has a limit."""
        self.held: Counter[str] = Counter()
        """Held commands by the trigger whose limit holds them."""
        self.actions: Counter[str] = Counter()
        self.abandonments = 0
        self.false_abandonments = 0
        self.applied = 0
        self.repeated_commands = 0
        self.sessions: set[str] = set()
        self.abandoned_sessions: set[str] = set()
        self.delays: deque[Seconds] = deque(maxlen=500)
        self.dead_letters: Counter[str] = Counter()
        self._left: dict[str, tuple[Seconds, bool]] = {}
        self._back: dict[str, Seconds] = {}
        self._command_ids: set[str] = set()

    def record(self, value: bytes, now: Seconds) -> Happening | None:
        """Process one value of `session-transitions`; return the happening to show, if any."""
        told = _decode(value)
        match told["type"]:
            case "transition":
                return self._transition(told, now)
            case "activation":
                return self._activation(told, now)
            case _:
                return self._evaluation(told, now)

    def command(self, value: bytes, now: Seconds) -> Happening:
        """Process one value of `action-commands`."""
        told = _decode(value)
        self.commands.add(now)
        self.repeated_commands += told["command_id"] in self._command_ids
        self._command_ids.add(told["command_id"])
        triggers = [trigger["id"] for trigger in told["triggers"]]
        self.actions.update(triggers)
        waited = f" after {duration(told['wait_ms'] / 1000)}" if told["wait_ms"] else ""
        actions = ", ".join(_action(action) for action in told["actions"])
        text = f"{actions}  ({' + '.join(triggers)}{waited})"
        return Happening(_seconds(told["issued_at"]), told["ticket_id"], "command", text)

    def dead_letter(self, headers: Mapping[str, bytes]) -> None:
        """Count one dead letter by its code."""
        self.dead_letters[headers.get("lapse.error.code", b"?").decode()] += 1

    def delay(self) -> tuple[Seconds, Seconds] | None:
        """Return median and 90th percentile of the time from an event until its transition is read.

        None with fewer than two values.
        """
        if len(self.delays) < 2:
            return None
        return statistics.median(self.delays), statistics.quantiles(self.delays, n=10)[-1]

    def _transition(self, told: dict[str, Any], now: Seconds) -> Happening | None:
        self.transitions.add(now)
        kind, ticket, at = told["kind"], told["ticket_id"], _seconds(told["occurred_at"])
        self.kinds[kind] += 1
        if at >= self.started:
            self.delays.append(now - at)
        session = told["session_id"] or ticket
        self.sessions.add(session)
        if kind == Kind.LAPSED:
            reason = told["reason"]
            abandoned = reason in self.reasons
            if abandoned:
                self.abandonments += 1
                self.abandoned_sessions.add(session)
            self._left[ticket] = (at, abandoned)
            if not abandoned:
                return None
            times = "" if told["episode"] == 1 else f", time {told['episode']}"
            return Happening(at, ticket, "left", f"{told['from'] or 'nothing'} → inactive, {_words(reason)}{times}")
        left, abandoned = self._left.pop(ticket, (None, False))
        if kind == Kind.RESUMED:
            self._back[ticket] = at
            if left is None:
                return Happening(at, ticket, "back", "inactive → active")
            away = at - left
            false = abandoned and away <= self.false_window
            self.false_abandonments += false
            note = ", so that was a false abandonment" if false else ""
            return Happening(at, ticket, "back", f"inactive → active after {duration(away)}{note}")
        return None

    def _activation(self, told: dict[str, Any], now: Seconds) -> Happening | None:
        if told["partition"] != 0:
            return None  # one line is enough for all of them
        return Happening(now, "", "rules", f"revision {told['number']} by {told['author']}: {told['reason']}")

    def _evaluation(self, told: dict[str, Any], now: Seconds) -> Happening | None:
        self.rounds.add(now)
        outcome = told["outcome"]
        self.outcomes[outcome] += 1
        ticket = told["ticket_id"]
        self.fired.update(told["triggers"])
        if outcome == RoundOutcome.HELD:
            self.held.update(told["held_by"])
            return Happening(now, ticket, outcome, f"by the limit of {' and '.join(told['held_by'])}")
        if outcome == RoundOutcome.CANCELLED:
            # One line is enough for all the rounds that a return cancels.
            at = self._back.pop(ticket, None)
            return None if at is None else Happening(at, ticket, outcome, "what waited for this customer is off")
        text = {
            RoundOutcome.UNJOINED: "no ticket came: nothing to act on",
            RoundOutcome.CLOSED: "the ticket is closed: no trigger fires",
        }.get(outcome)
        return None if text is None else Happening(now, ticket, outcome, text)


def duration(seconds: Seconds) -> str:
    """Format a duration briefly.

    >>> duration(0.25), duration(4.04), duration(75)
    ('0.2 s', '4 s', '1 min 15 s')
    """
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _action(action: dict[str, Any]) -> str:
    field, value = action["field"], action["value"]
    shown = " ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
    return f"{field.replace('_', ' ')} {shown}" if field in TAG_ACTIONS else f"{field} = {shown}"


def _words(reason: str | None) -> str:
    return "no reason given" if reason is None else reason.replace("_", " ")


def _seconds(instant: str) -> Seconds:
    return datetime.fromisoformat(instant).timestamp()
