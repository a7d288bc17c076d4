"""`docs/performance.md` and its plot, made from the results: every figure on the page comes out of a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import drain, instructions, latency, stages, transactions
from tests.bench.contestants import EVERYBODY, LAPSE, STREAMS, STREAMS_TUNED, KafkaStreams
from tests.bench.results import Results

Found = dict[str, Any]
_BY_KEY = {each.key: each for each in EVERYBODY}

_HEAD = """\
# Performance

Made by `python -m tests.bench` from the files in `tests/bench/results`; do not edit it by hand. Lapse runs beside its
peers on the same broker and the same records, in turns. A run whose commands differ from those of an independent oracle
is void.
"""

_METHOD = """\
## Method

- **Workload.** Two topics, merged by time: ticket updates of about 545 bytes (60 % of the records) and session states
  of about 280 (40 %), over {tickets:,} tickets, one lapse in twenty records. The rules are the four recipes of
  `deploy/triggers/recipes.yaml`, all of them active. Records come from a seed, the same on every day.
- **Equality.** The oracle of the system tests, which shares no code with Lapse, says which commands must come out.
  Compared are ticket, episode, the triggers that fired, and the actions, as multisets, read with `read_committed`.
  The bare loop and the Faust app do not merge the two topics by time; their commands differ, which the table says,
  and they stand there as a floor and as a habit, not as equals.
- **Drain.** Every contestant is one process that starts on a full backlog. The first {warm_up:.0%} of the records are
  not counted. Progress is read from the group's committed offsets, processor time and memory by psutil, children
  included.
- **Latency.** Open loop: records are sent by a fixed schedule, and latency counts from the intended time to the
  moment at which a `read_committed` reader has the command. Of twenty records nine are lapses and nine are returns,
  so 45 % of the records make a command. Before the schedule every contestant works through a preload of the same
  kind, so that virtual machines are warm; the first {settling:.0f} s of the schedule are not counted. A busy
  neighbour computes for a third of every 30 ms.
- **Kafka Streams** is `tests/bench/peers/kafka-streams`: one processor over both topics, `exactly_once_v2`, in-memory
  stores with changelogs, `max.task.idle.ms` 0, one stream thread. *As it comes* has nothing else set. *Tuned* has
  {tuned}.
- **Stages.** py-spy, {rate} samples a second with native frames, of a worker that drains. A sample belongs to the
  innermost frame that names a module of Lapse or a library; what a module calls in C counts as its own.
- **Transactions.** The worker's own producer against the real broker, every partition committing one transaction
  after the other. *small* has {small[0]} rows and {small[1]} command, *large* {large[0]:,} rows and {large[1]}
  commands.

## Caveats

- Broker, contestant and load generator share the machine, so whoever uses less processor time also leaves more for
  the broker. Rates depend on the machine; ratios and processor time a record depend on it less.
- The peers do less. None of them writes transition and evaluation records, checks records, keeps dead letters, orders
  late and repeated events, or keeps the figures that Lapse serves at `/metrics`. Faust promises at least once only.
- The Faust app and Quix Streams get fewer records, since they take longer. Quix Streams keeps its state in RocksDB.
- One broker without replication: a commit waits for no follower.
"""


def write(where: Results) -> None:
    """Write the page and the plot from what has been measured; a part that was not has no section."""
    parts: list[tuple[str, Callable[[Found], Iterable[str]]]] = [
        ("drain", _drain),
        ("latency", _latency),
        ("partitions", _partitions),
        ("stages", lambda found: _stages(found, where.read("drain"))),
        ("transactions", _transactions),
        ("footprint", _footprint),
        ("backtest", _backtest),
    ]
    lines = [_HEAD]
    results = {part: whole for part, _ in parts if (whole := where.read(part)) is not None}
    if "drain" in results or "latency" in results:
        plot = where.page.with_suffix(".svg")
        _plot(plot, results)
        shown = [
            *(["records a second", "processor time a record"] if "drain" in results else []),
            *(["latency"] if "latency" in results else []),
        ]
        lines += [f"![{', '.join(shown).capitalize()}]({plot.name})", ""]
    if lacking := [part for part, _ in parts if part not in results]:
        lines += [f"Not measured in these results: {', '.join(lacking)}.", ""]
    for part, section in parts:
        if part in results:
            lines += [*section(results[part]["found"]), ""]
    lines += [*_instructions(), "", _method(results), *_circumstances(results)]
    where.page.parent.mkdir(parents=True, exist_ok=True)
    where.page.write_text("\n".join(lines).rstrip() + "\n")


# --- sections ---------------------------------------------------------------------------------------------------------


def _drain(found: Found) -> Iterable[str]:
    yield "## Draining a backlog"
    yield ""
    yield f"One process, {found['partitions']} partitions. Medians; the range of the runs in brackets."
    yield ""
    rows, streams = [], _valid(found["runs"].get(STREAMS.key, []))
    base = median(run["rate"] for run in streams) if streams else None
    for key, runs in found["runs"].items():
        if not runs:
            continue
        contestant, counted = _BY_KEY[key], _valid(runs)
        if contestant.merges and not counted:
            rows.append([contestant.title, f"void: {_differs(runs)}", "", "", "", str(len(runs)), "no"])
            continue
        shown = counted if contestant.merges else runs
        rate = median(run["rate"] for run in shown)
        rows.append(
            [
                contestant.title,
                _ranged([run["rate"] for run in shown], ",.0f"),
                f"{rate / base:.2f}" if base else "",
                _ranged([run["cpu_micros"] for run in shown], ".1f"),
                f"{max(run['peak'] for run in shown) / 2**20:,.0f}",
                f"{len(shown)} × {shown[0]['records']:,}"
                + (f", {len(runs) - len(shown)} void" * (len(shown) < len(runs))),
                "all" if len(counted) == len(runs) else _differs(runs),
            ]
        )
    heads = ["", "records/s", "against Kafka Streams", "µs of processor a record", "peak MiB", "runs", "commands equal"]
    yield from _table(heads, rows)


def _latency(found: Found) -> Iterable[str]:
    yield "## From event to command"
    yield ""
    yield (
        f"Open loop, {found['partitions']} partitions, 45 % of the records make a command, "
        f"{found['seconds']:g} s a run. "
        "Medians over the runs, in milliseconds; the range of p99 in brackets."
    )
    yield ""
    groups: dict[tuple[int, float, str], list[Found]] = defaultdict(list)
    for run in found["runs"]:
        groups[run["rate"], run["busy"], run["contestant"]].append(run)
    rows = []
    for (rate, busy, key), runs in sorted(
        groups.items(), key=lambda each: (each[0][0], each[0][1], _place(each[0][2]))
    ):
        load = f"{rate:,}/s" + (f", {busy:.0%} of a core taken" if busy else "")
        rows.append([load, _BY_KEY[key].title, *_latencies(runs)])
    yield from _table(["load", "", "p50", "p99", "p99.9", "most", "µs a record", "runs"], rows)


def _partitions(found: Found) -> Iterable[str]:
    yield "## Many partitions in one worker"
    yield ""
    yield f"Lapse, open loop at {found['runs'][0]['rate']:,}/s, as above."
    yield ""
    rows = [[str(run["partitions"]), *_latencies([run])] for run in found["runs"]]
    yield from _table(["partitions", "p50", "p99", "p99.9", "most", "µs a record", "runs"], rows)


def _stages(found: Found, drained: Found | None) -> Iterable[str]:
    yield "## Where each microsecond goes"
    yield ""
    runs = _valid(drained["found"]["runs"][LAPSE.key]) if drained else []
    micros = median(run["cpu_micros"] for run in runs) if runs else None
    yield (
        f"{found['samples']:,} samples of a worker that drains."
        + (f" Microseconds are shares of the {micros:.1f} µs of the drain above." if micros else "")
    )
    yield ""
    rows, small = [], 0.0
    for room, share in found["shares"].items():
        if share < 0.01:
            small += share
            continue
        rows.append([f"`{room}`" if "." in room else room, f"{micros * share:.2f}" if micros else "", f"{share:.1%}"])
    rows.append(["all others", f"{micros * small:.2f}" if micros else "", f"{small:.1%}"])
    yield from _table(["stage", "µs a record", "share"], rows)


def _transactions(found: Found) -> Iterable[str]:
    yield "## What one transaction costs"
    yield ""
    yield "Times in milliseconds; processor time in microseconds a transaction."
    yield ""
    rows = [
        [
            case["size"],
            str(case["partitions"]),
            f"{case['per_second']:,.0f}",
            f"{case['p50']:.2f}",
            f"{case['p99']:.2f}",
            f"{case['cpu_micros']:,.0f}",
            f"{case['broker_cpu_micros']:,.0f}",
        ]
        for case in found["cases"]
    ]
    yield from _table(["size", "partitions", "commits/s", "p50", "p99", "client µs", "broker µs"], rows)
    yield ""
    yield "By request: how many a transaction, and the median and 99th percentile of the time until the answer."
    yield ""
    rows = [
        [
            case["size"],
            str(case["partitions"]),
            kind,
            f"{one['per_transaction']:.2f}",
            f"{one['p50']:.2f}",
            f"{one['p99']:.2f}",
        ]
        for case in found["cases"]
        for kind, one in case["requests"].items()
        if one["per_transaction"] >= 0.01
    ]
    yield from _table(["size", "partitions", "request", "a transaction", "p50", "p99"], rows)


def _footprint(found: Found) -> Iterable[str]:
    yield "## Memory and restore"
    yield ""
    yield from _table(
        ["", ""],
        [
            ["a worker without state", f"{found['empty_bytes'] / 2**20:.0f} MiB"],
            [
                f"a ticket, both rows, after a drain of {found['tickets']:,} tickets",
                f"{found['bytes_a_ticket_after_drain']:,.0f} bytes",
            ],
            ["the same after a restart", f"{found['bytes_a_ticket_after_restore']:,.0f} bytes"],
            [
                f"restore of {found['restored']:,.0f} changelog records, beyond the "
                f"{found['empty_start_seconds']:.1f} s that an empty worker needs to be ready",
                f"{found['restored_a_second']:,.0f} a second" if found["restored_a_second"] else "too short to tell",
            ],
        ],
    )


def _backtest(found: Found) -> Iterable[str]:
    yield "## Backtest"
    yield ""
    lines, runs = found["lines"], found["runs"]
    yield from _table(
        ["lines", "records/s", "records per second of processor time", "peak MiB", "runs"],
        [
            [
                f"{lines:,}",
                _ranged([lines / run["wall"] for run in runs], ",.0f"),
                _ranged([lines / run["cpu"] for run in runs], ",.0f"),
                f"{max(run['peak_mib'] for run in runs):,.0f}",
                str(len(runs)),
            ]
        ],
    )


def _instructions() -> Iterable[str]:
    yield "## Instructions a record"
    yield ""
    yield (
        "The core alone, without Kafka, counted by callgrind. These are the baselines that the tests hold the core to, "
        f"with a margin of {instructions.MARGIN:.0%}."
    )
    yield ""
    rows = [
        [name, *(f"{counted.get(kind, 0):,}" for kind in instructions.KINDS)]
        for name, counted in sorted(instructions.baselines().items())
    ]
    yield from _table(["", *instructions.KINDS], rows)


def _method(results: dict[str, Found]) -> str:
    tuned = ", ".join(f"`{name}={value}`" for name, value in KafkaStreams.TUNED.items() if not name.startswith("bench"))
    return _METHOD.format(
        tickets=results["drain"]["found"]["tickets"] if "drain" in results else 0,
        warm_up=drain.WARM_UP,
        settling=latency.SETTLING,
        tuned=f"{tuned}, no record cache, and `{' '.join(KafkaStreams.TUNED_JVM)}`",
        small=transactions.SIZES["small"],
        large=transactions.SIZES["large"],
        rate=stages.RATE,
    )


def _circumstances(results: dict[str, Found]) -> Iterable[str]:
    yield "## When, where, and with what"
    yield ""
    rows = []
    for part, whole in results.items():
        here = whole["circumstances"]
        load = " ".join(f"{each:g}" for each in here["load"])
        rows.append([part, here["at"], f"`{here['commit']}`", f"{whole['took_seconds']} s", load])
    yield from _table(["part", "at", "commit", "took", "load average at the end"], rows)
    for whole in list(results.values())[-1:]:
        here = whole["circumstances"]
        yield ""
        yield f"{here['cores']} cores of {here['processor']}, {here['memory_gib']} GiB, {here['system']}."
        yield "Versions: " + ", ".join(f"{name} {value}" for name, value in here["versions"].items()) + "."


# --- text -------------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "|".join("---" if place == 0 else "---:" for place in range(len(heads))) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _ranged(values: Sequence[float], form: str) -> str:
    shown = f"{median(values):{form}}"
    return f"{shown} ({min(values):{form}}–{max(values):{form}})" if len(values) > 1 else shown


def _latencies(runs: Sequence[Found]) -> list[str]:
    whole = [run for run in runs if run["holds"]]
    if not whole:
        missing = ", ".join(f"{run['commands']} of {run['wanted']} commands, {run['twice']} twice" for run in runs)
        return [f"void: {missing}", "", "", "", "", str(len(runs))]
    return [
        f"{median(run['p50'] for run in whole):.1f}",
        _ranged([run["p99"] for run in whole], ".1f"),
        f"{median(run['p999'] for run in whole):.1f}",
        f"{max(run['most'] for run in whole):.0f}",
        f"{median(run['cpu_micros'] for run in whole):.0f}",
        str(len(whole)) + (f", {len(runs) - len(whole)} void" if len(whole) < len(runs) else ""),
    ]


def _valid(runs: Sequence[Found]) -> list[Found]:
    return [run for run in runs if run["equality"]["lost"] == run["equality"]["wrong"] == 0]


def _differs(runs: Sequence[Found]) -> str:
    worst = max((run["equality"] for run in runs), key=lambda each: each["lost"] + each["wrong"])
    return f"{worst['lost']:,} of {worst['expected']:,} lacking, {worst['wrong']:,} others"


def _place(key: str) -> int:
    return [each.key for each in EVERYBODY].index(key)


# --- plot -------------------------------------------------------------------------------------------------------------


def _plot(path: Path, results: dict[str, Found]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "lapse"
    from matplotlib import pyplot as plt

    colours = {LAPSE.key: "#d6604d", STREAMS.key: "#4393c3", STREAMS_TUNED.key: "#2166ac"}
    figure, (rates, micros, delays) = plt.subplots(1, 3, figsize=(12, 3.4), constrained_layout=True)
    runs = results["drain"]["found"]["runs"] if "drain" in results else {}
    shown = [key for key in runs if (_valid(runs[key]) if _BY_KEY[key].merges else runs[key])][::-1]
    for axes, member, title in (
        (rates, "rate", "drain: records a second"),
        (micros, "cpu_micros", "drain: µs of processor a record (log)"),
    ):
        values = [median(run[member] for run in runs[key]) for key in shown]
        bars = axes.barh([_BY_KEY[key].title for key in shown], values, color=[colours.get(k, "#bbb") for k in shown])
        axes.bar_label(bars, [f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values], padding=3)
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.25)
    if shown:
        micros.set_xscale("log")
    micros.set_yticklabels([])
    groups: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for run in results["latency"]["found"]["runs"] if "latency" in results else []:
        if run["holds"]:
            load = f"{run['rate']:,}/s" + (", busy" if run["busy"] else "")
            groups[load, run["contestant"]].append(run)
    loads = list(dict.fromkeys(load for load, _ in groups))
    keys = sorted({key for _, key in groups}, key=_place)
    for number, key in enumerate(keys):
        for place, load in enumerate(loads):
            if several := groups.get((load, key)):
                x = place + (number - (len(keys) - 1) / 2) * 0.25
                p50, p99 = (median(run[name] for run in several) for name in ("p50", "p99"))
                delays.bar(x, p99, 0.22, color=colours[key], alpha=0.35)
                bar = delays.bar(x, p50, 0.22, color=colours[key], label=_BY_KEY[key].title if place == 0 else None)
                delays.bar_label(bar, [f"{p50:.0f}"], fontsize=7)
                delays.text(x, p99, f"{p99:.0f}", ha="center", va="bottom", fontsize=7)
    delays.set_xticks(range(len(loads)), loads)
    delays.set_title("event to command, ms: p50 (dark), p99 (light)", fontsize=10)
    delays.set_visible(bool(keys))
    if keys:
        delays.legend(fontsize=7)
    for axes in (rates, micros, delays):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
