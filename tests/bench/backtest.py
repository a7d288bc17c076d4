"""How fast is `lapse backtest`, and in how much memory? `python -m tests.bench.backtest --help`.

Writes a capture of the benchmarks' workload (tests/bench/workload.py: realistic sizes, 5 % lapses, tickets 5 % of
the lines) and a file of 50 triggers into a temporary directory, then times whole processes: start, both passes, report.

    python -m tests.bench.backtest                              # 2 million lines, 3 runs
    python -m tests.bench.backtest --lines 200000 -- --json     # what stands after -- goes to `lapse backtest`
    python -m tests.bench.backtest --keep /tmp/captures         # write once, use again
    python -m tests.bench.backtest --against                    # two trigger files over the same capture
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from streams.core.names import Topic
from streams.core.partitioning import partition_of
from streams.wire import capture
from streams.wire.capture import CapturedRecord
from tests.bench import workload

ENDS_AT = 1_772_359_200_000  # 2026-03-01T10:00:00Z: the same bytes on every day
ROOT = Path(__file__).parents[2]


class Run(NamedTuple):
    """One process: seconds by the wall clock and of the processor, and the most memory it held."""

    wall: float
    cpu: float
    peak_mib: float


def write_capture(path: Path, lines: int, partitions: int) -> None:
    """Write `lines` records, in the order of their timestamps."""
    offsets: dict[tuple[Topic, int], int] = {}
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb", buffering=1 << 20) as file:
        for made in workload.records(lines, max(1, lines // 20), ends_at=ENDS_AT):
            topic = Topic.TICKETS if made.is_ticket else Topic.SESSIONS
            number = partition_of(made.key, partitions)
            offset = offsets[topic, number] = offsets.get((topic, number), -1) + 1
            file.write(capture.line(topic, number, CapturedRecord(offset, made.timestamp, made.key, made.value)))
    unfinished.rename(path)


def older(triggers: str) -> str:
    """Return the trigger file as it may have been before: some triggers asked for less, one waited."""
    return triggers.replace("value: urgent\n", "value: high\n", 1).replace(
        "  title: Pending\n", "  title: Pending\n  wait: 30s\n", 1
    )


def run(arguments: Sequence[str | Path]) -> Run:
    """Run `lapse` to its end; what it prints is thrown away."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", *map(str, arguments)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"lapse ended with {process.returncode}")
    kib = usage.ru_maxrss if sys.platform != "darwin" else usage.ru_maxrss / 1024
    return Run(time.monotonic() - began, usage.ru_utime + usage.ru_stime, kib / 1024)


def main() -> None:
    """Write, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--triggers", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="where the capture stays for the next time")
    parser.add_argument("--against", action="store_true", help="compare with a second trigger file")
    parser.add_argument("rest", nargs="*", metavar="-- FLAG", help="further flags of `lapse backtest`")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="lapse-bench-") as temporary:
        directory = options.keep or Path(temporary)
        runs = measure(
            options.lines,
            options.runs,
            directory,
            partitions=options.partitions,
            triggers=options.triggers,
            against=options.against,
            rest=options.rest,
        )
        wall, cpu = median(each.wall for each in runs), median(each.cpu for each in runs)
        print(
            f"median: {options.lines / wall:,.0f} records/s, {options.lines / cpu:,.0f} a CPU second, "
            f"peak {max(each.peak_mib for each in runs):,.0f} MiB"
        )


def measure(
    lines: int,
    runs: int,
    directory: Path,
    *,
    partitions: int = 4,
    triggers: int = 50,
    against: bool = False,
    rest: Sequence[str] = (),
) -> list[Run]:
    """Write the capture into the directory unless it is there, backtest it so many times, and print each run."""
    directory.mkdir(parents=True, exist_ok=True)
    events = directory / f"{lines}-lines-{partitions}-partitions.jsonl"
    if not events.exists():
        began = time.monotonic()
        write_capture(events, lines, partitions)
        print(f"wrote {events.stat().st_size / 1e6:,.0f} MB in {time.monotonic() - began:.0f} s", flush=True)
    new, old = directory / "new.yaml", directory / "old.yaml"
    new.write_text(workload.rules(triggers))
    old.write_text(older(workload.rules(triggers)))
    arguments: list[str | Path] = ["backtest", "--events", events, "--triggers", new, *rest]
    if against:
        arguments += ["--against", old]
    found: list[Run] = []
    for number in range(runs):
        done = run(arguments)
        found.append(done)
        print(
            f"run {number + 1}: {lines / done.wall:,.0f} records/s, {lines / done.cpu:,.0f} a CPU "
            f"second ({done.wall:.1f} s, CPU {done.cpu:.1f} s), peak {done.peak_mib:,.0f} MiB",
            flush=True,
        )
    return found


if __name__ == "__main__":
    main()
