"""What changing rules costs: `python -m tests.bench.rules`. It starts a broker for the second figure.

1. How long a partition stands still while it takes a revision of 500 triggers up, by the clock of this process.
2. How soon a stop is in use: from the answer to its publishing to the commit of the last partition, over many stops.
3. What a record costs with rules from their topic and without a change, compared with rules from a file.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time

from streams.core.cycle import Rules
from streams.core.revisions import Entry, EntryKind, Rulebook
from streams.core.triggers import Ruleset
from streams.rules.source import compile_source
from streams.rules.triggers import parse_triggers
from streams.testing.driver import Driver
from streams.testing.traffic import Profile, generate
from tests.kafka_kit.broker import Broker
from tests.worker.kit import TRIGGERS, config_for, topics
from tests.worker.test_rules import publish_live, publish_stop, ruled

MANY = "triggers:\n" + "".join(
    TRIGGERS.split("triggers:\n")[1].replace("solve-abandoned", f"trigger-{number}") for number in range(500)
)


def compiled(text: str) -> Ruleset:
    """Compile a trigger file."""
    ruleset = parse_triggers(text).ruleset
    assert ruleset is not None
    return ruleset


def live(number: int, text: str) -> Entry:
    """A revision that is effective from the beginning of time."""
    return Entry(
        number=number, kind=EntryKind.LIVE, published_at=0, effective_from=0, source=text,
        ruleset=compiled(text).digest,
    )  # fmt: skip


def taking_up(times: int) -> None:
    """Print how long taking a large revision up takes, without its compilation, which runs beside."""
    took, compiling = [], []
    for _ in range(times):
        book = Rulebook(compile_source)
        book.add(live(1, TRIGGERS))
        driver = Driver(Rules(Ruleset(())), book=book, now_ms=1)
        driver.run()
        entry = live(2, MANY)
        began = time.perf_counter()
        made = book.compiled(entry)
        compiling.append(time.perf_counter() - began)
        book.add(entry, made)
        began = time.perf_counter()
        driver.run()
        took.append(time.perf_counter() - began)
        assert driver.records()[-1]["number"] == 2
    print(
        f"a revision of 500 triggers: a partition stands still for {statistics.median(took) * 1000:.1f} ms at the "
        f"median, {max(took) * 1000:.1f} ms at most, of {times}; compiling: {statistics.median(compiling):.2f} s"
    )


async def stopping(times: int) -> None:
    """Print how soon stops are in use in all of four partitions."""
    with Broker() as broker:
        config = await topics(config_for(broker, "", rules="topic"), 4)
        await publish_live(config, TRIGGERS)
        took = []
        async with ruled(config) as worker:
            await worker.until(lambda: worker.held == {0, 1, 2, 3})
            for place in range(times):
                kind = EntryKind.STOP if place % 2 == 0 else EntryKind.RESUME
                done = await publish_stop(config, kind)
                number = place + 2
                await worker.until(lambda number=number: len(_committed(worker, number)) == 4)
                took.append(time.monotonic() - done)
    cuts = statistics.quantiles(took, n=100)
    print(f"a stop: p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms after its publishing, of {times}")


def _committed(worker: object, number: int) -> set[int]:
    batches = worker.notes.batches  # type: ignore[attr-defined]
    return {partition for partition, batch in batches if batch.in_use is not None and batch.in_use.activation >= number}


def steady(records: int, rounds: int) -> None:
    """Print what a record costs with rules from a file and from their topic, in turns."""
    made = list(itertools.islice(generate(Profile(tickets=None)), records))
    costs: dict[str, list[float]] = {"file": [], "topic": []}
    for _ in range(rounds):
        for source, seconds in costs.items():
            book = None
            if source == "topic":
                book = Rulebook(compile_source)
                book.add(live(1, TRIGGERS))
            driver = Driver(Rules(compiled(TRIGGERS)), book=book)
            for record in made:
                driver.pipe(record.topic, record.key, record.value, record.timestamp)
            began = time.process_time()
            driver.run()
            seconds.append((time.process_time() - began) / len(made) * 1e6)
    ratios = [file / topic for file, topic in zip(costs["file"], costs["topic"], strict=True)]
    print(
        f"file {statistics.median(costs['file']):.2f} µs a record, topic {statistics.median(costs['topic']):.2f} µs; "
        f"topic as fast as {statistics.median(ratios):.1%} of file ({min(ratios):.1%} to {max(ratios):.1%})"
    )


def main() -> None:
    """Measure as the flags say."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rules", description=__doc__)
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--records", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    taking_up(9)
    asyncio.run(stopping(given.stops))
    steady(given.records, given.rounds)


if __name__ == "__main__":
    main()
