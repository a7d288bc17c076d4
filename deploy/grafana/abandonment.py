"""Abandonment: for planning staff. How often, why, how soon, and how often it was a false alarm."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import Part, dashboard, graph, number, ranking, row
from deploy.grafana.queries import RATE, SHOWN, increase, quantile, ratio, series, total
from streams.telemetry.definitions import DEFINITIONS

BY_THE_HOUR = "By the hour: each point is the hour that ends there."
CHANNEL = 'channel=~"$channel"'
REASON = 'reason=~"$reason"'


def make() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "lapse-abandonment",
        "Abandonment",
        "Customers who left a messaging conversation: how many, why, how soon, and how many came back.",
        since="now-24h",
        variables=("lapse_sessions_total.channel", "lapse_abandonments_total.reason"),
        parts=(*_headline(), *_over_time(), *_people()),
    )


def abandonment_rate(over: str, by: str = "", back: str = "") -> str:
    """Return the abandonment rate; `back` looks into the past, as in ` offset 1w`."""
    return ratio(_past("lapse_sessions_abandoned_total", over, by, back), _past("lapse_sessions_total", over, by, back))


def false_rate(over: str, by: str = "") -> str:
    """Return the false abandonment rate, over every reason: false abandonments are not counted by reason."""
    part = increase("lapse_false_abandonments_total", CHANNEL, by=by, over=over)
    return ratio(part, increase("lapse_abandonments_total", CHANNEL, by=by, over=over))


def _past(name: str, over: str, by: str, back: str) -> str:
    return total(f"increase({series(name, CHANNEL)}[{over}]{back})", by)


def _headline() -> tuple[Part, ...]:
    return (
        row("In the time shown"),
        number(
            "Abandonment rate",
            DEFINITIONS["abandonment rate"],
            "percentunit",
            {"rate": abandonment_rate(SHOWN)},
            decimals=1,
        ),
        number(
            "Sessions",
            DEFINITIONS["session"],
            "short",
            {"sessions": increase("lapse_sessions_total", CHANNEL, over=SHOWN)},
            decimals=0,
        ),
        number(
            "Abandonments",
            DEFINITIONS["abandonment"],
            "short",
            {"abandonments": increase("lapse_abandonments_total", CHANNEL, REASON, over=SHOWN)},
            decimals=0,
        ),
        number(
            "False abandonment rate",
            DEFINITIONS["false abandonment rate"],
            "percentunit",
            {"rate": false_rate(SHOWN)},
            limits=(0.2, 0.4),
            decimals=1,
        ),
        number(
            "Time to return, median",
            DEFINITIONS["time to return"],
            "s",
            {"median": quantile(0.5, "lapse_time_to_return_seconds", over=SHOWN)},
        ),
        number(
            "Open abandoned now",
            f"{DEFINITIONS['open abandonments']} At most five minutes old; not filtered by channel or reason.",
            "short",
            {"tickets": total(series("lapse_open_abandonments"))},
        ),
    )


def _over_time() -> tuple[Part, ...]:
    return (
        row("When, where and why"),
        graph(
            "Abandonment rate by the hour",
            f"{DEFINITIONS['abandonment rate']} {BY_THE_HOUR} And the same hour a week before.",
            "percentunit",
            {"this hour": abandonment_rate(RATE), "a week before": abandonment_rate(RATE, back=" offset 1w")},
            hourly=True,
        ),
        graph(
            "Abandonment rate by channel",
            f"{DEFINITIONS['abandonment rate']} By channel; a session counts under the channel of its first event, its "
            f"abandonment under the channel that it had then. {BY_THE_HOUR}",
            "percentunit",
            {"{{channel}}": abandonment_rate(RATE, by="channel")},
            hourly=True,
        ),
        graph(
            "Abandonments by reason",
            f"{DEFINITIONS['abandonment']} Stacked by reason. {BY_THE_HOUR}",
            "short",
            {"{{reason}}": increase("lapse_abandonments_total", CHANNEL, REASON, by="reason")},
            stacked=True,
            hourly=True,
            width=8,
        ),
        graph(
            "Abandonments by channel",
            f"{DEFINITIONS['abandonment']} Stacked by channel. {BY_THE_HOUR}",
            "short",
            {"{{channel}}": increase("lapse_abandonments_total", CHANNEL, REASON, by="channel")},
            stacked=True,
            hourly=True,
            width=8,
        ),
        ranking(
            "Channels, by abandonment rate",
            f"{DEFINITIONS['abandonment rate']} Over the time shown, highest first; a session counts under the channel "
            "of its first event, its abandonment under the channel that it had then.",
            "percentunit",
            {"{{channel}}": f"sort_desc({abandonment_rate(SHOWN, by='channel')})"},
            width=8,
        ),
        graph(
            "What sessions do",
            "Changes of state of messaging sessions: opened, lapsed (into inactive, for whichever reason), resumed, "
            f"ended and the rest. {BY_THE_HOUR}",
            "short",
            {"{{kind}}": increase("lapse_session_transitions_total", CHANNEL, by="kind")},
            hourly=True,
        ),
        graph(
            "Tickets abandoned for the first time",
            "Tickets abandoned at least once, counted at a ticket's first abandonment in whichever session: how many "
            f"customers are concerned, however often each of them leaves. {BY_THE_HOUR}",
            "short",
            {"{{channel}}": increase("lapse_tickets_abandoned_total", CHANNEL, by="channel")},
            stacked=True,
            hourly=True,
        ),
    )


def _people() -> tuple[Part, ...]:
    return (
        row("How soon, and who comes back"),
        graph(
            "False abandonment rate",
            f"{DEFINITIONS['false abandonment rate']} {DEFINITIONS['false abandonment']} {BY_THE_HOUR}",
            "percentunit",
            {"{{channel}}": false_rate(RATE, by="channel"), "all channels": false_rate(RATE)},
            hourly=True,
            width=8,
        ),
        graph(
            "Time to abandon",
            f"{DEFINITIONS['time to abandon']} {BY_THE_HOUR}",
            "s",
            {
                "half within": quantile(0.5, "lapse_time_to_abandon_seconds"),
                "nine in ten within": quantile(0.9, "lapse_time_to_abandon_seconds"),
            },
            hourly=True,
            width=8,
        ),
        graph(
            "Time to return",
            f"{DEFINITIONS['time to return']} {BY_THE_HOUR}",
            "s",
            {
                "half within": quantile(0.5, "lapse_time_to_return_seconds"),
                "nine in ten within": quantile(0.9, "lapse_time_to_return_seconds"),
            },
            hourly=True,
            width=8,
        ),
    )
