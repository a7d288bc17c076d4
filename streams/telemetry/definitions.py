"""Definitions of the abandonment figures: the same wording wherever a figure is shown.

The metrics' HELP texts, docs/metrics.md, the dashboards' panel descriptions and the live page all take their sentences
from here. The wording may change here; what is counted is defined in SPEC section 8.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFINITIONS: Mapping[str, str] = {
    "session": (
        "A messaging session that was seen. It counts once, at its first event, whatever its state. Events without a "
        "session_id belong to the session that the ticket has."
    ),
    "abandonment": (
        "A session that changed from an open state to inactive, or was inactive when first seen (unless "
        "first_inactive is configured otherwise), for one of the configured abandonment_reasons. Each time counts: a "
        "customer who leaves, returns and leaves again has abandoned twice."
    ),
    "abandonment rate": (
        "Sessions abandoned at least once / sessions seen, both counted over the same time. A session counts when it "
        "is first seen, its abandonment when it first happens, so over a few minutes the rate can exceed 100 %."
    ),
    "false abandonment": (
        "An abandonment after which the customer was active again, in any session of the ticket, within "
        "false_abandonment_window (5 minutes unless configured) by occurred_at. It counts once, when the customer "
        "returns, under the channel that was abandoned."
    ),
    "false abandonment rate": (
        "False abandonments / abandonments (each one, not each session), both counted over the same time."
    ),
    "time to abandon": (
        "The time from the latest opening or resumption of the session to the abandonment, by occurred_at. Averages "
        "and quantiles are over abandonments whose session was seen to open, not over all sessions."
    ),
    "time to return": (
        "The time from the latest abandonment of the ticket until the customer was active again in any session, by "
        "occurred_at, however long it took. Averages and quantiles are over abandonments with a return; customers "
        "who never came back are not included."
    ),
    "open abandonments": (
        "Tickets, now, that are neither solved nor closed and whose session is inactive because of an abandonment "
        "without a return."
    ),
}
"""Sentences by figure, each with its formula and, for rates and averages, its base."""

FORMULAS: Mapping[str, str] = {
    "session": "sum(increase(lapse_sessions_total[1h]))",
    "abandonment": "sum(increase(lapse_abandonments_total[1h]))",
    "abandonment rate": "sum(increase(lapse_sessions_abandoned_total[1h])) / sum(increase(lapse_sessions_total[1h]))",
    "false abandonment": "sum(increase(lapse_false_abandonments_total[1h]))",
    "false abandonment rate": (
        "sum(increase(lapse_false_abandonments_total[1h])) / sum(increase(lapse_abandonments_total[1h]))"
    ),
    "time to abandon": "histogram_quantile(0.5, sum by (le) (rate(lapse_time_to_abandon_seconds_bucket[1h])))",
    "time to return": "histogram_quantile(0.5, sum by (le) (rate(lapse_time_to_return_seconds_bucket[1h])))",
    "open abandonments": "sum(lapse_open_abandonments)",
}
"""Prometheus query for each figure over the last hour, for all workers, reasons and channels."""
