"""`lapse explain`: a ticket's history as text for people and as one JSON object for tools."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from streams.core.engine import EngineSettings
from streams.core.inputs import Decode
from streams.core.model import Kind, Micros, PendingRound, RoundOutcome, Transition
from streams.core.names import Result, Topic
from streams.core.revisions import InUse
from streams.core.trace import ConditionTrace, TriggerTrace
from streams.core.triggers import Ruleset
from streams.documents.durations import render
from streams.offline.as_it_was import history_of
from streams.offline.captures import CaptureError, Captures
from streams.offline.command import BacktestError, name_broken_lines, name_what_was_in_force, usable, warn_of_timestamps
from streams.offline.explain import Event, Round, Story, tell
from streams.offline.words import act, asked, counted, how_it_ended, not_asked, say, say_json, shown, why_cancelled
from streams.rules.source import compile_source
from streams.settings.engine import make_engine
from streams.settings.settings import Settings
from streams.wire import encode, instants
from streams.wire.decode import decode
from streams.wire.trace import round_trace


def explain(
    *,
    events: Sequence[Path],
    triggers: Path | None,
    settings: Settings,
    ticket: str,
    event: str | None = None,
    now: Micros | None = None,
    as_json: bool = False,
    decode: Decode = decode,
) -> None:
    """Print all rounds of a ticket, or only those of one lapse (`event`), to standard output.

    Without `triggers`, each round is explained by the revision that was in use when it ended. Raises `BacktestError` if
    files can't be used, or if the capture has no such ticket or event.
    """
    ruleset = Ruleset(()) if triggers is None else usable(triggers)
    clock = time.time_ns() // 1000 if now is None else now
    engine_settings = make_engine(ruleset, settings).settings
    try:
        with Captures(events) as captures:
            history = history_of(captures, compile_source) if triggers is None else None
            if history is not None:
                name_what_was_in_force(history)
            story = tell(captures, ruleset, engine_settings, ticket, now=clock, history=history, decode=decode)
            name_broken_lines(captures, strict=False)
            warn_of_timestamps(captures, clock, decode)
    except CaptureError as error:
        raise BacktestError(str(error), 2) from None
    if not story.events:
        raise BacktestError(f"no record of ticket {ticket} in {', '.join(map(str, events))}", 1)
    if event is not None and story.event(event) is None:
        lapses = [lapse.event_id for lapse in story.transitions if lapse.kind is Kind.LAPSED]
        hint = f"its lapses are {', '.join(lapses[-10:])}" if lapses else "it has no lapse"
        raise BacktestError(f"ticket {ticket} has {len(story.events)} events, none of them is {event}; {hint}", 1)
    if as_json:
        say_json(as_object(story, engine_settings, event))
    else:
        say(as_text(story, engine_settings, event))


# --- for tools -------------------------------------------------------------------------------------------------------


def as_object(story: Story, settings: EngineSettings, event: str | None = None) -> dict[str, Any]:
    """Return `{"ticket_id", "event", "events", "transitions", "rounds", "pending"}`.

    A round is its evaluation record with `why` (one sentence), `ended_by` (an event), `passes`, `fired`, `not_fired`,
    `actions` (`streams.wire.trace`), `not_asked` and `command`, and `in_use` where its rules are a revision; those of
    `event` alone when one is given.
    """
    asked_for = None if event is None else story.event(event)
    return {
        "ticket_id": story.ticket_id,
        "event": None if asked_for is None else {**_event_object(asked_for), "why": what_it_did(asked_for)},
        "events": [_event_object(one) for one in story.events],
        "transitions": [msgspec.to_builtins(encode.output_record(one)) for one in story.transitions],
        "rounds": [_round_object(one, settings) for one in _rounds(story, event)],
        "pending": [
            {
                "wait_ms": entry.wait // 1000,
                "due": instants.text(entry.due),
                "parked_until": None if entry.parked_until is None else instants.text(entry.parked_until),
                "why": why_pending(entry),
            }
            for entry in _pending(story, event)
        ],
    }


def _round_object(one: Round, settings: EngineSettings) -> dict[str, Any]:
    found = msgspec.to_builtins(encode.output_record(one.evaluation))
    trace: dict[str, Any] = {"passes": 0, "fired": [], "not_fired": [], "actions": []}
    return {
        **found,
        "why": why(one, settings),
        "ended_by": _event_object(one.ended_by),
        **(trace if one.trace is None else round_trace(one.trace)),
        "not_asked": [{"id": trigger, "why": reason} for trigger, reason in _not_asked(one)],
        "command": None if one.command is None else msgspec.to_builtins(encode.command_record(one.command)),
        **({} if one.used.in_use is None else {"in_use": _in_use_object(one.used.in_use)}),
    }


def _in_use_object(row: InUse) -> dict[str, Any]:
    return {
        "revision": row.revision,
        "ruleset": row.ruleset,
        "since": instants.text(row.since),
        "stopped": row.stops.shown,
        "author": row.author,
        "reason": row.reason,
    }


def _event_object(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "topic": None if event.topic is None else event.topic.value,
        "occurred_at": instants.text(event.at),
        "result": event.result,
        "kind": None if event.kind is None else event.kind.value,
        "error": None
        if event.rejection is None
        else {"code": event.rejection.code, "path": event.rejection.path, "message": event.rejection.message},
    }


# --- in words --------------------------------------------------------------------------------------------------------

_KINDS = {
    Kind.OPENED: "opened the session",
    Kind.LAPSED: "was a lapse: the session became inactive",
    Kind.FIRST_SEEN: "was the first that was heard of the session; `first_inactive` says that this is no lapse",
    Kind.REASON_CHANGED: "changed the reason of a session that was inactive already: no lapse",
    Kind.RESUMED: "brought the customer back; what waited was cancelled",
    Kind.ENDED: "ended the session; what waited was cancelled",
    Kind.OTHER: "changed the session in a way that is no lapse",
}


def what_it_did(event: Event) -> str:
    """Return a sentence on the effect of one event: the answer to *why did nothing happen?*"""
    if event.rejection is not None:
        return f"The record is a dead letter ({event.rejection.code}): {event.rejection.message}."
    if event.result is Result.STALE:
        newer = "a newer event of this ticket and topic, or its deletion,"
        return f"It came too late: {newer} was applied before. It changed nothing."
    if event.result is Result.DUPLICATE:
        return "It was applied before: a duplicate, which changed nothing."
    if event.topic is Topic.TICKETS:
        return "It updated the ticket; only a lapse of the session starts rounds."
    if event.kind is None:
        return "It told the state that the session was in already: a repeat."
    return f"It {_KINDS[event.kind]}."


def why(one: Round, settings: EngineSettings) -> str:
    """Return a sentence on why a round ended as it did."""
    by = one.evaluation.cancelled_by
    if by is not None:
        return why_cancelled(by)
    row = one.used.in_use
    if one.evaluation.outcome is RoundOutcome.DRY_RUN and row is not None and row.stops.everything:
        return "Triggers fired; everything was stopped (`lapse rules stop`), so no command is sent."
    return how_it_ended(one.evaluation.outcome, settings.rounds.join_wait)


def why_pending(entry: PendingRound) -> str:
    """Return what a pending round waits for."""
    if entry.parked_until is not None:
        return f"Its ticket was not heard of yet; it waits for an update until {instants.text(entry.parked_until)}."
    return f"It is due at {instants.text(entry.due)}, after the end of the capture."


# --- for people ------------------------------------------------------------------------------------------------------


def as_text(story: Story, settings: EngineSettings, event: str | None = None) -> Iterator[str]:
    """Yield the story as lines of text."""
    lapses = sum(one.kind is Kind.LAPSED for one in story.transitions)
    records = sum(one.topic is not None for one in story.events)
    yield (
        f"Ticket {story.ticket_id}: {counted(records, 'record')}, {counted(lapses, 'lapse')}, "
        f"{counted(len(story.rounds), 'round')}"
    )
    for transition in story.transitions:
        yield f"  {_transition(transition)}"
    for rejected in story.events:
        if rejected.rejection is not None:
            told = f"{rejected.rejection.code}, at {rejected.rejection.path or '$'}: {rejected.rejection.message}"
            yield f"  {instants.text(rejected.at)}  {'dead letter':<14}  {told}  (event {rejected.event_id})"
    if event is not None:
        found = story.event(event)
        assert found is not None  # noqa: S101 -- looked for before
        yield ""
        yield f"Event {event}, {instants.text(found.at)}: {what_it_did(found)}"
    for one in _rounds(story, event):
        yield ""
        yield from _round(one, settings)
    for entry in _pending(story, event):
        yield ""
        yield f"A round with wait {render(entry.wait)} has not ended. {why_pending(entry)}"
    if event is None and not story.rounds and not _pending(story, event):
        yield ""
        yield "No round was started: " + ("no trigger is active." if lapses else "the session never lapsed.")


def _transition(one: Transition) -> str:
    channel = "" if one.channel is None else f" on {one.channel}"
    reason = "" if one.reason is None else f", {one.reason}"
    states = f"{one.before or 'nothing known'} → {one.after}"
    return f"{instants.text(one.occurred_at)}  {one.kind.value:<14}  {states}{reason}{channel}  (event {one.event_id})"


def _round(one: Round, settings: EngineSettings) -> Iterator[str]:
    told = one.evaluation
    yield (
        f"Round of event {told.event_id}, episode {told.episode}, wait {render(told.wait)}: "
        f"{told.outcome.value.replace('_', ' ')}"
    )
    yield f"  {why(one, settings)}"
    if one.used.in_use is not None:
        yield f"  Rules in use: {_in_use(one.used.in_use)}"
    if one.trace is not None:
        if one.trace.fired:
            yield f"  Fired, in {counted(one.trace.passes, 'pass', 'passes')} of the cycle:"
            for place, trace in enumerate(one.trace.fired, start=1):
                yield f"    {place}. {_title(trace)} (pass {trace.fired_in_pass})"
                yield from _conditions(trace)
                yield f"       {_changes(trace)}"
        if one.trace.not_fired:
            yield "  Not fired, near misses first:"
            for trace in one.trace.not_fired:
                yield f"    - {_title(trace)}: {counted(trace.short, 'condition')} short"
                yield from _conditions(trace)
    skipped = list(_not_asked(one))
    if skipped and one.trace is not None:
        yield f"  Not asked: {', '.join(f'{trigger} ({reason})' for trigger, reason in skipped)}"
    if one.command is not None:
        yield f"  Command {one.command.command_id}, issued at {instants.text(one.command.issued_at)}:"
        for action in one.command.actions:
            yield f"    {act(action)}"


def _in_use(row: InUse) -> str:
    told = [f"revision {row.revision} (ruleset {row.ruleset}), taken up at {instants.text(row.since)}"]
    if row.author is not None:
        told.append(f"published by {row.author}")
    if row.reason is not None:
        told.append(f"reason: {row.reason}")
    if row.stops.everything:
        told.append("everything stopped")
    elif row.stops.ids:
        told.append(f"stopped: {', '.join(row.stops.ids)}")
    return "; ".join(told)


def _title(trace: TriggerTrace) -> str:
    trigger = trace.trigger
    return trigger.id if trigger.title in {"", trigger.id} else f"{trigger.id}, {trigger.title}"


def _conditions(trace: TriggerTrace) -> Iterator[str]:
    for one in trace.all:
        yield f"       {_condition(one)}"
    if trace.any:
        yield "       any of:"
        for one in trace.any:
            yield f"         {_condition(one)}"


def _condition(one: ConditionTrace) -> str:
    found = asked(one)
    return f"{'✓' if found.holds else '✗'} {found.asks}  (saw {found.saw})"


def _changes(trace: TriggerTrace) -> str:
    if not trace.changes:
        return "the ticket stayed as it was"
    changed = "; ".join(
        f"{field}: {shown(before)} → {shown(after)}" for field, (before, after) in trace.changes.items()
    )
    return f"made {changed}"


def _not_asked(one: Round) -> Iterator[tuple[str, str]]:
    stopped = () if one.used.in_use is None else one.used.in_use.stops.ids
    return not_asked(one.evaluation.wait, one.used.ruleset, stopped)


def _rounds(story: Story, event: str | None) -> list[Round]:
    return [one for one in story.rounds if event is None or one.evaluation.event_id == event]


def _pending(story: Story, event: str | None) -> list[PendingRound]:
    session = story.session
    if session is None or session.lapse is None or (event is not None and session.lapse.event_id != event):
        return []
    return sorted(session.pending, key=lambda entry: (entry.next_at, entry.wait))
