"""PromQL over the metrics of the table; a name that the table does not have is refused."""

from __future__ import annotations

from streams.telemetry.table import EVERY_METRIC

WORKERS = 'job=~"$job", instance=~"$instance"'
"""Matchers of every selector: the workers that the dashboard's variables choose."""

RATE = "$__rate_interval"
SHOWN = "$__range"
"""Window of a figure over all the time that is shown."""

_TYPES = {row.name: row.type for row in EVERY_METRIC}
_OF_THE_PROCESS = {
    "process_cpu_seconds_total": "counter",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
}


def series(name: str, *matchers: str) -> str:
    """Select a metric's series. Raises KeyError for one that no worker exports."""
    base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
    if name not in _TYPES and name not in _OF_THE_PROCESS and _TYPES.get(base) != "histogram":
        raise KeyError(name)
    return f"{name}{{{', '.join((WORKERS, *matchers))}}}"


def rate(name: str, *matchers: str, by: str = "", over: str = RATE) -> str:
    """Sum a counter's rate a second, by labels."""
    return total(f"rate({series(name, *matchers)}[{over}])", by)


def increase(name: str, *matchers: str, by: str = "", over: str = RATE) -> str:
    """Sum by how much a counter rose, by labels."""
    return total(f"increase({series(name, *matchers)}[{over}])", by)


def total(expression: str, by: str = "") -> str:
    """Sum over everything but these labels."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def ratio(part: str, whole: str) -> str:
    """Divide; nothing divided by nothing is no data."""
    return f"{part} / ({whole} > 0)"


def quantile(share: float, histogram: str, *matchers: str, over: str = RATE) -> str:
    """Estimate a quantile over all workers."""
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', *matchers, by='le', over=over)})"
