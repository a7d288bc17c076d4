"""How fast are `lapse check` and a worker with many triggers? `python -m tests.bench.check`.

Two questions, each with the bound that we hold ourselves to:

- `lapse check` of 7,000 triggers, the most that Zendesk lets be active: 5 s. Whole processes, on files of several
  kinds, as lints compare triggers with each other: told apart by group, written at length (with tests), alike.
- The same records by 10 and by 1,000 triggers: at most 1.5 times the time per record. The benchmarks' workload has a
  lapse in every twentieth record. The triggers come in several kinds: those that one value of a field or a tag tells
  apart, which the rules look up, and those that must each be asked (an order of numbers).
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from streams.core.cycle import Rules
from streams.core.engine import Engine
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.offline.run import settled
from streams.rules.triggers import parse_triggers
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from tests.bench import workload

ROOT = Path(__file__).parents[2]
ENDS_AT = 1_772_359_200_000
MANY = 7_000
SECONDS, RATIO = 5.0, 1.5

LEFT = {"field": "messaging_session_state", "operator": "changed_to", "value": "inactive"}
OFFLINE = {"field": "messaging_session_inactive_reason", "operator": "is", "value": "user_inactive_or_offline"}


# --- check ------------------------------------------------------------------------------------------------------------


def at_length(count: int) -> str:
    """Triggers as large accounts have them: categories, both sides, notifications; and a test for every tenth."""
    triggers, tests = [], []
    for number in range(count):
        group = str(360_000_000_000 + number % 1_500)
        triggers.append(
            {
                "id": f"{4_400_000_000_000 + number}",
                "title": f"Abandoned: brand {number % 12}, group {number % 1_500}, rule {number}",
                "category": {"position": number % 20, "name": f"Category {number % 20}"},
                "wait": ("0s", "60s", "5m")[number % 3],
                "conditions": {
                    "all": [
                        LEFT,
                        OFFLINE,
                        {"field": "group_id", "operator": "is", "value": group},
                        {"field": "status", "operator": "less_than", "value": "solved"},
                        {"field": "current_tags", "operator": "not_includes", "value": f"handled_{number}"},
                    ],
                    "any": [
                        {"field": "priority", "operator": "is", "value": "high"},
                        {
                            "field": f"custom_fields_{36_000 + number % 300}",
                            "operator": "is",
                            "value": f"v{number % 5}",
                        },
                    ],
                },
                "actions": [
                    {"field": "priority", "value": ("low", "normal")[number % 2]},
                    {"field": "add_tags", "value": f"abandoned handled_{number}"},
                    {
                        "field": "notification_user",
                        "value": [
                            "requester_id",
                            "We missed you",
                            "Hello, you left our chat before we could help. " * 4,
                        ],
                    },
                ],
            }
        )
        if number % 10 == 0:
            tests.append(
                {
                    "name": f"rule {number} leaves other groups alone",
                    "given": {"ticket": {"status": "open", "group_id": "1"}, "session": {"state": "active"}},
                    "when": {"session": {"state": "inactive", "reason": "user_inactive_or_offline"}},
                    "after": ("0s", "60s", "5m")[number % 3],
                    "expect": {"fired": [], "outcome": "no_match"},
                }
            )
    return _a_line_each(triggers=triggers, tests=tests)


def _a_line_each(**lists: list[dict[str, object]]) -> str:
    return "".join(
        f"{name}:\n" + "".join(f"  - {json.dumps(item)}\n" for item in items) for name, items in lists.items()
    )


def alike(count: int) -> str:
    """Triggers that only their actions tell apart: each has to be compared with each, until that is given up."""
    triggers = [
        {
            "id": f"t{number}",
            "conditions": {"all": [LEFT, OFFLINE]},
            "actions": [{"field": f"custom_fields_{number}", "value": "left"}, {"field": "priority", "value": "low"}],
        }
        for number in range(count)
    ]
    return _a_line_each(triggers=triggers)


def time_check(text: str, runs: int) -> tuple[float, float, str]:
    """Return the median seconds of whole processes, by the clock and of the processor, and their last line."""
    taken, cpu, last = [], [], ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "triggers.yaml"
        path.write_text(text)
        for _ in range(runs):
            begun, used = time.perf_counter(), _cpu_of_children()
            done = subprocess.run(
                [sys.executable, "-m", "streams", "check", str(path)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            taken.append(time.perf_counter() - begun)
            cpu.append(_cpu_of_children() - used)
            last = done.stdout.splitlines()[-1] if done.stdout else done.stderr
    return median(taken), median(cpu), last


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- records ----------------------------------------------------------------------------------------------------------


def on_the_same_lapses(count: int) -> str:
    """The four recipes, and others on lapses that do happen, which the group tells apart."""
    text = workload.rules(count)
    for number in range(7):
        text = text.replace(f"value: reason_{number}\n", "value: user_inactive_or_offline\n")
    return text


def by_tag(count: int) -> str:
    """The four recipes, and others on lapses that do happen, by tags that no ticket has."""
    return _asking(count, "field: tags\n      operator: includes\n      value: 't9")


def asked_one_by_one(count: int) -> str:
    """The four recipes, and others on lapses that do happen, by a number that no ticket reaches."""
    return _asking(count, "field: custom_fields_12\n      operator: greater_than\n      value: '9")


def _asking(count: int, condition: str) -> str:
    by_group = "field: group_id\n      operator: is\n      value: '9"
    text = on_the_same_lapses(count)
    assert by_group in text
    return text.replace(by_group, condition)


def time_records(text: str, records: dict[Topic, list[CapturedRecord]]) -> float:
    """Return CPU seconds for all records, by a partition as the worker has it."""
    ruleset = parse_triggers(text).ruleset
    assert ruleset is not None
    partition = Partition(
        Engine(Rules(ruleset)), number=0, partition_count=1, decode=decode, rows=MsgpackRows(), dead_letter_limit=None,
        clock_grace=0,
    )  # fmt: skip
    for topic in Topic:
        partition.add(topic, records[topic], 0)
    now = ENDS_AT * 1000
    begun = time.process_time()
    pipeline = Pipeline(partition)
    took_all = False
    while not took_all:
        took_all = pipeline.slice(now, dict.fromkeys(Topic, now))
        for _ in settled(pipeline):
            pass
    return time.process_time() - begun


def main() -> None:
    """Measure both, and end with 1 when a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each, of which the median counts (default 3)")
    parser.add_argument("--records", type=int, default=100_000, help="for the second question (default 100000)")
    options = parser.parse_args()
    held = True

    print(f"lapse check of {MANY:,} triggers, medians of {options.runs} processes, bound {SECONDS} s")
    for name, text in (
        ("told apart by group", workload.rules(MANY)),
        ("at length, with tests", at_length(MANY)),
        ("alike", alike(MANY)),
    ):
        seconds, cpu, last = time_check(text, options.runs)
        held &= seconds <= SECONDS
        print(f"  {name:<22} {len(text) / 1e6:4.1f} MB  {seconds:5.2f} s, {cpu:5.2f} s CPU   {last}")

    records: dict[Topic, list[CapturedRecord]] = {topic: [] for topic in Topic}
    made = workload.records(options.records, options.records // 5, ends_at=ENDS_AT)
    for place, record in enumerate(made):
        topic = Topic.TICKETS if record.is_ticket else Topic.SESSIONS
        records[topic].append(CapturedRecord(place, record.timestamp, record.key, record.value))
    gc.collect()
    gc.freeze()
    gc.disable()
    print(f"{options.records:,} records, 1,000 triggers against 10, medians of {options.runs} turns, bound {RATIO}×")
    for kind in (workload.rules, on_the_same_lapses, by_tag, asked_one_by_one):
        texts = {count: kind(count) for count in (10, 1_000)}
        taken: dict[int, list[float]] = {count: [] for count in texts}
        for _ in range(options.runs):
            for count, text in texts.items():
                taken[count].append(time_records(text, records))
        few, many = (median(taken[count]) / options.records * 1e6 for count in texts)
        if kind is not asked_one_by_one:  # nothing can be looked up: told, not held
            held &= many / few <= RATIO
        print(f"  {kind.__name__:<22} {few:6.2f} and {many:6.2f} µs CPU a record: {many / few:.2f}×")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
