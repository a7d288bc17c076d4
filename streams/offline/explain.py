"""What happened to one ticket in a capture, and why: every event, every round, every condition evaluated.

The capture runs as in a backtest, with an engine that records its outcomes. Rounds are then traced from their
evaluation records, with the rules that were in use when they ended.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.inputs import DeadLetter, Decode, RawRecord, Update
from streams.core.model import (
    EVALUATED,
    MILLISECOND,
    Command,
    Due,
    Evaluation,
    Kind,
    Micros,
    Outcome,
    Rejection,
    SessionRow,
    SessionUpdate,
    TicketUpdate,
    Transition,
)
from streams.core.names import Result, Topic
from streams.core.plain import PlainTicket
from streams.core.revisions import InUse
from streams.core.tables import Tables
from streams.core.trace import RoundTrace, trace_round
from streams.core.triggers import Ruleset
from streams.offline.as_it_was import History, run_as_it_was
from streams.offline.captures import Captures
from streams.offline.run import new_pipeline, run_partition
from streams.wire.decode import decode, given_event_id
from streams.wire.decode import decode as decode_as_it_is


class Event(msgspec.Struct, frozen=True):
    """One record of the ticket, or a timer that stream time reached, and its effect."""

    topic: Topic | None
    """None for a timer."""
    event_id: str
    at: Micros
    """`occurred_at`; for a timer, its due time."""
    result: Result
    kind: Kind | None = None
    """From the session's transition; None when the session did not change."""
    rejection: Rejection | None = None


class Used(msgspec.Struct, frozen=True):
    """The rules of a round."""

    ruleset: Ruleset
    rules: Rules
    """The same, compiled; stopped triggers are inactive."""
    in_use: InUse | None = None
    """What the partition had taken up of the rules topic; None when the rules are those of a file."""


class Round(msgspec.Struct, frozen=True):
    """One round of the ticket that has ended."""

    evaluation: Evaluation
    used: Used
    ended_by: Event
    """The event that ended the round: the lapse itself, a timer, a return, or the ticket's first update."""
    trace: RoundTrace | None
    """None if no trigger was evaluated."""
    command: Command | None


class Story(msgspec.Struct):
    """Everything that a capture contains about one ticket."""

    ticket_id: str
    events: list[Event] = msgspec.field(default_factory=list)
    transitions: list[Transition] = msgspec.field(default_factory=list)
    rounds: list[Round] = msgspec.field(default_factory=list)
    session: SessionRow | None = None
    """The session at the end of the capture, with the rounds still pending."""

    def event(self, event_id: str) -> Event | None:
        """Return the event with that id. An applied event takes precedence over its duplicates."""
        found = [event for event in self.events if event.event_id == event_id]
        return min(found, key=lambda event: event.result not in {Result.APPLIED, Result.DUE}, default=None)


class _Watched(Engine):
    """An engine that keeps the outcomes of one ticket's records."""

    def __init__(self, rules: Rules, settings: EngineSettings, ticket_id: str) -> None:
        super().__init__(rules, settings)
        self._ticket_id = ticket_id
        self.seen: list[tuple[TicketUpdate | SessionUpdate | Due, Outcome]] = []

    def step(self, tables: Tables, record: TicketUpdate | SessionUpdate | Due, clock: Micros) -> Outcome:
        outcome = super().step(tables, record, clock)
        if record.ticket_id == self._ticket_id:
            if self.seen and self.seen[-1][0] is record:
                self.seen.pop()  # a large record is evaluated on trial first, then again when it is applied
            self.seen.append((record, outcome))
        return outcome


def tell(
    captures: Captures,
    ruleset: Ruleset,
    settings: EngineSettings,
    ticket_id: str,
    *,
    now: Micros,
    history: History | None = None,
    progress: Callable[[int, int], None] | None = None,
    decode: Decode = decode,
) -> Story:
    """Run the partitions with records of the ticket and return its story. `now` is used to detect `bad_timestamp`.

    With `history`, each partition uses the revisions that it had in use, and not `ruleset`.
    """
    story = Story(ticket_id)
    of_the_file = Used(ruleset, Rules(ruleset))
    key = ticket_id.encode()
    is_mapped = decode is not decode_as_it_is

    def of_ticket(topic: Topic, number: int, record: RawRecord) -> bool:
        if record.key == key:
            return True
        if not is_mapped:
            return False
        decoded = decode(topic, number, record, now)
        return not isinstance(decoded, Rejection) and decoded.ticket_id == ticket_id

    last = captures.latest(
        lambda partition, topic, record: not isinstance(decode(topic, partition, record, now), Rejection)
    )
    done = 0
    for number in captures.partitions:
        if not any(of_ticket(topic, number, record) for topic in Topic for record in captures.read(number, topic)):
            done += captures.count(number)
            continue
        engine = _Watched(of_the_file.rules, settings, ticket_id)
        pipeline = new_pipeline(engine, number, _for_the_engine(decode), captures.partition_count)
        if history is None:
            batches = run_partition(captures, pipeline, now=now, last=last)
        else:
            batches = run_as_it_was(captures, pipeline, history, now=now, last=last)
        for batch in batches:
            letters = (letter for letter in batch.dead_letters if of_ticket(letter.topic, number, letter.record))
            story.events.extend(_of_letter(letter, number) for letter in letters)
            # A batch ends where the rules change, so that all its steps had the same.
            used = of_the_file if history is None else _used(history, pipeline.partition.in_use) or of_the_file
            for record, outcome in engine.seen:
                _take(story, used, record, outcome)
            engine.seen.clear()
            if progress is not None:
                progress(done, captures.records)
        done += captures.count(number)
        session = pipeline.partition.session(ticket_id)
        story.session = session if session is not None else story.session
    return story


def _used(history: History, in_use: InUse | None) -> Used | None:
    """Return the rules that a partition has in use; None before it has taken any up, and before its first step."""
    ruleset = None if in_use is None else history.book.ruleset(in_use.revision)
    if in_use is None or ruleset is None:
        return None
    return Used(ruleset, history.book.rules(in_use.revision, in_use.stops), in_use)


def _for_the_engine(decode: Decode) -> Decode:
    """Decode as `decode` does, but pass every record through the engine, because outcomes are recorded there."""

    def whole(topic: Topic, number: int, record: RawRecord, now: Micros) -> Update | Rejection:
        update = decode(topic, number, record, now)
        return update.whole() if isinstance(update, PlainTicket) else update

    return whole


def _take(story: Story, used: Used, record: TicketUpdate | SessionUpdate | Due, outcome: Outcome) -> None:
    transition = next((said for said in outcome.records if isinstance(said, Transition)), None)
    evaluations = [said for said in outcome.records if isinstance(said, Evaluation)]
    if isinstance(record, Due):
        if not evaluations:
            return  # an outdated timer, or the expiry of the ticket's state
        event = Event(None, evaluations[0].event_id, record.at, outcome.result)
    else:
        topic = Topic.TICKETS if isinstance(record, TicketUpdate) else Topic.SESSIONS
        kind = None if transition is None else transition.kind
        event = Event(topic, record.event_id, record.occurred_at, outcome.result, kind)
    story.events.append(event)
    if transition is not None:
        story.transitions.append(transition)
    for evaluation in evaluations:
        trace = None
        if evaluation.outcome in EVALUATED and evaluation.lapse is not None and evaluation.ticket is not None:
            trace = trace_round(used.rules, evaluation.wait, evaluation.lapse, evaluation.ticket.fields or {})
        command = next((sent for sent in outcome.commands if sent.command_id == evaluation.command_id), None)
        story.rounds.append(Round(evaluation, used, event, trace, command))


def _of_letter(letter: DeadLetter, number: int) -> Event:
    record = letter.record
    return Event(
        letter.topic,
        given_event_id(record) or f"{letter.topic.value}/{number}/{record.offset}",
        record.timestamp * MILLISECOND,
        Result.DEAD_LETTER,
        rejection=letter.rejection,
    )
