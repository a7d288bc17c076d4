"""`python -m tests.simulator`: one seed with its trace, many seeds, or the planted bugs."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from tests.simulator.planted import PLANTED, Bug, planted
from tests.simulator.scenario import Scenario, scenario_of
from tests.simulator.shrink import shrink
from tests.simulator.world import Run, run

_CHUNK = 10


def main() -> int:
    """Return 0 when every law held, or every planted bug was found; 1 otherwise."""
    arguments = _arguments()
    if arguments.planted is not None:
        return find_planted(arguments.planted or list(PLANTED), arguments.first, arguments.seeds or 2_000)
    if arguments.seed is not None:
        return show(arguments.seed, arguments.bug, smaller=arguments.shrink)
    seeds = range(arguments.first, arguments.first + (arguments.seeds or 100))
    return print_digests(seeds) if arguments.digest else run_many(seeds, arguments.processes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="run one seed and print its trace")
    parser.add_argument("--digest", action="store_true", help="print the digest of each seed's trace")
    parser.add_argument("--shrink", action="store_true", help="with --seed: look for a smaller run that fails too")
    parser.add_argument("--bug", choices=sorted(PLANTED), help="with --seed: plant this bug")
    parser.add_argument("--seeds", type=int, help="run so many seeds (default 100)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (default 0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--planted",
        nargs="*",
        choices=sorted(PLANTED),
        help="plant bugs, all or those named, and print how many seeds it takes to find each",
    )
    return parser.parse_args()


def print_digests(seeds: range) -> int:
    """Print a digest for every seed: two processes must print the same."""
    for seed in seeds:
        print(run(scenario_of(seed), traced=True).digest, flush=True)
    return 0


def show(seed: int, bug: str | None, *, smaller: bool) -> int:
    """Run one seed and print what happened."""
    scenario = scenario_with(None if bug is None else PLANTED[bug], seed)
    found = _run(scenario, bug, traced=True)
    if smaller and found.broken:
        scenario = shrink(scenario, lambda each: bool(_run(each, bug).broken))
        found = _run(scenario, bug, traced=True)
    print("\n".join(found.trace))
    print(f"\n{scenario}")
    if scenario.tickets is not None:
        print(f"  only tickets {', '.join(sorted(scenario.tickets))}")
    print(f"{found.seconds:.0f} s of virtual time, {found.kills} kills, {found.late} late requests")
    print("\n".join(found.broken) or "every law held")
    return 1 if found.broken else 0


def run_many(seeds: range, processes: int) -> int:
    """Run many seeds, and print those that broke a law."""
    began, failed, kills, late, virtual = time.monotonic(), list[Run](), 0, 0, 0.0
    chunks = [seeds[place : place + _CHUNK] for place in range(0, len(seeds), _CHUNK)]
    with ProcessPoolExecutor(max_workers=processes) as pool:
        for runs in pool.map(_run_chunk, chunks):
            for each in runs:
                kills, late, virtual = kills + each.kills, late + each.late, virtual + each.seconds
                if each.broken:
                    failed.append(each)
                    _print_failure(each)
    seconds = time.monotonic() - began
    print(
        f"{len(seeds)} seeds from {seeds.start}, {len(failed)} failed; {virtual / 3600:.1f} h of virtual time, "
        f"{kills} kills, {late} late requests, in {seconds:.0f} s"
    )
    return 1 if failed else 0


def _run_chunk(seeds: Iterable[int]) -> list[Run]:
    return [run(scenario_of(seed)) for seed in seeds]


def _print_failure(failed: Run) -> None:
    print(f"FAILED {failed.scenario}")
    for line in failed.broken:
        print(f"  {line}")
    print(f"  again, with its trace: python -m tests.simulator --seed {failed.scenario.seed} --shrink", flush=True)


def find_planted(names: Iterable[str], first: int, most: int) -> int:
    """Plant each bug and print the first seed that finds it."""
    missed = 0
    for name in names:
        bug = PLANTED[name]
        began = time.monotonic()
        seeds, found = search(bug, first, most)
        if found is None:
            missed += 1
            print(f"{name:<34} NOT FOUND in {seeds} seeds", flush=True)
        else:
            law = found.broken[0].splitlines()[0][:110]
            took = time.monotonic() - began
            print(f"{name:<34} {seeds:>5} seeds {took:>6.1f} s  seed {found.scenario.seed}: {law}", flush=True)
    return 1 if missed else 0


def search(bug: Bug, first: int, most: int) -> tuple[int, Run | None]:
    """Return how many seeds it took to find a planted bug, and the run that found it."""
    with planted(bug):
        for count, seed in enumerate(range(first, first + most), start=1):
            found = run(scenario_with(bug, seed))
            if found.broken:
                return count, found
    return most, None


def scenario_with(bug: Bug | None, seed: int) -> Scenario:
    """Return the scenario of a seed; for some bugs it goes on until rows expire."""
    scenario = scenario_of(seed)
    return replace(scenario, grow_old=True) if bug is not None and bug.needs_old_age else scenario


def _run(scenario: Scenario, bug: str | None, *, traced: bool = False) -> Run:
    if bug is None:
        return run(scenario, traced=traced)
    with planted(PLANTED[bug]):
        return run(scenario, traced=traced)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets must be the same in every process.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulator", *sys.argv[1:]])
    sys.exit(main())
