"""The law of revisions: a run that activations split is the runs between them, joined.

The left side is a worker that takes entries of the rules topic up. The right side knows nothing of revisions: a worker
with fixed rules for each stretch between two activations, started on what the one before has committed.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from streams.core.cycle import Rules
from streams.core.model import MILLISECOND, SECOND
from streams.core.names import Topic
from streams.core.revisions import RULES_KEY, Entry, EntryKind, Rulebook
from streams.core.shadow import Candidate
from streams.core.triggers import Holdout, Limit, Ruleset
from streams.testing.driver import Driver

from .stories import RULESET, SETTINGS, START_MS, TICKET_IDS, rfc3339, trigger

TAG = trigger("tag", position=1)
RULESETS = {
    "all": RULESET,
    "few": Ruleset((TAG, *RULESET.triggers[2:3]), digest="aaaaaaaaaaaa"),
    "guarded": Ruleset((TAG,), digest="bbbbbbbbbbbb", limit=Limit(1, 10 * SECOND)),
    "held-out": Ruleset((TAG, *RULESET.triggers[3:]), digest="cccccccccccc", holdout=Holdout(500_000, "salt")),
    "none": Ruleset((), digest="dddddddddddd"),
}
STOPPABLE = ("tag", "solve", "late", "all")

_sources = st.sampled_from(sorted(RULESETS))
_records = st.tuples(
    st.sampled_from(
        [*(["leaves"] * 6), "inactive", "inactive", "active", "active", "ended", "open", "closed", "deleted"]
    ),
    st.sampled_from(TICKET_IDS),
)
_entries = st.one_of(
    st.tuples(st.just(EntryKind.LIVE), _sources, st.integers(-9, 30)),
    st.tuples(st.sampled_from([EntryKind.STOP, EntryKind.RESUME]), st.sampled_from(STOPPABLE), st.just(0)),
    st.tuples(st.just(EntryKind.SHADOW), _sources, st.just(0)),
    st.tuples(st.just(EntryKind.SHADOW_OFF), st.just(""), st.just(0)),
)
_stories = st.lists(st.tuples(st.integers(0, 6), st.one_of(_records, _records, _entries)), min_size=3, max_size=30)


def _entry(number: int, kind: EntryKind, what: str, effective_ms: int) -> Entry:
    is_rules = kind in (EntryKind.LIVE, EntryKind.SHADOW)
    return Entry(
        number=number,
        kind=kind,
        published_at=START_MS * MILLISECOND,
        ruleset=RULESETS[what].digest if is_rules else None,
        source=what if is_rules else None,
        effective_from=effective_ms * MILLISECOND if kind is EntryKind.LIVE else None,
        triggers=None if is_rules or not what else "all" if what == "all" else (what,),
    )


def _pipe(driver: Driver, what: str, ticket: str, at_ms: int) -> None:
    if what == "leaves":
        for one in ("open", "active", "inactive"):
            _pipe(driver, one, ticket, at_ms)
        return
    if what == "deleted":
        driver.pipe(Topic.TICKETS, ticket, None, at_ms)
        return
    value: dict[str, Any] = {"ticket_id": ticket, "occurred_at": rfc3339(at_ms)}  # equal instants are applied
    if what in ("open", "closed"):
        driver.pipe(Topic.TICKETS, ticket, value | {"ticket": {"status": what}}, at_ms)
    else:
        driver.pipe(Topic.SESSIONS, ticket, value | {"state": what}, at_ms)


def _whole(story: list[tuple[int, tuple[Any, ...]]], end_ms: int) -> tuple[Driver, dict[int, Entry]]:
    """Run a story in one worker, which takes the entries up as they become known, from entry 1 on."""
    book = Rulebook(RULESETS.__getitem__)
    book.add(_entry(1, EntryKind.LIVE, "all", 0))
    driver = Driver(Rules(Ruleset(())), SETTINGS, book=book, now_ms=START_MS + 10_000_000, batch_records=3)
    at = START_MS
    for seconds, step in story:
        at += seconds * 1_000
        if len(step) == 2:
            _pipe(driver, *step, at)
        else:
            kind, what, after = step
            driver.learn(_entry(book.last + 1, kind, what, at + after * 1_000))
    driver.advance(end_ms)
    return driver, book.entries


def _joined(whole: Driver, entries: dict[int, Entry], end_ms: int) -> Driver:
    """Run the records of a worker again: for each stretch between two activations another one, with fixed rules."""
    activations = [json.loads(write.value or b"") for write in _transitions(whole) if _is_activation(write)]
    sources = {ruleset.digest: ruleset for ruleset in RULESETS.values()}
    runner: Driver | None = None
    live, shadow = (0, Ruleset(())), None
    stopped: set[str] = set()
    everything = False
    for one, following in zip(activations, [*activations[1:], None], strict=True):
        named = entries[one["number"]].triggers or ()
        if one["kind"] == "live":
            live = (one["number"], sources[one["ruleset"]])
        elif one["kind"] == "shadow":
            shadow = (one["number"], sources[one["ruleset"]])
        elif one["kind"] == "shadow_off":
            shadow = None
        elif named == "all":
            # A dry run; single stops are in force beside it, until everything is resumed.
            everything, stopped = one["kind"] == "stop", stopped if one["kind"] == "stop" else set()
        else:
            stopped = stopped | set(named) if one["kind"] == "stop" else stopped - set(named)
        assert one["stopped"] == ("all" if everything else sorted(stopped))
        policy = msgspec.structs.replace(SETTINGS.rounds, dry_run=everything)
        starting = Driver(
            _rules(*live, stopped),
            msgspec.structs.replace(SETTINGS, rounds=policy),
            now_ms=START_MS + 10_000_000,
            batch_records=2,
        )
        if runner is not None:
            starting.broker = runner.broker
            starting.broker.stream_time = one["stream_time_us"]
        starting.crash()  # begins with what the one before has committed
        starting.follow_with(None if shadow is None else Candidate(shadow[0], _rules(*shadow, stopped)))
        runner = starting
        for topic in Topic:
            begin, end = one["offsets"][topic.value], None if following is None else following["offsets"][topic.value]
            for record in whole.broker.inputs[topic]:
                if record.offset >= begin and (end is None or record.offset < end):
                    runner.pipe(topic, record.key, record.value, record.timestamp, offset=record.offset)
        if following is None:
            runner.advance(end_ms)
        else:
            is_timer = following["kind"] == "live" and not following["late"]
            runner.advance(following["stream_time_us"] // MILLISECOND - is_timer)
    assert runner is not None
    return runner


def _rules(number: int, ruleset: Ruleset, stopped: set[str]) -> Rules:
    triggers = [msgspec.structs.replace(one, active=one.id not in stopped) for one in ruleset.triggers]
    return Rules(msgspec.structs.replace(ruleset, triggers=tuple(triggers)), revision=number)


def _transitions(driver: Driver) -> list[Any]:
    return driver.read("session-transitions")


def _is_activation(write: Any) -> bool:
    return bool((write.key or b"").startswith(b"rules/"))


@settings(max_examples=150, deadline=None)
@given(_stories)
def test_any_split_of_a_run_by_activations_is_the_two_runs_joined(story: list[tuple[int, tuple[Any, ...]]]) -> None:
    end_ms = START_MS + 1_000 * (sum(seconds for seconds, _ in story) + 50)
    whole, entries = _whole(story, end_ms)
    joined = _joined(whole, entries, end_ms)
    for topic, written in whole.broker.outputs.items():
        assert joined.read(topic) == [write for write in written if not _is_activation(write)], topic
    for table, changelog in whole.broker.changelogs.items():
        rows = {key: row for key, row in changelog if key != RULES_KEY}
        assert dict(joined.broker.changelogs[table]) == rows, table
    assert joined.pending_rounds == whole.pending_rounds
    for outcome in {told["outcome"] for told in whole.records() if told["type"] == "evaluation"}:
        event(outcome)
    event(f"{sum(map(_is_activation, _transitions(whole))) - 1} splits")
