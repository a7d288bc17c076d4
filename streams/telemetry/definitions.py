"""What the abandonment figures mean: one sentence a figure, said in the same words wherever the figure is shown.

The metrics' HELP texts, docs/metrics.md, the dashboards' panel descriptions and the live page all take the sentences
from here. Wording may change here; what is counted is SPEC section 8.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFINITIONS: Mapping[str, str] = {
    "session": (
        "A messaging session seen: counted once, at its first event, whatever its state; events without a session_id "
        "belong to the session that the ticket has."
    ),
    "abandonment": (
        "A session that changed into inactive out of an open state, or was inactive when first seen (unless "
        "first_inactive is configured otherwise), for one of the configured abandonment_reasons; each time counts, so "
        "a customer who leaves, returns and leaves again abandons twice."
    ),
    "abandonment rate": (
        "Sessions abandoned at least once / sessions seen, both counted over the same time: the session counts when "
        "it is first seen, its abandonment when it first happens, so that over minutes the rate can pass 100 %."
    ),
    "false abandonment": (
        "An abandonment after which the customer was active again, in any session of the ticket, within "
        "false_abandonment_window (5 minutes unless configured) by occurred_at; it counts once, when the customer "
        "returns, under the channel that was abandoned."
    ),
    "false abandonment rate": (
        "False abandonments / abandonments (each one, not each session), both counted over the same time."
    ),
    "time to abandon": (
        "From the session's latest opened or resumed to the abandonment, by occurred_at; averages and quantiles are "
        "over abandonments whose session was seen to open, not over all sessions."
    ),
    "time to return": (
        "From the ticket's latest abandonment to the customer being active again in any session, by occurred_at, "
        "however long it took; averages and quantiles are over the abandonments that somebody returned from, so who "
        "never came back is not in them."
    ),
    "open abandonments": (
        "Tickets that are neither solved nor closed while their session is inactive because of an abandonment that "
        "nobody has returned from, now."
    ),
}
"""Sentences by figure, each with its formula and, for rates and averages, with what they are over."""

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
"""How to ask Prometheus for each figure of the last hour, over all workers, reasons and channels."""
