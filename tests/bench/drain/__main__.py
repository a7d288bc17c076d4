"""`python -m tests.bench.drain`: Lapse beside an idiomatic Faust app and a bare loop, on one real broker.

    python -m tests.bench.drain --records 400000 --partitions 4 --triggers 50 --repeat 3
    python -m tests.bench.drain --latency 1000 5000
    python -m tests.bench.drain --footprint --tickets 250000

Nothing else should run on the machine meanwhile. All contestants share broker and records, and take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.drain import footprint, latency, report, workload
from tests.bench.drain.contestants import Ground, Run, run_bare, run_faust, run_lapse
from tests.kafka_kit import Broker, topics

_OTHERS = ("faust-commands", "bare-commands", "bare-changelog")


def main() -> None:
    """Run what is asked for, and print it."""
    chosen = _arguments()
    with TemporaryDirectory() as scratch, Broker() as broker:
        triggers = Path(scratch, "triggers.yaml")
        triggers.write_text(workload.rules(chosen.triggers))

        def ground(records: int) -> Ground:
            return asyncio.run(_fill(broker, chosen.partitions, records, chosen.tickets, triggers))

        print(report.machine(), flush=True)
        print(f"{chosen.partitions} partitions, {chosen.tickets:,} tickets, {chosen.triggers} triggers", flush=True)
        if chosen.latency:
            here = ground(0)
            for rate in chosen.latency:
                print(latency.measure(here, rate, chosen.seconds), flush=True)
        if chosen.footprint:
            print(footprint.measure(ground(chosen.tickets * 20 // 6), chosen.tickets, ground(0)), flush=True)
        if not chosen.latency and not chosen.footprint:
            print(report.table(asyncio.run(_race(ground(chosen.records), chosen))), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.drain", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--triggers", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--faust-records", type=int, default=20_000, help="what the Faust app gets of them; 0: leave out"
    )
    parser.add_argument("--latency", type=int, nargs="+", metavar="RATE", help="latency at these records a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each latency run")
    parser.add_argument("--footprint", action="store_true", help="restore and memory, instead of the race")
    return parser.parse_args()


async def _fill(broker: Broker, partitions: int, records: int, tickets: int, triggers: Path) -> Ground:
    prefix = f"bench-{uuid.uuid4().hex[:6]}-"
    limits = {"max.message.bytes": str(2 << 20)}
    await topics.create(broker.bootstrap, [prefix + workload.TICKETS, prefix + workload.SESSIONS], partitions, limits)
    await topics.create(broker.bootstrap, [prefix + name for name in _OTHERS], partitions)
    written = await workload.fill(broker.bootstrap, prefix, partitions, workload.records(records, tickets))
    assert written == records
    return Ground(broker, prefix, partitions, records, triggers)


async def _race(ground: Ground, chosen: argparse.Namespace) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {"Lapse": [], "bare aiokafka": [], "Faust": []}
    for turn in range(chosen.repeat):
        runs["Lapse"].append(await run_lapse(ground))
        runs["bare aiokafka"].append(await run_bare(ground))
        if chosen.faust_records:
            runs["Faust"].append(await run_faust(ground, min(chosen.faust_records, ground.records)))
        shown = ", ".join(f"{name} {several[-1].rate:,.0f}/s" for name, several in runs.items() if several)
        print(f"turn {turn + 1}: {shown}", flush=True)
    return {name: several for name, several in runs.items() if several}


if __name__ == "__main__":
    main()
