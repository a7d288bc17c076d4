"""What does a shadow cost? `python -m tests.bench.shadow`.

The same records with and without a shadow, in turns, through a partition as the worker has it; what is written is
encoded too. With a shadow it may take 10 % more time. A drain loses less, since it also fetches and commits.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from statistics import median

from streams.core.cycle import Rules
from streams.core.engine import Engine
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.core.shadow import Candidate
from streams.offline.run import settled
from streams.rules.triggers import parse_triggers
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.wire.writes import writes
from tests.bench import workload

ENDS_AT = 1_772_359_200_000
BOUND = 1.10


def rules(text: str) -> Rules:
    """Compile the text of a trigger file."""
    parsed = parse_triggers(text)
    if parsed.ruleset is None:
        raise SystemExit("; ".join(map(str, parsed.errors)))
    return Rules(parsed.ruleset)


def time_records(live: Rules, shadow: Rules | None, records: dict[Topic, list[CapturedRecord]]) -> float:
    """Return the CPU seconds for all records."""
    partition = Partition(
        Engine(live), number=0, partition_count=1, decode=decode, rows=MsgpackRows(), dead_letter_limit=None,
        clock_grace=0,
    )  # fmt: skip
    partition.follow_with(None if shadow is None else Candidate(2, shadow))
    for topic in Topic:
        partition.add(topic, records[topic], 0)
    now = ENDS_AT * 1000
    gc.collect()
    begun = time.process_time()
    pipeline = Pipeline(partition)
    took_all = False
    while not took_all:
        took_all = pipeline.slice(now, dict.fromkeys(Topic, now))
        if pipeline.is_full or took_all:
            for batch in settled(pipeline):
                writes(batch, app_id="lapse", partition=0)
    return time.process_time() - begun


def main() -> None:
    """Measure, and end with 1 when the bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each, of which the median counts (default 5)")
    parser.add_argument("--records", type=int, default=100_000, help="in each run (default 100000)")
    options = parser.parse_args()
    records: dict[Topic, list[CapturedRecord]] = {topic: [] for topic in Topic}
    for one in workload.records(options.records, options.records // 5, ends_at=ENDS_AT):
        log = records[Topic.TICKETS if one.is_ticket else Topic.SESSIONS]
        log.append(CapturedRecord(len(log), one.timestamp, one.key, one.value))
    text = workload.recipes()
    changed = text.replace("value: solved", "value: pending")
    contestants = {"no shadow": None, "the same rules": text, "other actions": changed}
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.runs):
        for name, shadow in contestants.items():
            candidate = None if shadow is None else rules(shadow)
            spent[name].append(time_records(rules(text), candidate, records))
    alone = median(spent["no shadow"])
    held = True
    for name, seconds in spent.items():
        ratio = median(seconds) / alone
        held &= ratio <= BOUND
        print(f"  {name:<16} {median(seconds) / options.records * 1e6:6.2f} µs a record   {ratio:.3f}")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
