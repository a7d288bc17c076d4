"""The content of the pages, computed from the journal and the tables: figures, bars, rounds, a ticket's history."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from streams.core.cycle import Rules
from streams.core.model import EVALUATED, SECOND, Micros, PendingRound, SessionRow, TicketRow
from streams.core.session import ACTIVE, INACTIVE
from streams.core.trace import RoundTrace, trace_round
from streams.core.triggers import Ruleset
from streams.documents.durations import render
from streams.offline.words import acts, how_it_ended, not_asked, why_cancelled
from streams.telemetry.definitions import DEFINITIONS
from streams.telemetry.observer import Figures
from streams.web.journal import Journal, Round, Sums, by_count
from streams.web.status import PartitionStatus, Tables
from streams.web.views import PartitionView
from streams.wire import encode, instants
from streams.wire.state import session_state, ticket_state
from streams.wire.trace import round_trace

HOURS_SHOWN = 6
MINUTES_OF_A_DAY = 24 * 60
BAR_MINUTES = 15
ROUNDS_SHOWN = 8
WAITS_SHOWN = 8
REASONS_SHOWN = 8

TITLE_SHOWN = 70
"""Maximum number of characters of a trigger's title in a table. The page of the round shows the full title."""

DEFINED = (
    "session",
    "abandonment",
    "abandonment rate",
    "false abandonment",
    "false abandonment rate",
    "open abandonments",
)
"""The terms that the page explains."""

_PLOT_HEIGHT, _PLOT_TOP = 120.0, 14.0
_LEAST_BAR = 2.0
"""Makes a quarter of an hour with sessions but no abandonment differ from one without sessions."""
_STEPS = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0)


class Explainer(NamedTuple):
    """The rules in use, which serve to explain rounds."""

    ruleset: Ruleset
    rules: Rules
    join_wait: Micros


# --- the front page --------------------------------------------------------------------------------------------------


class Tile(NamedTuple):
    """One figure with its name, its base and its definition."""

    figure: str
    name: str
    of: str
    means: str


def tiles(
    journal: Journal,
    sessions: Counter[str] | None,
    figures: Figures,
    held: Sequence[PartitionStatus],
    now: float,
) -> list[Tile]:
    """Return the figures at the top. Rates cover the last hour and the last 24 hours, or the time since the start."""
    hour, day = journal.last(60, now), journal.last(MINUTES_OF_A_DAY, now)
    rate = Tile(
        percent(day.abandonment_rate),
        f"abandonment rate, {span(journal, MINUTES_OF_A_DAY, now)}",
        f"{day.abandoned:,} of {day.sessions:,} sessions",
        DEFINITIONS["abandonment rate"],
    )
    of_last_hour = Tile(
        percent(hour.abandonment_rate),
        f"abandonment rate, {span(journal, 60, now)}",
        f"{hour.abandoned:,} of {hour.sessions:,} sessions",
        DEFINITIONS["abandonment rate"],
    )
    if not any(one.state == "ready" for one in held):
        sessions = None  # the tables are empty because they have not been restored yet
    waits = "–" if sessions is None else f"{figures.pending_rounds:,}"
    here = "–" if sessions is None else f"{sessions[ACTIVE]:,}"
    gone = "–" if sessions is None else f"{sessions[INACTIVE]:,}"
    unsolved = (
        "not ended" if figures.open_abandonments is None else f"{figures.open_abandonments:,} abandoned, unsolved"
    )
    return [
        Tile(here, "open now", "sessions", "Sessions whose latest state is active."),
        Tile(
            gone,
            "inactive now",
            unsolved,
            "Sessions whose latest state is inactive, not ended. Abandoned, unsolved: "
            + DEFINITIONS["open abandonments"],
        ),
        *([] if of_last_hour.name == rate.name else [of_last_hour]),
        rate,
        Tile(
            percent(day.false_abandonment_rate),
            f"false abandonments, {span(journal, MINUTES_OF_A_DAY, now)}",
            f"{day.false_abandonments:,} of {day.abandonments:,} abandonments",
            DEFINITIONS["false abandonment rate"],
        ),
        Tile(waits, "rounds waiting", "until they are due, or for their ticket", ""),
        Tile(f"{figures.commands:,}", "commands sent", f"{figures.commands_applied:,} known to be applied", ""),
        _behind(held),
    ]


def span(journal: Journal, minutes: int, now: float) -> str:
    """Describe the period of the figures for the last `minutes`: all of it, or since when and for how long."""
    begins = journal.since(minutes, now)
    if begins <= now - 60 * minutes:
        return "last hour" if minutes == 60 else f"last {minutes // 60} h"
    return f"since {clock(begins)}, {age(now - begins)}"


def _behind(held: Sequence[PartitionStatus]) -> Tile:
    inputs = [at for one in held for at in one.topics.values()]
    lags = [at.lag for at in inputs if at.lag is not None]
    ages = [at.lag_seconds for at in inputs if at.lag and at.lag_seconds is not None]
    if ages:
        oldest = f"the oldest {age(max(ages))} old"
    else:
        oldest = "not known yet" if not lags else "of unknown age" if any(lags) else "all caught up"
    return Tile(
        f"{sum(lags):,}" if lags else "–", "records behind", oldest, "Lag of all inputs that this worker reads."
    )


class Bar(NamedTuple):
    """One bar of the plot: horizontal values in percent of the width, vertical values in pixels."""

    x: float
    y: float
    width: float
    height: float
    words: str
    start: str
    sums: Sums


class Plot(NamedTuple):
    """The abandonment rate over the last hours, at the full available width."""

    bars: list[Bar]
    lines: list[tuple[float, str]]
    """(y, label) of the grid lines."""
    hours: list[tuple[float, str]]
    """(x, label) of the horizontal axis."""
    height: float = _PLOT_TOP + _PLOT_HEIGHT + 26


def plot(journal: Journal, now: float) -> Plot:
    """Return the bars of the last hours and a matching scale."""
    series = journal.series(HOURS_SHOWN * 60, BAR_MINUTES, now)
    most = max((sums.abandonment_rate or 0.0 for _, sums in series), default=0.0)
    top = next((step for step in _STEPS if step >= most), 1.0)
    wide = 100.0 / len(series)
    bars, hours = [], []
    for place, (start, sums) in enumerate(series):
        x = place * wide
        height = (min(sums.abandonment_rate or 0.0, top) / top) * _PLOT_HEIGHT
        begins, ends = clock(start), clock(start + BAR_MINUTES * 60)
        words = f"{begins} to {ends}: {sums.abandoned:,} of {sums.sessions:,} sessions abandoned"
        if sums.sessions:
            words += f", {percent(sums.abandonment_rate)}"
            height = max(height, _LEAST_BAR)
        bars.append(
            Bar(
                x + 0.1 * wide,
                _PLOT_TOP + _PLOT_HEIGHT - height,
                0.8 * wide,
                height,
                words,
                f"{begins} to {ends}",
                sums,
            )
        )
        if start % 3600 == 0:
            hours.append((x, begins))
    lines = [(_PLOT_TOP + _PLOT_HEIGHT * (1 - share), f"{100 * top * share:g} %") for share in (0.0, 0.5, 1.0)]
    return Plot(bars, lines, hours)


def troubled_first(held: Iterable[PartitionView]) -> list[PartitionView]:
    """Return partitions by number, those that are not ready first."""
    return sorted(held, key=lambda one: (one.state == "ready", one.partition))


def reasons(journal: Journal, now: float) -> list[tuple[str, int, float]]:
    """Return (reason, lapses, ratio to the commonest reason) of the last 24 hours, the commonest first."""
    ranked = by_count(journal.last(MINUTES_OF_A_DAY, now).lapses)[:REASONS_SHOWN]
    most = ranked[0][1] if ranked else 1
    return [(reason, count, count / most) for reason, count in ranked]


def other_reasons(journal: Journal, now: float) -> tuple[int, int]:
    """Return how many reasons `reasons` omits, and how many lapses they had."""
    rest = by_count(journal.last(MINUTES_OF_A_DAY, now).lapses)[REASONS_SHOWN:]
    return len(rest), sum(count for _, count in rest)


class Fired(NamedTuple):
    """One row in the list of rounds in which a trigger fired."""

    id: str
    ticket_id: str
    at: str
    reason: str
    wait: str
    triggers: list[str]
    """Titles, where present."""
    outcome: str
    does: str


def fired(found: Iterable[Round], ruleset: Ruleset, now: float) -> list[Fired]:
    """Return rounds as rows of a table."""
    titles = {trigger.id: _short(trigger.title or trigger.id) for trigger in ruleset.triggers}
    return [
        Fired(
            one.id,
            one.evaluation.ticket_id,
            moment(one.committed_at, now),
            "none" if one.evaluation.lapse is None else one.evaluation.lapse.reason or "none",
            render(one.evaluation.wait),
            [titles.get(trigger, trigger) for trigger in one.evaluation.triggers],
            one.evaluation.outcome.value.replace("_", " "),
            "" if one.command is None else acts(one.command.actions),
        )
        for one in found
    ]


def _short(title: str) -> str:
    return title if len(title) <= TITLE_SHOWN else title[: TITLE_SHOWN - 1].rstrip() + "…"


class Waiting(NamedTuple):
    """One round that has not ended."""

    ticket_id: str
    wait: str
    parked: bool
    """The round is due, but waits for its ticket until `left` has passed."""
    left: str


def waiting(tables: Tables, now: float) -> list[Waiting]:
    """Return the next rounds that become due or whose parking ends."""
    found = []
    for due in tables.upcoming(WAITS_SHOWN):
        sessions = [one.session for one in tables.find(due.ticket_id) if one.session is not None]
        parked = any(
            entry.parked_until == due.at and entry.wait == due.wait for session in sessions for entry in session.pending
        )
        found.append(Waiting(due.ticket_id, render(due.wait), parked, _left(due.at / SECOND - now)))
    return found


# --- a round ---------------------------------------------------------------------------------------------------------


class Explained(NamedTuple):
    """One round with its explanation."""

    id: str
    round: Round
    why: str
    trace: RoundTrace | None
    skipped: list[tuple[str, str]]


def explained(found: Round, by: Explainer) -> Explained:
    """Explain a kept round with the rules in use and the data it was evaluated on."""
    said = found.evaluation
    trace = None
    if said.lapse is not None and said.ticket is not None and said.outcome in EVALUATED:
        trace = trace_round(by.rules, said.wait, said.lapse, said.ticket.fields or {})
    skipped = list(not_asked(said.wait, by.ruleset)) if trace is not None else []
    by_what = said.cancelled_by
    why = how_it_ended(said.outcome, by.join_wait) if by_what is None else why_cancelled(by_what)
    return Explained(found.id, found, why, trace, skipped)


def explained_object(one: Explained) -> dict[str, Any]:
    """Return a round for tools: its evaluation record, the reason for its outcome, its trace and its command."""
    trace: dict[str, Any] = {"passes": 0, "fired": [], "not_fired": [], "actions": []}
    command = one.round.command
    return {
        "id": one.id,
        **msgspec.to_builtins(encode.output_record(one.round.evaluation)),
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
    holder: str | None = None
    """Address of the worker that holds its partition, if that is another worker and known."""

    @property
    def known(self) -> bool:
        """Whether the ticket has a row."""
        return self.ticket is not None or self.session is not None


def ticket(
    ticket_id: str,
    tables: Tables,
    held: Mapping[int, str],
    journal: Journal,
    by: Explainer,
    *,
    holder: str | None = None,
) -> Ticket:
    """Look up a ticket. `held` are this worker's partitions with their states, `holder` is another worker's address."""
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
        [msgspec.to_builtins(encode.output_record(one)) for one in journal.transitions_of(ticket_id)],
        [],
        holder,
    )
    if found.known:
        found.sentences.extend(_sentences(found, by.ruleset, len({one.partition for one in rows}) > 1))
    else:
        found.sentences.append(_why_unknown(found, held))
    return found


def _why_unknown(found: Ticket, held: Mapping[int, str]) -> str:
    partition = found.partition
    if partition is None:
        return "This worker has not joined its consumer group yet. Try again in a moment."
    if partition not in held:
        where = "another worker" if found.holder is None else f"the worker at {found.holder}"
        return (
            f"This ticket belongs to partition {partition}, which {where} holds: look it up on that worker's page, or "
            f"run `lapse state {found.id}`, which reads the tables from the broker."
        )
    if held[partition] == "restoring":
        return f"Partition {partition}, to which this ticket belongs, is being restored. Try again in a moment."
    return (
        "No usable record of this ticket was ever read, or its rows have expired. `lapse dead-letters list` shows "
        "records that could not be used."
    )


def _sentences(found: Ticket, ruleset: Ruleset, scattered: bool) -> list[str]:
    """Return sentences that explain why nothing happened, the most relevant first."""
    told = []
    if scattered:
        told.append(
            "Its ticket and its session are in different partitions: their producers use different partitioners."
        )
    told.extend(_of_session(found.session))
    waits = () if found.session is None else found.session.pending
    if (found.ticket is None or found.ticket.fields is None) and not any(entry.parked_until for entry in waits):
        told.append("The ticket itself is not known: no update of it has come, or it was deleted.")
    if found.rounds:
        latest = found.rounds[0].round.evaluation
        told.append(
            f"Its latest round (wait {render(latest.wait)}, episode {latest.episode}) ended as "
            f"{latest.outcome.value.replace('_', ' ')}. {found.rounds[0].why}"
        )
    elif not any(trigger.active for trigger in ruleset.triggers):
        told.append("No trigger is active, so nothing is ever done.")
    elif found.session is not None and found.session.episode and not waits:
        told.append(
            "None of its rounds is among the latest ones, which this worker keeps. `lapse explain` shows all rounds in "
            "a capture."
        )
    return told


def _of_session(session: SessionRow | None) -> list[str]:
    if session is None or session.state is None:
        return ["No session state of this ticket is known, so nothing can lapse. Do both topics use the same keys?"]
    since = instants.text(session.since)
    if session.state == ACTIVE:
        return [f"Its session has been active since {since}. No round waits."]
    if session.pending:
        return list(map(_waits_for, session.pending))
    if session.state == INACTIVE and not session.episode:
        return ["Its session was already inactive in its first event, which does not count as a lapse here."]
    if session.state == INACTIVE:
        return [f"Its session has been inactive since {since}. Its rounds have ended."]
    return [f"Its session has been {session.state} since {since}."]


def _waits_for(entry: PendingRound) -> str:
    if entry.parked_until is None:
        return f"The round with wait {render(entry.wait)} is due at {instants.text(entry.due)}."
    return (
        f"The ticket itself is not known. The round with wait {render(entry.wait)} waits for it until "
        f"{instants.text(entry.parked_until)}."
    )


def ticket_object(found: Ticket) -> dict[str, Any]:
    """Return a ticket for tools."""
    return {
        "ticket_id": found.id,
        "partition": found.partition,
        "held": found.held,
        "holder": found.holder,
        "sentences": found.sentences,
        "ticket": None if found.ticket is None else ticket_state(found.ticket),
        "session": None if found.session is None else session_state(found.session),
        "rounds": [explained_object(one) for one in found.rounds],
        "transitions": found.transitions,
    }


# --- formatting ------------------------------------------------------------------------------------------------------


def percent(ratio: float | None) -> str:
    """Format a ratio as a percentage, – for None.

    >>> percent(0.125), percent(None)
    ('12.5 %', '–')
    """
    return "–" if ratio is None else f"{100 * ratio:.1f} %"


def clock(seconds: float) -> str:
    """Format as hour and minute, UTC.

    >>> clock(45_000)
    '12:30'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M")


def moment(seconds: float, now: float) -> str:
    """Format as time of day, UTC, with the date unless it is today.

    >>> moment(45_000.9, 50_000), moment(45_000, 90_000)
    ('12:30:00', '01-01 12:30:00')
    """
    then = datetime.fromtimestamp(seconds, UTC)
    today = then.date() == datetime.fromtimestamp(now, UTC).date()
    return then.strftime("%H:%M:%S" if today else "%m-%d %H:%M:%S")


def age(seconds: float) -> str:
    """Format a duration in the unit that gives the shortest text.

    >>> age(0.34), age(90), age(600), age(9_000), age(200_000)
    ('0.4 s', '90 s', '10 min', '2.5 h', '2.3 days')
    """
    if seconds < 10:
        return f"{math.ceil(10 * max(seconds, 0)) / 10:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _left(seconds: float) -> str:
    """Format the time until something is due.

    >>> _left(-0.1), _left(0.2), _left(61)
    ('now', 'in 1 s', 'in 61 s')
    """
    return "now" if seconds <= 0 else f"in {age(seconds) if seconds >= 10 else f'{math.ceil(seconds)} s'}"
