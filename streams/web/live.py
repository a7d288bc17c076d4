"""The content of the front page, computed from the journal and the tables: figures, bars and the latest rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from streams.core.model import SECOND, ShadowResult, Side
from streams.core.session import ACTIVE, INACTIVE
from streams.core.triggers import Ruleset
from streams.documents.durations import render
from streams.offline.words import acts
from streams.telemetry.definitions import DEFINITIONS
from streams.telemetry.observer import Figures
from streams.web import views
from streams.web.formatting import age, clock, left, moment, percent
from streams.web.journal import Journal, Round, Sums, by_count
from streams.web.status import PartitionStatus, Tables
from streams.web.views import PartitionView

HOURS_SHOWN = 6
MINUTES_OF_A_DAY = 24 * 60
BAR_MINUTES = 15
ROUNDS_SHOWN = 8
WAITS_SHOWN = 8
REASONS_SHOWN = 8
DIFFERENCES_SHOWN = 8

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
        found.append(Waiting(due.ticket_id, render(due.wait), parked, left(due.at / SECOND - now)))
    return found


class Differing(NamedTuple):
    """One round in which the shadow differs."""

    ticket_id: str
    round: str | None
    """Id of the live round, while it is kept."""
    lapsed: str
    wait: str
    live: str
    shadow: str
    after_live: bool


class ShadowPart(NamedTuple):
    """What the page tells of the newest shadow."""

    revision: int
    in_use: int
    """Number of this worker's partitions in which it is in use."""
    since: str
    """Time of day from which these figures count; empty while there are none."""
    same: int
    only_live: int
    only_shadow: int
    different: int
    latest: list[Differing]


def shadow(journal: Journal, tables: Tables, now: float) -> ShadowPart | None:
    """Return what was found of the newest shadow; None when there was none."""
    found = views.shadow(journal, tables)
    if found.revision is None:
        return None
    kept = journal.shadow()
    latest = [] if kept is None or kept.revision != found.revision else list(kept.differences)[-DIFFERENCES_SHOWN:]
    tickets = {one.ticket_id for one in latest}
    rounds = {
        (said.ticket_id, said.event_id, said.wait): one.id
        for one in (*journal.fired(), *journal.quiet())
        if (said := one.evaluation).ticket_id in tickets
    }
    return ShadowPart(
        found.revision,
        len(found.partitions),
        "" if found.since is None or kept is None else moment(kept.since, now),
        found.rounds[ShadowResult.SAME],
        found.rounds[ShadowResult.ONLY_LIVE],
        found.rounds[ShadowResult.ONLY_SHADOW],
        found.rounds[ShadowResult.DIFFERENT],
        [
            Differing(
                one.ticket_id,
                rounds.get((one.ticket_id, one.event_id, one.wait)),
                moment(one.occurred_at / SECOND, now),
                render(one.wait),
                _side(one.live),
                _side(one.shadow),
                one.after_live,
            )
            for one in reversed(latest)
        ],
    )


def _side(side: Side | None) -> str:
    if side is None:
        return "no round with this wait"
    return acts(side.actions) if side.acts else side.outcome.value.replace("_", " ")
