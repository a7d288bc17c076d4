"""Prints docs/metrics.md: `python -m streams.telemetry.docs > docs/metrics.md`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streams.core.model import ShadowResult
from streams.telemetry.definitions import DEFINITIONS, FORMULAS
from streams.telemetry.labels import (
    APPLY_RESULTS,
    APPLY_STATUSES,
    DEAD_LETTER_CODES,
    DEFAULT_CHANNELS,
    INGEST_KINDS,
    INGEST_STATUSES,
    RESULTS,
    SILENCE_STATES,
    LabelDomains,
)
from streams.telemetry.metrics import series_budget
from streams.telemetry.table import APPLY, INGEST, SECTIONS, SILENCE, MetricDefinition

INTRODUCTION = """\
# Metrics

Made from `streams/telemetry/table.py` and `definitions.py` by `python -m streams.telemetry.docs`; do not edit.

Every worker serves its own metrics at `/metrics`, in Prometheus' text format or in OpenMetrics. Counters are raised
after the commit of what they count: never twice, and a crash in that instant may leave a step uncounted. The topics
hold the exact figures. Sum over workers. A restart sets counters to 0, which `rate` and `increase` allow for.

Every series whose labels are known beforehand exists from the start, at 0, so that a first increment is seen. What a
worker with a new address (`instance`) counts before its first scrape is not in `increase`, as with any counter. Let
workers keep their addresses over a restart, and use the topics where a figure has to be exact.

`lapse ingest` serves those of its own section, on `ingest_port`; `lapse ingest --silence` its own, on `silence_port`;
`lapse apply` its own, on `apply_port`.

Dashboards: `deploy/grafana`. Recording rules and alerts: `deploy/prometheus`; what to do about each alert:
`docs/runbooks`."""

DOMAINS = {
    "topic": "`ticket-updates` or `session-states`, without the prefix",
    "partition": "number of a partition that the worker holds; its series disappear when it is revoked",
    "result": ", ".join(f"`{result}`" for result in RESULTS)
    + "; of a shadow: "
    + ", ".join(f"`{result}`" for result in ShadowResult)
    + "; of `lapse apply`: "
    + ", ".join(f"`{result}`" for result in APPLY_RESULTS),
    "code": ", ".join(f"`{code}`" for code in DEAD_LETTER_CODES),
    "kind": ", ".join(f"`{kind}`" for kind in LabelDomains().values("kind"))
    + "; of `lapse ingest`: "
    + ", ".join(f"`{kind}`" for kind in INGEST_KINDS),
    "reason": "the configured `abandonment_reasons`, `other`, `none` (no reason given)",
    "channel": ", ".join(f"`{channel}`" for channel in DEFAULT_CHANNELS) + ", `other`, `none`",
    "outcome": ", ".join(f"`{outcome}`" for outcome in LabelDomains().values("outcome")),
    "trigger": "id of an active trigger of the file; of a shadow: of its own",
    "table": "`tickets` or `sessions`",
    "group": "`acted_on`, `held_out`: how the first round of the abandonment with a command, real or held out, ended",
    "status": ", ".join(f"`{status}`" for status in INGEST_STATUSES)
    + "; of `lapse apply`: "
    + ", ".join(f"`{status}`" for status in APPLY_STATUSES),
    "state": ", ".join(f"`{state}`" for state in SILENCE_STATES),
    "within": "`yes`, `no`: whether within `false_abandonment_window`",
}

BUDGET_PARTITIONS = (4, 32, 128)
BUDGET_TRIGGERS = (10, 50, 500)


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join([INTRODUCTION, *_definitions(), *_labels(), *_tables(), *_budget()]) + "\n"


def _definitions() -> Iterator[str]:
    yield from ("", "## What the abandonment figures mean", "")
    for figure, sentence in DEFINITIONS.items():
        yield f"- **{figure.capitalize()}.** {sentence}"
        yield f"  `{FORMULAS[figure]}`"


def _labels() -> Iterator[str]:
    yield from ("", "## Labels", "", "No label ever holds a ticket id, a session id, a command id or free text.", "")
    yield from _table(("label", "values"), ((f"`{label}`", values) for label, values in DOMAINS.items()))


def _tables() -> Iterator[str]:
    others = {
        "Zendesk's webhooks (`lapse ingest`)": INGEST,
        "Silence (`lapse ingest --silence`)": SILENCE,
        "Commands at Zendesk (`lapse apply`)": APPLY,
    }
    for title, rows in {**SECTIONS, **others}.items():
        yield from ("", f"## {title}", "")
        yield from _table(("metric", "type", "labels", "meaning"), map(_cells, rows))


def _cells(row: MetricDefinition) -> tuple[str, ...]:
    buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in row.buckets)}." if row.buckets else ""
    return f"`{row.name}`", row.type, ", ".join(f"`{label}`" for label in row.labels), row.help + buckets


def _budget() -> Iterator[str]:
    yield from (
        "",
        "## How many series",
        "",
        "At most so many for each worker, whatever the traffic, by partitions held and triggers in the file (one "
        f"abandonment reason, {len(DEFAULT_CHANNELS)} channels); beside them some 15 `process_` and `python_` ones:",
        "",
    )
    yield from _table(
        ("partitions", *(f"{triggers} triggers" for triggers in BUDGET_TRIGGERS)),
        (
            (str(partitions), *(f"{_series(partitions, triggers):,}" for triggers in BUDGET_TRIGGERS))
            for partitions in BUDGET_PARTITIONS
        ),
    )


def _series(partitions: int, triggers: int) -> int:
    domains = LabelDomains(abandonment_reasons=["one"], triggers=map(str, range(triggers)))
    return series_budget(domains, partitions)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield _line(head)
    yield _line(("---",) * len(head))
    yield from map(_line, rows)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(page(), end="")
