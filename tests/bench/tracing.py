"""What does it cost the worker that rounds can be explained? `python -m tests.bench.tracing`.

The engine keeps no trace: a round is traced by running its cycle again. What is left in the worker's way is that the
cycle tells of each firing (`Rules.firings`). So the same records are run side by side, in turns, by the rules as they
are and by rules whose cycle tells nothing; and once with every round traced, to show what that would cost.
"""

from __future__ import annotations

import gc
import time
from statistics import median

from streams.core.actions import WorkingCopy
from streams.core.cycle import Rules
from streams.core.engine import Engine
from streams.core.model import Evaluation, Lapse, Micros
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.core.trace import trace_round
from streams.core.triggers import Ruleset, Trigger
from streams.offline.run import settled
from streams.rules.triggers import parse_triggers
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from tests.bench import workload

RECORDS, TICKETS, TURNS = 100_000, 20_000, 7
ENDS_AT = 1_772_359_200_000


class Silent(Rules):
    """Rules whose cycle is one plain loop."""

    def fire(self, wait: Micros, lapse: Lapse, row):
        copy = WorkingCopy(row)
        candidates = self.candidates(wait, lapse)
        fired: list[Trigger] = []
        places: set[int] = set()
        start = 0
        while (found := candidates.first(row, copy.now, places, start)) is not None:
            place, candidate = found
            fired.append(candidate.trigger)
            places.add(place)
            changed = copy.apply(candidate.trigger.actions)
            start = 0 if changed and self.restarts else place + 1
        return fired, copy


def run(rules: Rules, records: dict[Topic, list[CapturedRecord]], *, traced: bool = False) -> tuple[float, int]:
    """Return CPU seconds and how many rounds were evaluated."""
    partition = Partition(
        Engine(rules), number=0, partition_count=1, decode=decode, rows=MsgpackRows(), dead_letter_limit=None,
        clock_grace=0,
    )  # fmt: skip
    for topic in Topic:
        partition.add(topic, records[topic], 0)
    now = ENDS_AT * 1000
    rounds = 0
    begun = time.process_time()
    pipeline = Pipeline(partition)
    took_all = False
    while not took_all:
        took_all = pipeline.slice(now, dict.fromkeys(Topic, now))
        for record in (record for batch in settled(pipeline) for record in batch.records):
            if isinstance(record, Evaluation) and record.lapse is not None and record.ticket is not None:
                rounds += 1
                if traced:
                    trace_round(rules, record.wait, record.lapse, record.ticket.fields or {})
    return time.process_time() - begun, rounds


def main() -> None:
    """Run the three in turns and print medians."""
    ruleset: Ruleset | None = parse_triggers(workload.rules(50)).ruleset
    assert ruleset is not None
    records: dict[Topic, list[CapturedRecord]] = {topic: [] for topic in Topic}
    for place, made in enumerate(workload.records(RECORDS, TICKETS, ends_at=ENDS_AT)):
        topic = Topic.TICKETS if made.is_ticket else Topic.SESSIONS
        records[topic].append(CapturedRecord(place, made.timestamp, made.key, made.value))
    gc.collect()
    gc.freeze()
    gc.disable()
    contestants = {
        "cycle tells nothing": (Silent(ruleset), False),
        "as the worker runs it": (Rules(ruleset), False),
        "every round traced": (Rules(ruleset), True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    rounds = 0
    for _ in range(TURNS):
        for name, (rules, traced) in contestants.items():
            taken, rounds = run(rules, records, traced=traced)
            seconds[name].append(taken)
    base = median(seconds["cycle tells nothing"])
    print(f"{RECORDS:,} records, {rounds:,} rounds, 50 triggers, medians of {TURNS} turns")
    for name, taken in seconds.items():
        middle = median(taken)
        print(
            f"{name:<22} {middle / RECORDS * 1e6:6.2f} µs CPU a record "
            f"({min(taken) / RECORDS * 1e6:.2f}–{max(taken) / RECORDS * 1e6:.2f}), {middle / base:.3f}×"
        )


if __name__ == "__main__":
    main()
