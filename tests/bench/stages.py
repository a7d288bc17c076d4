"""Where does each microsecond go? A sampling profile of a worker that drains the backlog, by the rooms of the house.

py-spy looks at the worker two hundred times a second, native frames included. A sample belongs to the innermost frame
that names a room: a module of `streams`, or one of the libraries. Samples of the warm-up, and of threads
that wait, are left out.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.bench import contestants, drain
from tests.bench.contestants import PEERS, Task, environment
from tests.bench.ground import Ground
from tests.bench.process import Process

RATE, SECONDS = 200, 6
"""Samples a second, and for how long: less than the drain takes after its warm-up."""

_PARTS = (
    (r"/streams/(?P<room>\w+)/(?P<module>\w+)(?:/(?P<inner>\w+))?\.py", "ours"),
    (r"/aiokafka/record/", "aiokafka: record batches"),
    (r"/aiokafka/", "aiokafka: connections and protocol"),
    (r"/(?:faust|mode)/", "Faust"),
    (r"/uvloop/|uvloop|/asyncio/", "event loop and sockets"),
    (r"/prometheus_client/", "prometheus_client"),
)


async def measure(ground: Ground, scratch: Path) -> dict[str, Any]:
    """Profile one drain; returns processor time a record, and the share of samples by room."""
    folded = scratch / "folded.txt"
    profilers: list[asyncio.subprocess.Process] = []

    async def record(_: Task, process: Process) -> None:
        profilers.append(
            await asyncio.create_subprocess_exec(
                str(environment(PEERS / "profiler-requirements.txt") / "bin" / "py-spy"),
                *("record", "--native", "--rate", str(RATE), "--format", "raw", "--full-filenames"),
                *("--duration", str(SECONDS), "--output", str(folded), "--pid", str(process.pid)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        )

    run = await drain.run(contestants.LAPSE, ground, scratch, during=record)
    said, _ = await asyncio.wait_for(profilers[0].communicate(), SECONDS + 30)
    if not folded.exists():
        raise RuntimeError(f"py-spy ended with {profilers[0].returncode}: {said.decode(errors='replace')[-1500:]}")
    found = rooms(folded.read_text())
    return {
        "samples": found.total(),
        "equality": run.as_json()["equality"],
        "shares": {room: count / found.total() for room, count in found.most_common()},
    }


def rooms(folded: str) -> Counter[str]:
    """Return samples by room from py-spy's raw format: frames of a stack from the outside in, then the count."""
    found: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        # Without a frame of Python it is the interpreter that starts or ends; a thread that waits for a lock is idle.
        if count.isdecimal() and ".py:" in stack and "PyThread_acquire_lock" not in stack:
            found[_room(stack.split(";"))] += int(count)
    return found


def _room(stack: list[str]) -> str:
    if any("gc_collect_main" in frame for frame in stack):
        return "garbage collector"
    for frame in reversed(stack):
        for pattern, room in _PARTS:
            if (match := re.search(pattern, frame)) is None:
                continue
            if room != "ours":
                return room
            return ".".join(part for part in match.groups() if part)
    return "interpreter and C libraries"
