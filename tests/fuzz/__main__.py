"""Fuzz with coverage: `python -m tests.fuzz [TARGET…] [--inputs N] [--seconds S]`, or one input: `TARGET --input FILE`.

Needs what `tests/fuzz/requirements.txt` names. Each target runs in a process of its own, since libFuzzer ends its
process. Exit codes: 0 no fault, 1 a fault, whose input is kept and named, 2 refused.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERED = re.compile(r"cov: (\d+)")
_FAULT = re.compile(r"Test unit written to (\S+)")
_LONGEST_INPUT = 4096
_SECONDS_FOR_ONE = 25
"""An input that takes longer is a fault too."""


class Run(NamedTuple):
    """What fuzzing a target came to."""

    target: str
    inputs: int
    seconds: int
    covered: int
    """Edges of our code that were reached."""
    fault: Path | None
    output: str


def main() -> int:
    """Fuzz the targets one after the other; print a line for each, or all as JSON."""
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all; {', '.join(TARGETS)}")
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs for each target (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=600, help="at most, for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first mutations (default: %(default)s)")
    parser.add_argument("--input", type=Path, help="run one target on this file, without the fuzzer")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="where inputs of faults go")
    parser.add_argument("--json", action="store_true", help="print one object at the end")
    options = parser.parse_args()
    unknown = sorted({*options.targets} - TARGETS.keys())
    if unknown:
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if options.input is not None:
        if len(options.targets) != 1 or not options.input.is_file():
            parser.error("--input needs one target and a file that exists")
        TARGETS[options.targets[0]](options.input.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install -r tests/fuzz/requirements.txt")
    runs = []
    for target in options.targets or TARGETS:
        run = _fuzz(target, options)
        runs.append(run)
        found = f"FAULT, see {run.fault}" if run.fault is not None else "no fault"
        if not options.json:
            print(f"{target}: {run.inputs:,} inputs in {run.seconds} s, {run.covered:,} edges, {found}", flush=True)
        if run.fault is not None:
            print(run.output, file=sys.stderr)
    if options.json:
        members = ("target", "inputs", "seconds", "covered", "fault")
        print(json.dumps([dict(zip(members, (*run[:4], run.fault and str(run.fault)), strict=True)) for run in runs]))
    return 1 if any(run.fault is not None for run in runs) else 0


def _fuzz(target: str, options: argparse.Namespace) -> Run:
    """Fuzz one target from its corpus, in another process."""
    from tests.fuzz.corpus import WORDS, seeds

    options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lapse-corpus-") as folder:
        for number, seed in enumerate(seeds(target, golden=True)):
            (Path(folder) / f"{number:04}").write_bytes(seed)
        words = Path(folder).with_suffix(".dict")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
        try:
            done = subprocess.run(  # the name is one of ours
                [
                    *(sys.executable, "-m", "tests.fuzz.one", target, folder, f"-dict={words}"),
                    *(f"-runs={options.inputs}", f"-max_total_time={options.seconds}", f"-seed={options.seed}"),
                    *(f"-max_len={_LONGEST_INPUT}", f"-timeout={_SECONDS_FOR_ONE}", "-rss_limit_mb=2048"),
                    f"-artifact_prefix={options.keep}/{target}-",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=options.seconds + 300,
                check=False,
            )
        finally:
            words.unlink()
    ran, fault = _DONE.search(done.stdout), _FAULT.search(done.stdout)
    tail = "\n".join(done.stdout.splitlines()[-40:])
    if done.returncode != 0 and fault is None:
        raise SystemExit(f"{target}: the fuzzer ended with exit code {done.returncode}:\n{tail}")
    return Run(
        target,
        int(ran[1]) if ran else 0,
        int(ran[2]) if ran else 0,
        max(map(int, _COVERED.findall(done.stdout)), default=0),
        None if fault is None else Path(fault[1]),
        tail,
    )


def _escaped(word: str) -> str:
    """Write a word as libFuzzer's dictionaries have it: every byte but plain letters as hexadecimal."""
    return "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in word.encode("utf-8")
    )


if __name__ == "__main__":
    sys.exit(main())
