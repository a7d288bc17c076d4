"""`python -m tests.bench`: Lapse beside its peers on one real broker, and the page that comes of it.

    python -m tests.bench                          # everything; writes tests/bench/results and docs/performance.md
    python -m tests.bench --prepare                # builds the peers and asks the oracle; measures nothing
    python -m tests.bench --quick --out /tmp/try   # small sizes, to see that everything works
    python -m tests.bench --only drain latency     # some parts; the others keep their last results
    python -m tests.bench --page                   # the page from the last results

Nothing else should run on the machine meanwhile. Contestants take turns, so that a slow minute hits all of them. A run
whose commands are not those of the oracle is void, and the page says so. Every part has a time within which it begins
a further round; all waits are bounded, and what was started is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench import backtest, drain, footprint, latency, page, results, stages, transactions
from tests.bench.contestants import BARE, EVERYBODY, FAUST, LAPSE, PEERS, QUIX, STREAMS, STREAMS_TUNED, environment
from tests.bench.ground import Ground, backlog, expectation, write_triggers
from tests.kafka_kit import Broker
from tests.kafka_kit.distribution import jars


@dataclass(frozen=True)
class Plan:
    """How much of everything. Times are seconds; rounds are begun until `within` is over."""

    records: int = 500_000
    tickets: int = 100_000
    partitions: int = 4
    rounds: int = 5
    drain_within: float = 400
    # Those that are slow by nature get fewer records and fewer rounds.
    slow_rounds: int = 2
    quix_records: int = 120_000
    faust_records: int = 24_000

    rates: tuple[int, ...] = (1_000, 5_000)
    busy: float = 1 / 3
    latency_seconds: float = 7
    latency_rounds: int = 3
    latency_within: float = 300
    preload: int = 30_000
    partition_counts: tuple[int, ...] = (1, 4, 16, 64)

    transaction_partitions: tuple[int, ...] = (1, 4, 16)
    transaction_seconds: float = 3

    footprint_tickets: int = 100_000
    backtest_lines: int = 400_000
    backtest_runs: int = 3


QUICK = Plan(
    records=20_000,
    tickets=2_000,
    rounds=1,
    slow_rounds=1,
    quix_records=6_000,
    faust_records=3_000,
    rates=(200,),
    latency_seconds=3,
    latency_rounds=1,
    preload=1_000,
    partition_counts=(1, 16),
    transaction_partitions=(1, 4),
    transaction_seconds=1,
    footprint_tickets=2_000,
    backtest_lines=10_000,
    backtest_runs=1,
)


_BROKER = {"broker.session.timeout.ms": "18000", "broker.heartbeat.interval.ms": "2000"}
"""The tests' broker gives itself up after 2 s without a heartbeat, which a busy machine can take."""


class Bench:
    """One broker, one scratch directory, one plan; each public method is a part, and returns what goes to its file."""

    def __init__(self, broker: Broker, scratch: Path, plan: Plan) -> None:
        """Prepare; grounds are filled when they are first needed."""
        self._broker, self._scratch, self._plan = broker, scratch, plan
        self._triggers = write_triggers(scratch)
        self._grounds: dict[int, Ground] = {}

    def drain(self) -> dict[str, Any]:
        """Drain a backlog, all contestants in turns."""
        plan = self._plan
        sizes = {each: plan.records for each in (LAPSE, STREAMS, STREAMS_TUNED, BARE)}
        sizes |= {QUIX: plan.quix_records, FAUST: plan.faust_records}
        grounds = {size: self._ground(size) for size in sizes.values()}
        found: dict[str, list[dict[str, Any]]] = {each.key: [] for each in sizes}
        until = time.monotonic() + plan.drain_within
        for turn in range(plan.rounds):
            if turn and time.monotonic() > until:
                break
            for each, size in sizes.items():
                if size != plan.records and turn >= plan.slow_rounds:
                    continue
                run = asyncio.run(drain.run(each, grounds[size], self._scratch))
                found[each.key].append(run.as_json())
                said = "" if run.equality.holds else f"; commands differ: {run.equality}"
                _say(f"round {turn + 1}: {each.title}: {run.rate:,.0f}/s, {run.cpu_micros:.1f} µs a record{said}")
        return {"partitions": plan.partitions, "tickets": plan.tickets, "runs": found}

    def latency(self) -> dict[str, Any]:
        """Event to command at fixed rates, in turns; at the highest rate with a busy neighbour too."""
        plan, found = self._plan, []
        cases = [(each, rate, 0.0) for rate in plan.rates for each in (LAPSE, STREAMS_TUNED)]
        cases += [(each, plan.rates[-1], plan.busy) for each in (LAPSE, STREAMS_TUNED)]
        once = [(STREAMS, rate, 0.0) for rate in plan.rates]
        until = time.monotonic() + plan.latency_within
        for turn in range(plan.latency_rounds):
            if turn and time.monotonic() > until:
                break
            for contestant, rate, busy in cases + (once if turn == 0 else []):
                found.append(self._latency(contestant, plan.partitions, rate, busy))
        return {"partitions": plan.partitions, "seconds": plan.latency_seconds, "runs": found}

    def partitions(self) -> dict[str, Any]:
        """Event to command in one worker with few and with many partitions."""
        plan = self._plan
        return {"runs": [self._latency(LAPSE, count, plan.rates[0], 0.0) for count in plan.partition_counts]}

    def transactions(self) -> dict[str, Any]:
        """What one transaction costs."""
        plan, found = self._plan, []
        for partitions in plan.transaction_partitions:
            for size in transactions.SIZES:
                cost = transactions.measure(self._broker, partitions, size, plan.transaction_seconds)
                found.append(cost.as_json())
                _say(
                    f"{size} transactions on {partitions} partitions: p50 {cost.p50:.2f} ms, "
                    f"{cost.cpu_micros:,.0f} µs each, {cost.per_second:,.0f}/s"
                )
        return {"cases": found}

    def stages(self) -> dict[str, Any]:
        """Where each microsecond of a drain goes."""
        return asyncio.run(stages.measure(self._ground(self._plan.records), self._scratch))

    def footprint(self) -> dict[str, Any]:
        """Memory and restore."""
        plan = self._plan
        found = footprint.measure(self._broker, plan.partitions, plan.footprint_tickets, self._triggers, self._scratch)
        _say(f"{found['bytes_a_ticket_after_drain']:.0f} bytes a ticket, {found['restored_a_second'] or 0:,.0f} rows/s")
        return found

    def backtest(self) -> dict[str, Any]:
        """A capture through `lapse backtest`."""
        plan = self._plan
        runs = backtest.measure(plan.backtest_lines, plan.backtest_runs, self._scratch / "captures")
        return {"lines": plan.backtest_lines, "runs": [run._asdict() for run in runs]}

    def _ground(self, records: int) -> Ground:
        if records not in self._grounds:
            plan = self._plan
            filling = backlog(self._broker, plan.partitions, records, plan.tickets, self._triggers)
            self._grounds[records] = asyncio.run(filling)
        return self._grounds[records]

    def _latency(self, contestant: Any, partitions: int, rate: int, busy: float) -> dict[str, Any]:
        plan = self._plan
        found = latency.measure(
            contestant,
            self._broker,
            partitions,
            self._triggers,
            self._scratch,
            rate=rate,
            seconds=plan.latency_seconds,
            preload=plan.preload,
            busy=busy,
        )
        said = "" if found.holds else f"; {found.commands} of {found.wanted} commands, {found.twice} twice"
        _say(
            f"{contestant.title}, {partitions} partitions, {rate:,}/s, busy {busy:.0%}: "
            f"p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms, {found.cpu_micros:.0f} µs a record{said}"
        )
        return {"contestant": contestant.key, "partitions": partitions, "busy": busy, **found.as_json()}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "drain": Bench.drain,
    "latency": Bench.latency,
    "partitions": Bench.partitions,
    "transactions": Bench.transactions,
    "stages": Bench.stages,
    "footprint": Bench.footprint,
    "backtest": Bench.backtest,
}


def main() -> None:
    """Measure what is asked for, write results and page; 1 when a part failed."""
    chosen = _arguments()
    for chatty in ("aiokafka", "streams"):  # topics that come and go
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    where = results.Results(chosen.out)
    if chosen.page:
        page.write(where)
        return
    plan = QUICK if chosen.quick else Plan()
    if chosen.rounds:
        plan = replace(plan, rounds=chosen.rounds, latency_rounds=chosen.rounds)
    began = time.monotonic()
    _prepare(plan)
    _say(f"prepared in {time.monotonic() - began:.0f} s")
    if chosen.prepare:
        return
    failed = []
    with TemporaryDirectory(prefix="lapse-bench-") as scratch, Broker(_BROKER) as broker:
        bench = Bench(broker, Path(scratch), plan)
        for name in chosen.only or PARTS:
            since = time.monotonic()
            try:
                found = PARTS[name](bench)
            except Exception:
                traceback.print_exc()
                failed.append(name)
            else:
                where.write(name, found, took=time.monotonic() - since)
            _say(f"{name} took {time.monotonic() - since:.0f} s")
    page.write(where)
    _say(f"all in {time.monotonic() - began:.0f} s; results in {where.directory}, page {where.page}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes; the figures mean nothing")
    parser.add_argument("--rounds", type=int, help="interleaved rounds of drain and latency")
    parser.add_argument("--prepare", action="store_true", help="build and fetch what is needed, and measure nothing")
    parser.add_argument("--page", action="store_true", help="write the page from the last results, and measure nothing")
    parser.add_argument("--out", type=Path, help="a directory for results and page, instead of the project's own")
    chosen = parser.parse_args()
    if chosen.quick and not chosen.out:
        parser.error("--quick takes --out: its figures are not for the project's page")
    return chosen


def _prepare(plan: Plan) -> None:
    """Fetch, build and work out everything that takes long and is kept."""
    jars()
    for each in EVERYBODY:
        each.versions()
    environment(PEERS / "profiler-requirements.txt")
    for records in (plan.records, plan.quix_records, plan.faust_records):
        expectation(records, plan.tickets)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    main()
