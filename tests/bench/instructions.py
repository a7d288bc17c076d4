"""How many processor instructions one record costs in the core, by kind of record.

    python -m tests.bench.instructions              # count, and compare with the committed baseline
    python -m tests.bench.instructions --renew      # count, and make that the baseline

Instructions are counted by Valgrind's callgrind, so the figures do not depend on what else the machine does, and a
change of one per cent is visible. Counted is what the test driver does between the records that were piped in and the
committed outputs: decoding, merging, the engine, rows, encoding. Neither Kafka nor Faust takes part.

The program runs itself under callgrind, once. A call of `getppid` marks the beginning and the end of each part, and
callgrind writes what was executed in between to a file of its own, so that starting and importing count for nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pickle
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

BASELINE = Path(__file__).with_name("instructions.json")
ROOT = Path(__file__).parents[2]
MARGIN = 0.10
"""A kind of record may cost this share more than its baseline. Repeated runs differ by far less than 1 %."""

RECORDS = 240
"""Of each kind. Callgrind is about fifty times slower than the processor."""

RENEW = "python -m tests.bench.instructions --renew"
UPDATE, REPEAT, LAPSE = KINDS = ("ticket update", "session repeat", "lapse and return")

_WITHIN = 300.0
_TICKETS = 60
_FIRST = 1_772_359_200_000


class Verdict(NamedTuple):
    """What a comparison with the baseline says: whether it holds, and the text for people."""

    holds: bool
    text: str


def valgrind() -> str | None:
    """Return the path of Valgrind, None where it is not installed."""
    return shutil.which("valgrind")


def interpreter() -> str:
    """What a baseline holds for: other interpreters and libraries execute other instructions for the same code."""
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"


def count() -> dict[str, int]:
    """Return instructions a record, by kind. Takes about half a minute."""
    program = valgrind()
    if program is None:
        raise RuntimeError("Valgrind is not installed (on Debian and Ubuntu: apt install valgrind).")
    with tempfile.TemporaryDirectory(prefix="lapse-callgrind-") as scratch:
        out, orders = Path(scratch, "out"), Path(scratch, "orders")
        orders.write_bytes(pickle.dumps(_orders()))
        command = [
            *(program, "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}"),
            *(sys.executable, "-m", "tests.bench.instructions", "--under-callgrind", str(orders)),
        ]
        # A fixed seed of hashes, because the order of sets and the collisions of dicts change what is executed.
        env = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=_WITHIN, check=False
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"The program under callgrind ended with {done.returncode}:\n{done.stderr[-3000:]}")
        # Part 1 ends at the first mark: it is the start. Then parts and what lies between them take turns.
        return {kind: _total(Path(f"{out}.{2 * place + 2}")) // RECORDS for place, kind in enumerate(KINDS)}


def compare(counted: dict[str, int], baseline: dict[str, int]) -> Verdict:
    """Hold counted instructions against the baseline: more than the margin fails, as does a kind without a baseline."""
    lines, holds = [], True
    for kind, now in counted.items():
        before = baseline.get(kind)
        if before is None:
            holds = False
            lines.append(f"  {kind:18} {now:9,} instructions a record, no baseline")
            continue
        change = now / before - 1
        fits = now <= before * (1 + MARGIN)
        holds &= fits
        lines.append(
            f"  {kind:18} {now:9,} instructions a record, baseline {before:9,}: {change:+.1%}"
            + ("" if fits else f", more than the {MARGIN:.0%} allowed")
        )
        if change < -MARGIN:
            lines[-1] += f"; much better: renew the baseline so that it stays so ({RENEW})"
    if not holds:
        lines.append(
            "The core executes more instructions a record than before. Find out why: `git stash` and count again, or "
            f"look at callgrind's profile. If the price is worth paying, say so in the commit and renew:\n    {RENEW}"
        )
    return Verdict(holds, "\n".join(lines))


def baselines() -> dict[str, dict[str, int]]:
    """Return the committed baselines by `interpreter()`."""
    found: dict[str, dict[str, int]] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    return found


def _total(dump: Path) -> int:
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE)
    assert found is not None, f"{dump} has no total"
    return int(found[1])


# --- under callgrind --------------------------------------------------------------------------------------------------


Piped: TypeAlias = tuple[str, bytes, bytes, int]
"""One record, as the driver's `pipe` takes it."""


def _orders() -> tuple[Any, dict[str, tuple[list[Piped], list[Piped], int]]]:
    """Return what the program under callgrind works on, made here so that it imports and does little besides.

    The rules; and by kind the records to warm up with, those to count, and the commands that the counted ones make.
    """
    from streams.rules.triggers import parse_triggers
    from tests.bench import workload

    ruleset = parse_triggers(workload.recipes()).ruleset
    clock, rng = itertools.count(_FIRST), random.Random(1)

    def update(place: int) -> Piped:
        ticket, now = place % _TICKETS, next(clock)
        value = workload.ticket_update(ticket, now, now, rng, "open")
        return "ticket-updates", b"%d" % (1_000_000 + ticket), value, now

    def session(place: int, state: str, reason: str | None = None) -> Piped:
        ticket, now = place % _TICKETS, next(clock)
        value = workload.session_state(ticket, now, now, state, reason)
        return "session-states", b"%d" % (1_000_000 + ticket), value, now

    def repeat(place: int) -> Piped:
        return session(place, "active")

    def leave_or_return(place: int) -> Piped:
        left = place // _TICKETS % 2 == 0
        return session(place, "inactive", "User inactive or offline") if left else session(place, "active")

    parts = {}
    for kind, make, commands in ((UPDATE, update, 0), (REPEAT, repeat, 0), (LAPSE, leave_or_return, RECORDS // 2)):
        warm_up = [update(place) for place in range(_TICKETS)] + [make(place) for place in range(2 * _TICKETS)]
        parts[kind] = (warm_up, [make(place) for place in range(RECORDS)], commands)
    return ruleset, parts


def _run(ruleset: Any, parts: dict[str, tuple[list[Piped], list[Piped], int]]) -> None:
    from streams.core.cycle import Rules
    from streams.testing.driver import Driver

    rules = Rules(ruleset)
    for kind, (warm_up, counted, commands) in parts.items():
        driver = Driver(rules)
        for record in warm_up:
            driver.pipe(*record)
        before = len(driver.commands())
        for record in counted:
            driver.pipe(*record)
        os.getppid()
        driver.run()
        os.getppid()
        made = len(driver.commands()) - before
        if made != commands:
            raise RuntimeError(f"{kind}: {made} commands instead of {commands}, so something else was counted")


# --- command line -----------------------------------------------------------------------------------------------------


def main() -> None:
    """Count, and compare or renew; 1 when the baseline does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renew", action="store_true", help="make what is counted the baseline of this interpreter")
    parser.add_argument("--under-callgrind", type=Path, metavar="ORDERS", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.under_callgrind:
        _run(*pickle.loads(chosen.under_callgrind.read_bytes()))
        return
    counted, known = count(), baselines()
    verdict = compare(counted, known.get(interpreter(), {}))
    print(f"{interpreter()}, msgspec {msgspec.__version__}\n{verdict.text}")
    if chosen.renew:
        BASELINE.write_text(json.dumps({**known, interpreter(): counted}, indent=2, sort_keys=True) + "\n")
        print(f"The baseline is renewed: {BASELINE.relative_to(ROOT)}")
    else:
        sys.exit(not verdict.holds)


if __name__ == "__main__":
    main()
