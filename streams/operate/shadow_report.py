"""What a shadow would have done differently, from the records that it left in `session-transitions`.

The records name the rounds in which the shadow and the live rules differ; where they do the same there is none. So the
report speaks of differences, and the metric `lapse_shadow_rounds_total` says of how many rounds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

import msgspec
from aiokafka import TopicPartition

from streams.core.escaping import one_line
from streams.core.model import SECOND, Micros, RoundOutcome, ShadowResult, Side
from streams.core.names import Output
from streams.core.shadow import compare
from streams.kafka.brokers import partitions_of, plain_consumer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig
from streams.wire import instants
from streams.wire.shapes import ActionOfCommand, ShadowRecord, SideOfShadow

SAMPLES = 5
"""Number of rounds kept as samples of each result."""

RESULTS = (ShadowResult.ONLY_LIVE, ShadowResult.ONLY_SHADOW, ShadowResult.DIFFERENT)

_TITLES = {
    ShadowResult.ONLY_LIVE: "only the live rules act",
    ShadowResult.ONLY_SHADOW: "only the shadow acts",
    ShadowResult.DIFFERENT: "both act, with different actions",
}


class TriggerDifference(msgspec.Struct):
    """In how many of the rounds that differ a trigger fired on one side only."""

    live: int = 0
    shadow: int = 0


class ShadowReport(msgspec.Struct):
    """The differences that one revision made; None where no revision made any."""

    revision: int | None
    rounds: dict[ShadowResult, int] = msgspec.field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    after_live: int = 0
    """How many of the rounds came after a live command for the same lapse."""
    first: Micros | None = None
    last: Micros | None = None
    """The `occurred_at` of the earliest and the latest lapse among them."""
    triggers: dict[str, TriggerDifference] = msgspec.field(default_factory=dict)
    samples: dict[ShadowResult, list[ShadowRecord]] = msgspec.field(
        default_factory=lambda: {result: [] for result in RESULTS}
    )
    """The latest rounds of each result, oldest first."""

    def add(self, record: ShadowRecord) -> None:
        """Add one record."""
        live, shadow = _side(record.live), _side(record.shadow)
        result = compare(live, shadow)
        if result is ShadowResult.SAME:
            return  # of a version that compares otherwise
        self.rounds[result] += 1
        self.after_live += record.after_live
        at = instants.read(record.occurred_at)
        if at is not None:
            self.first = at if self.first is None else min(self.first, at)
            self.last = at if self.last is None else max(self.last, at)
        fired = set(() if live is None else live.triggers), set(() if shadow is None else shadow.triggers)
        for trigger in fired[0] - fired[1]:
            self.triggers.setdefault(trigger, TriggerDifference()).live += 1
        for trigger in fired[1] - fired[0]:
            self.triggers.setdefault(trigger, TriggerDifference()).shadow += 1
        kept = self.samples[result]
        kept.append(record)
        del kept[:-SAMPLES]


class ShadowReports:
    """Sorts records by the revision that they speak of."""

    def __init__(self) -> None:
        """Start with none."""
        self.by_revision: dict[int, ShadowReport] = {}

    def take(self, values: Iterable[bytes | None]) -> None:
        """Add the shadow records among the values of records of `session-transitions`."""
        for value in values:
            # Most records are of another type; the text is found much faster than JSON is read.
            if value is None or b'"shadow"' not in value:
                continue
            try:
                record = _decode(value)
            except msgspec.DecodeError:
                continue
            self.by_revision.setdefault(record.revision, ShadowReport(record.revision)).add(record)

    def of(self, revision: int | None) -> ShadowReport | None:
        """Return the report of a revision, by default of the newest that differed; None when it did not."""
        if revision is None:
            revision = max(self.by_revision, default=None)
        return None if revision is None else self.by_revision.get(revision)


_decode = msgspec.json.Decoder(ShadowRecord).decode


def _side(told: SideOfShadow | None) -> Side | None:
    if told is None:
        return None
    actions: Any = tuple(told.actions)
    return Side(RoundOutcome(told.outcome), tuple(told.triggers), actions)


async def read_shadow_reports(config: KafkaConfig, since: Micros | None = None) -> ShadowReports:
    """Read the shadow records that were written since an instant, from all partitions of `session-transitions`.

    Raises `Refused` when the topic does not exist, `Failed` when no broker answers.
    """
    found = ShadowReports()
    name = config.topic(Output.TRANSITIONS.value)
    async with plain_consumer(config, max_partition_fetch_bytes=2 << 20) as consumer:
        tps = [TopicPartition(name, number) for number in await partitions_of(config, consumer, name)]
        await read_to_ends(
            config, consumer, tps, lambda _, records: found.take(record.value for record in records), since=since
        )
    return found


def begin_of(text: str, now: Micros) -> Micros:
    """Read a time with its offset, or a time of day: the last one that has passed, UTC.

    Raises ValueError, with what can be written.

    >>> instants.text(begin_of("09:00", 1_772_359_200_000_000)), instants.text(begin_of("10:30", 1_772_359_200_000_000))
    ('2026-03-01T09:00:00Z', '2026-02-28T10:30:00Z')
    """
    found = instants.read(text)
    if found is not None:
        return found
    today = datetime.fromtimestamp(now // SECOND, UTC)
    try:
        clock = time.fromisoformat(text)
    except ValueError:
        clock = None
    if clock is None or clock.tzinfo is not None:
        raise ValueError(f"`{text}` is no time: write `09:00` (UTC, of today or yesterday) or `2026-03-01T09:00:00Z`")
    at = datetime.combine(today.date(), clock, UTC)
    return instants.micros(at if at <= today else at - timedelta(days=1))


# --- for people and tools --------------------------------------------------------------------------------------------


def as_object(report: ShadowReport) -> dict[str, Any]:
    """Return the report as JSON; the samples are the records themselves."""
    return {
        "revision": report.revision,
        "first": _text(report.first),
        "last": _text(report.last),
        "rounds": {result.value: report.rounds[result] for result in RESULTS},
        "after_live": report.after_live,
        "triggers": {
            trigger: {"only_live": told.live, "only_shadow": told.shadow}
            for trigger, told in sorted(report.triggers.items())
        },
        "samples": {
            result.value: [msgspec.to_builtins(record) for record in report.samples[result]] for result in RESULTS
        },
    }


def as_lines(report: ShadowReport) -> Iterator[str]:
    """Yield the report for people; data of records is escaped."""
    total = sum(report.rounds.values())
    rounds = "1 round differs" if total == 1 else f"{total:,} rounds differ"
    yield f"Revision {report.revision} as a shadow: {rounds}, lapses {_text(report.first)} to {_text(report.last)}"
    for result in RESULTS:
        yield f"  {report.rounds[result]:>9,}  {_TITLES[result]}"
    if report.after_live:
        yield f"  {report.after_live:>9,}  after a live command for the same lapse: the ticket may have changed"
    if report.triggers:
        yield ""
        yield "Triggers that fired on one side only, in these rounds:"
        yield f"  {'live':>9}  {'shadow':>9}"
        for trigger, told in sorted(report.triggers.items(), key=lambda one: (-one[1].live - one[1].shadow, one[0])):
            yield f"  {told.live:>9,}  {told.shadow:>9,}  {one_line(trigger)}"
    for result in RESULTS:
        if report.samples[result]:
            yield ""
            yield f"{_TITLES[result].capitalize()}, the latest:"
            for record in report.samples[result]:
                yield from _sample(record)


def _sample(record: ShadowRecord) -> Iterator[str]:
    marked = ", after a live command" if record.after_live else ""
    lapse = f"ticket {record.ticket_id}, event {record.event_id}, {record.occurred_at}"
    yield "  " + one_line(f"{lapse}, wait {record.wait_ms / 1000:g}s{marked}")
    for name, side in (("live", record.live), ("shadow", record.shadow)):
        yield "    " + one_line(f"{name + ':':<8}{_outcome(side)}")


def _outcome(side: SideOfShadow | None) -> str:
    if side is None:
        return "no round with this wait"
    by = f" by {', '.join(side.triggers)}" if side.triggers else ""
    return f"{side.outcome}{by}{': ' + '; '.join(map(_action, side.actions)) if side.actions else ''}"


def _action(action: ActionOfCommand) -> str:
    return f"{action.field} = {json.dumps(action.value, ensure_ascii=False)}"


def _text(instant: Micros | None) -> str | None:
    return None if instant is None else instants.text(instant)
