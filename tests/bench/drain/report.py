"""Numbers as text: medians, spreads and ratios."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from statistics import median

from tests.bench.drain.contestants import Run
from tests.kafka_kit.distribution import KAFKA_VERSION


def machine() -> str:
    """What the numbers hold for."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("faust-streaming", "aiokafka", "msgspec", "uvloop"))
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), load {load}, Python {platform.python_version()}, "
        f"Apache Kafka {KAFKA_VERSION} on the same machine, {libraries}"
    )


def table(runs: dict[str, list[Run]]) -> str:
    """One line for each contestant: median rate with its spread, processor time a record, ratio to the first."""
    first = median(run.rate for run in next(iter(runs.values())))
    lines = [f"{'':14}{'records':>10}{'records/s':>12}{'spread':>20}{'µs CPU':>9}{'commands':>10}{'ratio':>8}"]
    for name, several in runs.items():
        rates = [run.rate for run in several]
        lines.append(
            f"{name:14}{several[0].records:10,}{median(rates):12,.0f}{f'{min(rates):,.0f}–{max(rates):,.0f}':>20}"
            f"{median(run.cpu_micros for run in several):9.1f}{several[-1].commands:10,}{first / median(rates):7.1f}×"
        )
    return "\n".join(lines)


def percentiles(seconds: Iterable[float]) -> str:
    """p50, p90, p99 and maximum in milliseconds."""
    ordered = sorted(seconds)
    found = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 for share in (0.5, 0.9, 0.99)]
    return f"p50 {found[0]:.1f} ms, p90 {found[1]:.1f} ms, p99 {found[2]:.1f} ms, max {ordered[-1] * 1000:.0f} ms"
