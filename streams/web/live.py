"""What the pages show, worked out from the journal and the tables: figures, bars, rounds, a ticket's story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from streams.config.durations import render
from streams.core.cycle import Rules
from streams.core.model import SECOND, Micros, PendingRound, RoundOutcome, SessionRow, TicketRow
from streams.core.session import ACTIVE, INACTIVE
from streams.core.trace import RoundTrace, trace_round
from streams.core.triggers import Ruleset
from streams.offline.words import acts, how_it_ended, not_asked
from streams.telemetry.definitions import DEFINITIONS
from streams.web.journal import Journal, Round, Sums, by_count
from streams.web.status import Tables
from streams.wire import encode, instants
from streams.wire.state import session_state, ticket_state
from streams.wire.trace import round_trace

HOURS_SHOWN = 6
BAR_MINUTES = 15
ROUNDS_SHOWN = 8
WAITS_SHOWN = 8
REASONS_SHOWN = 8

_PLOT_WIDTH, _PLOT_HEIGHT, _PLOT_LEFT, _PLOT_TOP = 720.0, 120.0, 60.0, 14.0
_STEPS = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0)


class Explainer(NamedTuple):
    """What rounds are explained by: the rules in use."""

    ruleset: Ruleset
    rules: Rules
    join_wait: Micros


# --- the front page --------------------------------------------------------------------------------------------------


class Tile(NamedTuple):
    """One figure, what it is called, what it is of, and its definition."""

    figure: str
    name: str
    of: str
    means: str


def tiles(journal: Journal, sessions: Counter[str] | None, now: float) -> list[Tile]:
    """Return the figures at the top. Rates are those of the last hour and of the last 24."""
    hour, day = journal.last(60, now), journal.last(24 * 60, now)
    left = sum(count for state, count in (sessions or {}).items() if state == INACTIVE)
    here = "–" if sessions is None else f"{sessions[ACTIVE]:,}"
    gone = "–" if sessions is None else f"{left:,}"
    return [
        Tile(here, "open now", "sessions of this worker", "Sessions whose latest state is active."),
        Tile(gone, "inactive now", "sessions of this worker", "Sessions whose latest state is inactive, not ended."),
        Tile(
            percent(hour.abandonment_rate),
            "abandonment rate, last hour",
            f"{hour.abandoned:,} of {hour.sessions:,} sessions",
            DEFINITIONS["abandonment rate"],
        ),
        Tile(
            percent(day.abandonment_rate),
            "abandonment rate, last 24 h",
            f"{day.abandoned:,} of {day.sessions:,} sessions",
            DEFINITIONS["abandonment rate"],
        ),
        Tile(
            percent(day.false_abandonment_rate),
            "of them false, last 24 h",
            f"{day.false_abandonments:,} of {day.abandonments:,} abandonments",
            DEFINITIONS["false abandonment rate"],
        ),
    ]


class Bar(NamedTuple):
    """One bar of the plot, in the units of its view box."""

    x: float
    y: float
    width: float
    height: float
    words: str
    start: str
    sums: Sums


class Plot(NamedTuple):
    """The abandonment rate over the last hours."""

    bars: list[Bar]
    lines: list[tuple[float, str]]
    """(y, label) of the lines behind."""
    hours: list[tuple[float, str]]
    """(x, label) along the bottom."""
    width: float = _PLOT_LEFT + _PLOT_WIDTH
    height: float = _PLOT_TOP + _PLOT_HEIGHT + 26


def plot(journal: Journal, now: float) -> Plot:
    """Return the bars of the last hours, and a scale that fits them."""
    series = journal.series(HOURS_SHOWN * 60, BAR_MINUTES, now)
    most = max((sums.abandonment_rate or 0.0 for _, sums in series), default=0.0)
    top = next((step for step in _STEPS if step >= most), 1.0)
    wide = _PLOT_WIDTH / len(series)
    bars, hours = [], []
    for place, (start, sums) in enumerate(series):
        x = _PLOT_LEFT + place * wide
        height = (min(sums.abandonment_rate or 0.0, top) / top) * _PLOT_HEIGHT
        begins, ends = clock(start), clock(start + BAR_MINUTES * 60)
        words = f"{begins} to {ends}: {sums.abandoned:,} of {sums.sessions:,} sessions abandoned"
        if sums.sessions:
            words += f", {percent(sums.abandonment_rate)}"
        bars.append(
            Bar(x + 1.5, _PLOT_TOP + _PLOT_HEIGHT - height, wide - 3, height, words, f"{begins} to {ends}", sums)
        )
        if start % 3600 == 0:
            hours.append((x, begins))
    lines = [(_PLOT_TOP + _PLOT_HEIGHT * (1 - share), f"{100 * top * share:g} %") for share in (0.0, 0.5, 1.0)]
    return Plot(bars, lines, hours)


def reasons(journal: Journal, now: float) -> list[tuple[str, int, float]]:
    """Return (reason, lapses, share of the commonest) of the last 24 hours, the commonest first."""
    ranked = by_count(journal.last(24 * 60, now).lapses)[:REASONS_SHOWN]
    most = ranked[0][1] if ranked else 1
    return [(reason, count, count / most) for reason, count in ranked]


class Fired(NamedTuple):
    """One round in the list of those that fired."""

    id: str
    ticket_id: str
    at: str
    reason: str
    wait: str
    triggers: str
    outcome: str
    does: str


def fired(found: Sequence[Round]) -> list[Fired]:
    """Return rounds as lines of a table."""
    return [
        Fired(
            one.id,
            one.evaluation.ticket_id,
            moment(one.committed_at),
            "none" if one.evaluation.lapse is None else one.evaluation.lapse.reason or "none",
            render(one.evaluation.wait),
            ", ".join(one.evaluation.triggers) or "–",
            one.evaluation.outcome.value.replace("_", " "),
            "" if one.command is None else acts(one.command.actions),
        )
        for one in found
    ]


def waiting(tables: Tables, now: float) -> list[tuple[str, str, str]]:
    """Return (ticket id, wait, time left) of the rounds that are due next."""
    return [(due.ticket_id, render(due.wait), _left(due.at / SECOND - now)) for due in tables.upcoming(WAITS_SHOWN)]


# --- a round ---------------------------------------------------------------------------------------------------------


class Explained(NamedTuple):
    """One round with its explanation."""

    id: str
    round: Round
    why: str
    trace: RoundTrace | None
    skipped: list[tuple[str, str]]


def explained(found: Round, by: Explainer) -> Explained:
    """Explain a round that is kept: by the rules in use, on what it looked at then."""
    said = found.evaluation
    trace = None
    if said.lapse is not None and said.ticket is not None and said.outcome in _ASKED:
        trace = trace_round(by.rules, said.wait, said.lapse, said.ticket.fields or {})
    skipped = list(not_asked(said.wait, by.ruleset)) if trace is not None else []
    return Explained(found.id, found, how_it_ended(said.outcome, by.join_wait), trace, skipped)


_ASKED = {RoundOutcome.COMMANDED, RoundOutcome.DRY_RUN, RoundOutcome.NO_OP, RoundOutcome.NO_MATCH}


def explained_object(one: Explained) -> dict[str, Any]:
    """Return a round for tools: its evaluation record, why it ended so, its trace and its command."""
    trace: dict[str, Any] = {"passes": 0, "fired": [], "not_fired": [], "actions": []}
    command = one.round.command
    return {
        "id": one.id,
        **msgspec.to_builtins(encode.told_record(one.round.evaluation)),
        "why": one.why,
        **(trace if one.trace is None else round_trace(one.trace)),
        "not_asked": [{"id": trigger, "why": reason} for trigger, reason in one.skipped],
        "command": None if command is None else msgspec.to_builtins(encode.command_record(command)),
    }


# --- a ticket --------------------------------------------------------------------------------------------------------


class Ticket(NamedTuple):
    """What this worker knows of a ticket."""

    id: str
    partition: int | None
    held: bool
    ticket: TicketRow | None
    session: SessionRow | None
    rounds: list[Explained]
    transitions: list[dict[str, Any]]
    sentences: list[str]


def ticket(ticket_id: str, tables: Tables, held: set[int], journal: Journal, by: Explainer) -> Ticket:
    """Look a ticket up."""
    rows = list(tables.find(ticket_id))
    first = rows[0] if rows else None
    partition = first.partition if first is not None else tables.partition_of(ticket_id)
    found = Ticket(
        ticket_id,
        partition,
        partition in held,
        next((one.ticket for one in rows if one.ticket is not None), None),
        next((one.session for one in rows if one.session is not None), None),
        [explained(one, by) for one in journal.rounds_of(ticket_id)],
        [msgspec.to_builtins(encode.told_record(one)) for one in journal.transitions_of(ticket_id)],
        [],
    )
    found.sentences.extend(_sentences(found, len({one.partition for one in rows}) > 1))
    return found


def _sentences(found: Ticket, scattered: bool) -> list[str]:
    """Answer *why did nothing happen?*, the most telling first."""
    if found.ticket is None and found.session is None:
        if found.partition is not None and not found.held:
            return [f"Its records belong into partition {found.partition}, which another worker holds: ask there."]
        return ["No record of this ticket was ever taken, or its rows have expired."]
    told = []
    if scattered:
        told.append("Its two sides lie in different partitions: their producers use different partitioners.")
    if found.session is None or found.session.state is None:
        told.append("No session state of it is known, so that nothing could lapse. Do both topics have the same keys?")
    elif found.session.state == ACTIVE:
        told.append(f"Its session is active, since {instants.text(found.session.since)}: nothing waits.")
    elif found.session.pending:
        told.extend(map(_waits_for, found.session.pending))
    elif found.session.state == INACTIVE and not found.session.episode:
        told.append("Its session was inactive when it was first heard of, which counts as no lapse here.")
    elif found.session.state == INACTIVE:
        told.append(f"Its session is inactive, since {instants.text(found.session.since)}; its rounds are over.")
    else:
        told.append(f"Its session is {found.session.state}, since {instants.text(found.session.since)}.")
    if found.ticket is None or found.ticket.fields is None:
        told.append("No ticket of it is known: rounds wait for its update, or it was deleted.")
    if not found.rounds and found.session is not None and found.session.episode:
        told.append("Of its rounds none is among those kept here; `lapse explain` tells of all in a capture.")
    return told


def _waits_for(entry: PendingRound) -> str:
    if entry.parked_until is None:
        return f"The round with wait {render(entry.wait)} is due at {instants.text(entry.due)}."
    return (
        f"Its ticket is not known; the round with wait {render(entry.wait)} waits for it until "
        f"{instants.text(entry.parked_until)}."
    )


def ticket_object(found: Ticket) -> dict[str, Any]:
    """Return a ticket for tools."""
    return {
        "ticket_id": found.id,
        "partition": found.partition,
        "held": found.held,
        "sentences": found.sentences,
        "ticket": None if found.ticket is None else ticket_state(found.ticket),
        "session": None if found.session is None else session_state(found.session),
        "rounds": [explained_object(one) for one in found.rounds],
        "transitions": found.transitions,
    }


# --- words -----------------------------------------------------------------------------------------------------------


def percent(ratio: float | None) -> str:
    """Return a share, – for none.

    >>> percent(0.125), percent(None)
    ('12.5 %', '–')
    """
    return "–" if ratio is None else f"{100 * ratio:.1f} %"


def clock(seconds: float) -> str:
    """Return hour and minute, UTC.

    >>> clock(45_000)
    '12:30'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M")


def moment(seconds: float) -> str:
    """Return the time of day, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def _left(seconds: float) -> str:
    if seconds <= 0:
        return "now"
    if seconds < 120:
        return f"in {seconds:.0f} s"
    return f"in {seconds / 60:.0f} min" if seconds < 7_200 else f"in {seconds / 3_600:.1f} h"
