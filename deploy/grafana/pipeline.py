"""Pipeline: what on-call looks at. Rate, errors and durations of the work; use and saturation of the workers."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import Part, dashboard, graph, number, row
from deploy.grafana.queries import RATE, SHOWN, increase, quantile, rate, ratio, series, total


def make() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "lapse-pipeline",
        "Pipeline",
        "Progress, delay and health of the workers: lag, age, steps, dead letters, restores.",
        since="now-1h",
        parts=(*_headline(), *_flow(), *_work(), *_group(), *_worker(), *_ingest(), *_silence(), *_apply()),
    )


def _headline() -> tuple[Part, ...]:
    oldest = f"max({series('lapse_lag_seconds')})"
    return (
        row("Now"),
        number(
            "Workers",
            "Workers that Prometheus reaches.",
            "short",
            {"workers": f"count({series('lapse_build_info')})"},
        ),
        number(
            "Partitions ready",
            "Held partitions whose tables are restored / held partitions.",
            "percentunit",
            {"ready": ratio(total(series("lapse_partition_ready")), total(series("lapse_assigned_partitions")))},
            limits=(0.999, 1),
            low_is_bad=True,
        ),
        number(
            "Oldest record waiting",
            "Age, by record timestamp, of the oldest record that is not yet committed, over all partitions.",
            "s",
            {"oldest": oldest},
            limits=(30, 120),
        ),
        number(
            "Records behind",
            "Records that can be read and are not yet committed, over all partitions.",
            "short",
            {"behind": total(series("lapse_lag_records"))},
        ),
        number(
            "Dead letters",
            "Dead letters / records processed, in the time shown.",
            "percentunit",
            {"share": ratio(rate("lapse_dead_letters_total", over=SHOWN), rate("lapse_records_total", over=SHOWN))},
            limits=(0.01, 0.05),
            decimals=2,
        ),
        number(
            "Broker last answered",
            "Time since a broker answered a fetch or took a transaction, of the worker for which it is longest.",
            "s",
            {"ago": f"time() - min({series('lapse_broker_answer_timestamp_seconds')} > 0)"},
            limits=(15, 60),
        ),
    )


def _flow() -> tuple[Part, ...]:
    return (
        row("Rate, errors, duration"),
        graph(
            "Records taken",
            "Input records per second, by topic and result.",
            "cps",
            {"{{topic}} {{result}}": rate("lapse_records_total", by="topic, result")},
            stacked=True,
            width=8,
        ),
        graph(
            "Age at commit",
            "Age of the oldest record of a step when the step was committed, by record timestamp: how late it was. "
            "Above an hour it shows as an hour.",
            "s",
            {f"{share:.0%} within": quantile(share, "lapse_event_age_seconds") for share in (0.5, 0.9, 0.99)},
            width=8,
        ),
        graph(
            "Dead letters by code",
            "Input records that could not be used, a second, by the code in their lapse.error.code header.",
            "cps",
            {"{{topic}} {{code}}": rate("lapse_dead_letters_total", by="topic, code")},
            width=8,
        ),
        graph(
            "Lag in seconds",
            "Age of the oldest record that is not yet committed, by partition. The alerts use it.",
            "s",
            {"{{topic}} {{partition}}": f"max by (topic, partition) ({series('lapse_lag_seconds')})"},
            width=8,
        ),
        graph(
            "Lag in records",
            "Records from the committed offset to the last stable one, by partition. Held back: what lies behind that, "
            "in or after a transaction upstream that is still open; nobody may read it yet, so it is in no lag.",
            "short",
            {
                "{{topic}} {{partition}}": f"max by (topic, partition) ({series('lapse_lag_records')})",
                "held back {{topic}}": total(series("lapse_held_back_offsets"), "topic"),
            },
            width=8,
        ),
        graph(
            "Written and committed",
            "How fast the ends of the inputs move, and how fast the committed offsets follow: offsets a second. "
            "If committed is flat while written is not, the partition is stuck.",
            "cps",
            {
                f"{what} {{{{topic}}}}": f"sum by (topic) (max by (topic, partition) (deriv({series(name)}[{RATE}])))"
                for what, name in (("written", "lapse_end_offset"), ("committed", "lapse_committed_offset"))
            },
            width=8,
        ),
    )


def _work() -> tuple[Part, ...]:
    return (
        row("Steps"),
        graph(
            "Step and commit",
            "Step: from its first record to the end of its transaction. Commit: the transaction alone.",
            "s",
            {
                "step, half within": quantile(0.5, "lapse_step_seconds"),
                "step, 99 % within": quantile(0.99, "lapse_step_seconds"),
                "commit, half within": quantile(0.5, "lapse_commit_seconds"),
                "commit, 99 % within": quantile(0.99, "lapse_commit_seconds"),
            },
            width=8,
        ),
        graph(
            "Steps and their size",
            "Steps a second, and records a step on average. Large steps mean a backlog that is being drained.",
            "short",
            {
                "steps a second": rate("lapse_step_seconds_count"),
                "records a step": ratio(rate("lapse_step_records_sum"), rate("lapse_step_records_count")),
            },
            width=8,
        ),
        graph(
            "Stream time behind the clock",
            "By partition. Without traffic it grows, since stream time is the highest record timestamp seen; with lag "
            "beside it, the partition is late.",
            "s",
            {"{{partition}}": f"time() - max by (partition) ({series('lapse_stream_time_timestamp_seconds')})"},
            width=8,
        ),
        graph(
            "Keys and sizes that should not be",
            "Misrouted: records in a partition other than murmur2 over their key gives; the join may miss them. "
            "Oversized: ticket members over 1 KiB, dropped.",
            "cps",
            {
                "misrouted {{topic}}": rate("lapse_misrouted_records_total", by="topic"),
                "oversized members": rate("lapse_oversized_members_total"),
            },
            width=12,
        ),
        graph(
            "Table rows",
            "Rows in the tables, and rows removed because state_ttl had passed.",
            "short",
            {
                "{{table}}": total(series("lapse_table_rows"), "table"),
                "expired {{table}}": increase("lapse_expired_rows_total", by="table"),
            },
            width=12,
        ),
    )


def _group() -> tuple[Part, ...]:
    return (
        row("Restores and rebalances"),
        graph(
            "Rebalances and takeovers",
            "Rebalances of the group that each worker saw; takeovers: partitions whose producer another one fenced.",
            "short",
            {
                "rebalances {{instance}}": increase("lapse_rebalances_total", by="instance"),
                "takeovers {{instance}}": increase("lapse_fencings_total", by="instance"),
            },
            width=8,
        ),
        graph(
            "How long rebalances and restores take",
            "From giving partitions up to getting the new assignment; to restore one. On average over the time shown.",
            "s",
            {
                "rebalance": _average("lapse_rebalance_seconds"),
                "restore of a partition": _average("lapse_restore_seconds"),
            },
            width=8,
        ),
        graph(
            "Restore",
            "Table rows read back a second, changelog offsets that are still to be read (by the rows a second: how "
            "long it takes), and held partitions that are not ready yet.",
            "short",
            {
                "rows a second": rate("lapse_restore_rows_total"),
                "offsets to go": total(series("lapse_restore_remaining_offsets")),
                "partitions not ready": f"count({series('lapse_partition_ready')} == 0) or vector(0)",
            },
            width=8,
        ),
    )


def _average(histogram: str) -> str:
    """Average over the time shown: such events are too rare for the rate interval."""
    return ratio(
        increase(f"{histogram}_sum", over=SHOWN),
        increase(f"{histogram}_count", over=SHOWN),
    )


def _worker() -> tuple[Part, ...]:
    return (
        row("Workers"),
        graph(
            "Partitions held",
            "By worker; even shares are healthy.",
            "short",
            {"{{instance}}": f"max by (instance) ({series('lapse_assigned_partitions')})"},
            stacked=True,
            width=6,
        ),
        graph(
            "Event loop lag",
            "Delay with which the event loop woke timers, 99th percentile over all workers. Above 0.1 s it is blocked.",
            "s",
            {"99 % within": quantile(0.99, "lapse_event_loop_lag_seconds")},
            width=6,
        ),
        graph(
            "Processor",
            "Processor time a second, by worker. A worker uses one core at most.",
            "percentunit",
            {"{{instance}}": rate("process_cpu_seconds_total", by="instance")},
            width=6,
        ),
        graph(
            "Memory and version",
            "Resident memory by worker, with the version that runs there.",
            "bytes",
            {
                "{{instance}} {{version}}": f"{series('process_resident_memory_bytes')} * on (job, instance) "
                f"group_left (version) {series('lapse_build_info')}"
            },
            width=6,
        ),
    )


def _ingest() -> tuple[Part, ...]:
    return (
        row("Zendesk's webhooks"),
        graph(
            "Requests by status",
            "Requests to `lapse ingest` a second, by the status of their answer. 409: not written, so Zendesk tries "
            "again. 401 and 403: the signature was wrong or too old. Choose its job, or all jobs, to see this row.",
            "cps",
            {"{{status}}": rate("lapse_ingest_requests_total", by="status")},
            stacked=True,
            width=8,
        ),
        graph(
            "Events by kind",
            "Signed bodies a second, by what they were. Unknown: a type that `lapse ingest` does not know. Unusable: a "
            "dead letter.",
            "cps",
            {"{{kind}}": rate("lapse_ingest_events_total", by="kind")},
            width=8,
        ),
        graph(
            "Records acknowledged",
            "Input records a second that all in-sync replicas have, by topic.",
            "cps",
            {"{{topic}}": rate("lapse_ingest_records_total", by="topic")},
            width=8,
        ),
        graph(
            "Time to answer Zendesk",
            "From a request to its answer. Zendesk gives up after 12 s.",
            "s",
            {f"{share:.0%} within": quantile(share, "lapse_ingest_request_seconds") for share in (0.5, 0.99)},
            width=12,
        ),
        graph(
            "Age of events on arrival",
            "How late Zendesk sent them.",
            "s",
            {f"{share:.0%} within": quantile(share, "lapse_ingest_event_age_seconds") for share in (0.5, 0.99)},
            width=12,
        ),
    )


def _apply() -> tuple[Part, ...]:
    return (
        row("Commands at Zendesk"),
        graph(
            "Commands ended by result",
            "Commands a second that `lapse apply` has ended. Overtaken: the ticket had another value than the command "
            "expected. Refused: Zendesk does not take the update; see `apply-dead-letters`. Choose its job, or all "
            "jobs, to see this row.",
            "cps",
            {"{{result}}": rate("lapse_apply_total", by="result")},
            stacked=True,
            width=8,
        ),
        graph(
            "Requests to Zendesk by status",
            "Requests a second by the status of their answer. 429: over a quota. None: no answer.",
            "cps",
            {"{{status}}": rate("lapse_apply_requests_total", by="status")},
            stacked=True,
            width=8,
        ),
        graph(
            "Age of commands when they end",
            "From the issue or the release of a command to its end. At `apply_max_age` it expires.",
            "s",
            {f"{share:.0%} within": quantile(share, "lapse_apply_age_seconds") for share in (0.5, 0.99)},
            width=8,
        ),
        graph(
            "Commands waiting",
            "Commands that were read and have not ended, and those of them that a pause or a stop holds.",
            "short",
            {
                "waiting": f"sum ({series('lapse_apply_waiting')})",
                "held": f"sum ({series('lapse_apply_held')})",
            },
            width=12,
        ),
        graph(
            "Actions that the API can't carry out",
            "Notifications, side conversations, the end of a session: a command that asks for one is applied without "
            "it.",
            "cps",
            {"actions": rate("lapse_apply_not_done_total")},
            width=12,
        ),
    )


def _silence() -> tuple[Part, ...]:
    return (
        row("Silence"),
        graph(
            "Session states written",
            "By `lapse ingest --silence` a second: inactive, because the customer was silent for too long, or active, "
            "because the customer wrote again. Choose its job, or all jobs, to see this row.",
            "cps",
            {"{{state}}": rate("lapse_silence_states_total", by="state")},
            width=8,
        ),
        graph(
            "Customers waited for",
            "Tickets whose customer is being waited for.",
            "short",
            {"waiting": total(series("lapse_silence_waiting"))},
            width=8,
        ),
        graph(
            "Records behind, silence",
            "Input records that `lapse ingest --silence` has not yet processed and committed, by topic.",
            "short",
            {"{{topic}}": f"sum by (topic) ({series('lapse_silence_lag_records')})"},
            width=8,
        ),
    )
