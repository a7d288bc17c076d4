"""The JSON of `/api/v1/…` as typed records; the page is rendered from the same records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from streams.core.model import MILLISECOND, ShadowResult
from streams.core.names import Topic
from streams.core.revisions import Rulebook
from streams.core.triggers import Action, Condition, Ruleset, Trigger
from streams.telemetry.observer import Figures, Metrics
from streams.web.health import NotReady, reasons_not_ready
from streams.web.journal import Journal, ShadowSums, by_count
from streams.web.status import PartitionStatus, StatusSource, Tables
from streams.wire import encode, instants


class PositionView(msgspec.Struct, frozen=True):
    """One input of a partition: offset of the first record not yet processed, and lag in records; null = unknown.

    `lag_seconds` is the age of the oldest of those records.
    """

    position: int | None
    lag: int | None
    lag_seconds: float | None


class PartitionView(msgspec.Struct, frozen=True):
    """One partition; `stalled_seconds` is null while it makes progress or has nothing to do."""

    partition: int
    state: str
    stream_time: str | None
    stalled_seconds: float | None
    topics: dict[str, PositionView]


class RulesetView(msgspec.Struct, frozen=True):
    """The triggers in use: the digest that every command carries, and their number."""

    digest: str
    cycle: str
    triggers: int
    active: int


class StatusView(msgspec.Struct, frozen=True):
    """`/api/v1/status`. Figures cover this worker's work since `started_at`; rates are ratios, null without a base.

    `working`: ready, no partition stalled, the broker answers. `summary` says the same in a sentence.
    """

    app_id: str
    started_at: str
    now: str
    working: bool
    summary: str
    ready: bool
    not_ready: list[NotReady]
    broker_reachable: bool
    ruleset: RulesetView
    figures: Figures
    abandonment_rate: float | None
    false_abandonment_rate: float | None
    partitions: list[PartitionView]


class RulesOfPartition(msgspec.Struct, frozen=True):
    """What a partition has in use; `waits_for` says why it has nothing yet."""

    partition: int
    revision: int | None
    ruleset: str | None
    since: str | None
    """Stream time at which it was taken up."""
    author: str | None
    reason: str | None
    stopped: list[str] | str
    shadow: int | None
    waits_for: str | None


class PendingRevision(msgspec.Struct, frozen=True):
    """A live revision that is not in use in every partition of this worker."""

    number: int
    effective_from: str
    author: str | None
    reason: str | None


class RulesView(msgspec.Struct, frozen=True):
    """`/api/v1/rules`: where the rules come from and, with `rules: topic`, what this worker's partitions use."""

    source: str
    ruleset: str
    newest: int | None
    pending: list[PendingRevision]
    ignored: int
    refused: dict[int, str]
    partitions: list[RulesOfPartition]


class TriggerView(msgspec.Struct, frozen=True):
    """One trigger in use, with aliases and defaults resolved; `fired` counts since this worker started."""

    id: str
    title: str
    active: bool
    category_position: float
    position: float
    wait_ms: int
    all: tuple[Condition, ...]
    any: tuple[Condition, ...]
    actions: tuple[Action, ...]
    fired: int


class TriggersView(msgspec.Struct, frozen=True):
    """`/api/v1/triggers`: the triggers in file order."""

    ruleset: RulesetView
    triggers: list[TriggerView]


class EvaluationsView(msgspec.Struct, frozen=True):
    """`/api/v1/evaluations`: the latest records in the form of the `session-transitions` topic, newest first."""

    evaluations: list[dict[str, Any]]
    transitions: list[dict[str, Any]]


class RateView(msgspec.Struct, frozen=True):
    """The quarter of an hour from `start`, by `occurred_at`, as far as this worker has seen it since it started."""

    start: str
    sessions: int
    sessions_abandoned: int
    abandonments: int
    false_abandonments: int
    lapses: dict[str, int]
    """By reason."""
    abandonment_rate: float | None
    false_abandonment_rate: float | None


class RatesView(msgspec.Struct, frozen=True):
    """`/api/v1/rates`. Quarters that begin before `since` are empty or incomplete: the worker has not seen them."""

    since: str
    quarters: list[RateView]


class ShadowView(msgspec.Struct, frozen=True):
    """`/api/v1/rules/shadow`: what this worker found of the newest shadow since it took it up or started.

    `revision` is null when there was none, `since` while no step was committed with it. `partitions` are those of this
    worker in which it is in use. `differences` are the latest records in the form of the `session-transitions` topic,
    newest first.
    """

    revision: int | None
    since: str | None
    partitions: list[int]
    rounds: dict[str, int]
    triggers: dict[str, int]
    differences: list[dict[str, Any]]


def status(
    *,
    app_id: str,
    started_at: float,
    now: float,
    ruleset: Ruleset,
    metrics: Metrics,
    source: StatusSource,
    stalled: Mapping[int, float],
) -> StatusView:
    """Return the worker's status; `started_at` and `now` are seconds since the epoch."""
    figures, not_ready, held = metrics.figures(), reasons_not_ready(source), source.partitions()
    trouble = _trouble(source.broker_reachable, len(held), len(stalled), not_ready)
    return StatusView(
        app_id=app_id,
        started_at=_instant(started_at),
        now=_instant(now),
        working=trouble is None,
        summary=trouble or "Ready.",
        ready=not not_ready,
        not_ready=not_ready,
        broker_reachable=source.broker_reachable,
        ruleset=ruleset_view(ruleset),
        figures=figures,
        abandonment_rate=_ratio(figures.sessions_abandoned, figures.sessions),
        false_abandonment_rate=_ratio(figures.false_abandonments, figures.abandonments),
        partitions=[_partition(one, stalled.get(one.partition)) for one in sorted(held, key=lambda one: one.partition)],
    )


def triggers(ruleset: Ruleset, fired: Mapping[str, int]) -> TriggersView:
    """Return the triggers in use; `fired` counts by trigger id."""
    return TriggersView(
        ruleset_view(ruleset), [_trigger(trigger, fired.get(trigger.id, 0)) for trigger in ruleset.triggers]
    )


def rates(journal: Journal, now: float) -> RatesView:
    """Return what happened in the last 24 hours, by quarter of an hour, oldest first."""
    return RatesView(
        _instant(journal.since(24 * 60, now)),
        [
            RateView(
                _instant(start),
                sums.sessions,
                sums.abandoned,
                sums.abandonments,
                sums.false_abandonments,
                dict(by_count(sums.lapses)),
                sums.abandonment_rate,
                sums.false_abandonment_rate,
            )
            for start, sums in journal.series(24 * 60, 15, now)
        ],
    )


RECENT = 200
"""Maximum number of evaluations, and of transitions, in `/api/v1/evaluations`."""


def evaluations(journal: Journal) -> EvaluationsView:
    """Return the most recently committed evaluations and transitions."""
    return EvaluationsView(
        [msgspec.to_builtins(encode.output_record(one.evaluation)) for one in journal.rounds()[:RECENT]],
        [msgspec.to_builtins(encode.output_record(record)) for record in journal.transitions()[:RECENT]],
    )


def shadow(journal: Journal, tables: Tables) -> ShadowView:
    """Return what was found of the newest shadow."""
    in_use = tables.shadows()
    found = journal.shadow()
    newest = max(in_use.values(), default=None)
    if found is None or (newest is not None and newest > found.revision):
        found = None if newest is None else ShadowSums(newest, 0)  # taken up, and no batch since
    rounds = Counter[str]() if found is None else found.rounds
    return ShadowView(
        None if found is None else found.revision,
        None if found is None or not found.since else _instant(found.since),
        sorted(number for number, revision in in_use.items() if found is not None and revision == found.revision),
        {result.value: rounds[result.value] for result in ShadowResult},
        {} if found is None else dict(sorted(found.fired.items())),
        []
        if found is None
        else [msgspec.to_builtins(encode.output_record(record)) for record in reversed(found.differences)],
    )


def ruleset_view(ruleset: Ruleset) -> RulesetView:
    """Return the view of a ruleset."""
    active = sum(trigger.active for trigger in ruleset.triggers)
    return RulesetView(ruleset.digest, ruleset.cycle, len(ruleset.triggers), active)


def _trouble(broker_reachable: bool, held: int, stalled: int, not_ready: list[NotReady]) -> str | None:
    """Return one sentence on why the worker is not working, by the most serious reason; None when it is working."""
    if not broker_reachable:
        return "The broker does not answer."
    if stalled:
        return f"Stalled: {stalled} of {held} partitions have records to take and take none."
    if len(not_ready) > 1:
        return f"The tables of {len(not_ready)} of {held} partitions are being restored."
    return not_ready[0].message if not_ready else None


def _partition(held: PartitionStatus, stalled: float | None) -> PartitionView:
    return PartitionView(
        partition=held.partition,
        state="stalled" if stalled is not None else held.state,
        stream_time=None if held.stream_time is None else instants.text(held.stream_time),
        stalled_seconds=None if stalled is None else round(stalled, 1),
        topics={
            topic.value: PositionView(at.position, at.lag, None if at.lag_seconds is None else round(at.lag_seconds, 1))
            if (at := held.topics.get(topic))
            else PositionView(None, None, None)
            for topic in Topic
        },
    )


def _trigger(trigger: Trigger, fired: int) -> TriggerView:
    return TriggerView(
        id=trigger.id,
        title=trigger.title,
        active=trigger.active,
        category_position=trigger.category_position,
        position=trigger.position,
        wait_ms=trigger.wait // MILLISECOND,
        all=trigger.all,
        any=trigger.any,
        actions=trigger.actions,
        fired=fired,
    )


def _instant(seconds: float) -> str:
    return instants.text(int(seconds) * 1_000_000)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def rules(book: Rulebook | None, held: Iterable[PartitionStatus], digest: str) -> RulesView:
    """Return the revisions in use; `digest` is that of the rules that this worker shows."""
    if book is None:
        return RulesView("file", digest, None, [], 0, {}, [])
    held = list(held)
    least = min((one.in_use.revision for one in held if one.in_use is not None), default=0)
    live = list(book.live(least))
    return RulesView(
        source="topic",
        ruleset=digest,
        newest=max((entry.number for entry in book.live()), default=None),
        pending=[
            PendingRevision(entry.number, instants.text(entry.effective_from or 0), entry.author, entry.reason)
            for entry in live
        ],
        ignored=book.ignored,
        refused=dict(book.refused),
        partitions=[_rules_of(one) for one in held],
    )


def _rules_of(held: PartitionStatus) -> RulesOfPartition:
    in_use = held.in_use
    if in_use is None:
        return RulesOfPartition(held.partition, None, None, None, None, None, [], None, held.waits_for)
    stopped = in_use.stops.shown
    return RulesOfPartition(
        partition=held.partition,
        revision=in_use.revision,
        ruleset=in_use.ruleset,
        since=instants.text(in_use.since),
        author=in_use.author,
        reason=in_use.reason,
        stopped="all" if stopped == "all" else list(stopped),
        shadow=in_use.shadow,
        waits_for=None,
    )
