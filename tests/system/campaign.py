"""`python -m tests.system.campaign`: faults of single requests on a real broker, many of each kind, and their table.

    python -m tests.system.campaign --injections 30 --seed 7
    python -m tests.system.campaign --injections 5 --only "late EndTxn" --transaction-version 1

Every kind gets an installation of its own, so that what is lost, phantom or twice belongs to it. Exit code 1 when
anything is, when a worker ended by itself, or when a log holds a traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kafka_kit.broker import Broker
from tests.system.installation import Outcome
from tests.system.request_faults import KINDS, PARTITIONS, Kind, Stage, Strike

_HEAD = (
    f"{'fault':68} {'times':>5} {'placed':>6} {'records':>8} {'lost':>5} {'phantom':>7} {'twice':>6} {'ended':>5} stop"
)


@dataclass
class Row:
    """What became of one kind of fault."""

    kind: Kind
    version: int
    strikes: list[Strike]
    outcome: Outcome
    ended: list[tuple[str, int]]
    tracebacks: list[str]

    @property
    def clean(self) -> bool:
        """Nothing lost, phantom or twice; nobody ended; no traceback."""
        return self.outcome.clean and not self.ended and not self.tracebacks

    def __str__(self) -> str:
        """Return the line of the table."""
        lost, phantom, twice = self.outcome.totals
        name = f"{self.kind.name} (v{self.version})"
        times, placed = len(self.strikes), sum(strike.placed for strike in self.strikes)
        stop = max((strike.stop for strike in self.strikes), default=0.0)
        return (
            f"{name:68} {times:5} {placed:6} {self.outcome.records:8} {lost:5} {phantom:7} {twice:6} "
            f"{len(self.ended):5} {stop:4.1f} s"
        )


async def run_kind(broker: Broker, kind: Kind, *, injections: int, seed: int, version: int, logs: Path) -> Row | None:
    """Do one kind of fault `injections` times, on all partitions at once unless a worker ends for it.

    Returns None when workers never send the request that it is about.
    """
    strikes: list[Strike] = []
    async with Stage(broker, f"c{uuid.uuid4().hex[:8]}-", logs, seed=seed) as stage:
        if not stage.sends(kind.api):
            return None
        order = random.Random(seed)
        while len(strikes) < injections:
            partitions = order.sample(range(PARTITIONS), 1 if kind.restarts else PARTITIONS)
            strikes += await asyncio.gather(*(kind.strike(stage, partition) for partition in partitions))
            await asyncio.sleep(order.uniform(0.0, 0.3))  # not always at the same place of a transaction
        outcome = await stage.judge()
        row = Row(kind, version, strikes, outcome, stage.supervisor.failures, stage.tracebacks())
        if not row.clean:
            print(f"  {stage.journal()}\n  logs: {logs}", file=sys.stderr)
        return row


def _chosen(only: str | None) -> Iterator[Kind]:
    for kind in KINDS:
        if only is None or only.lower() in kind.name.lower():
            yield kind


async def campaign(options: argparse.Namespace) -> int:
    """Run the kinds asked for, printing the table as it grows; return the exit code."""
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    out = options.out or Path(tempfile.mkdtemp(prefix="lapse-campaign-"))
    versions = [options.transaction_version] if options.transaction_version else [2, 1]
    print(f"seed {seed}, logs and journals in {out}\n{_HEAD}", flush=True)
    bad, began, strikes, records = 0, time.monotonic(), 0, 0
    for version in versions:
        with Broker(proxied=2, features={"transaction.version": version}) as broker:
            for number, kind in enumerate(_chosen(options.only)):
                logs = out / f"v{version}-{number}"
                logs.mkdir(parents=True, exist_ok=True)
                try:
                    row = await run_kind(
                        broker, kind, injections=options.injections, seed=seed, version=version, logs=logs
                    )
                except (AssertionError, TimeoutError) as error:
                    bad += 1
                    print(f"{kind.name} (v{version}): {type(error).__name__} {error}", flush=True)
                    continue
                if row is None:
                    print(f"{kind.name} (v{version}): no such request is sent", flush=True)
                    continue
                strikes, records = strikes + len(row.strikes), records + row.outcome.records
                print(row, flush=True)
                if not row.clean:
                    bad += 1
                    details = [str(row.outcome), *(f"ended: {name} with {code}" for name, code in row.ended)]
                    print("\n".join([*details, *row.tracebacks[:2]]), file=sys.stderr)
            if broker.lost_markers:
                print(f"the broker itself dropped the end of {broker.lost_markers} transactions", flush=True)
    print(f"{strikes} faults, {records} records, {time.monotonic() - began:.0f} s, {bad} kinds with something amiss")
    return 1 if bad else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.system.campaign", description=__doc__)
    parser.add_argument("--injections", type=int, default=30, help="of each kind, at least (default 30)")
    parser.add_argument("--seed", type=int, help="repeats records and faults; printed when not given")
    parser.add_argument("--only", help="kinds whose name contains this")
    parser.add_argument("--transaction-version", type=int, choices=[1, 2], help="of the broker (default: both)")
    parser.add_argument("--out", type=Path, help="where logs and journals go")
    sys.exit(asyncio.run(campaign(parser.parse_args())))


if __name__ == "__main__":
    main()
