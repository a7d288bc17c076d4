"""Runs captured records with the revisions that were in use, switched where the workers switched: `--as-it-was`.

SPEC section 10, *Law*: the same inputs, settings and activations give the same records. An activation says after which
records, and at which stream time, its partition took an entry of the rules topic up.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from streams.core.batch import Batch
from streams.core.model import MILLISECOND, Micros
from streams.core.names import Topic
from streams.core.pipeline import Pipeline
from streams.core.revisions import Activation, Compile, EntryKind, Rulebook, Stops
from streams.offline.captures import CaptureError, Captures
from streams.offline.run import settled, take
from streams.wire import instants
from streams.wire.capture import ACTIVATIONS, IN_FORCE, RULES, CapturedRecord
from streams.wire.rule_entries import BadEntryError, decode_entry
from streams.wire.shapes import ActivationRecord

_decode = msgspec.json.Decoder(ActivationRecord).decode


class History(msgspec.Struct, frozen=True):
    """The revisions of a capture, and what each partition took up, in order."""

    book: Rulebook
    activations: dict[int, list[Activation]]
    begun: dict[int, list[Activation]] = {}
    """What was in force at the beginning, of partitions whose first activation the capture does not have."""
    notes: tuple[str, ...] = ()
    """What a reader must know of them, a sentence each."""

    @property
    def trigger_ids(self) -> list[str]:
        """Return the ids of the triggers of every revision that was live."""
        live = [self.book.ruleset(entry.number) for entry in self.book.live()]
        return list(dict.fromkeys(one.id for ruleset in live if ruleset is not None for one in ruleset.triggers))


def history_of(captures: Captures, compile: Compile) -> History:
    """Read the rules lines of a capture.

    Where the first activation of a partition is missing, the partition's row says what was in force at the beginning,
    or the entries do as far as they can.
    Raises `CaptureError` when it can't tell which rules were in use."""
    book = Rulebook(compile)
    activations: dict[int, list[Activation]] = {}
    rows: dict[int, list[Activation]] = {}
    for line in sorted(captures.rules, key=lambda line: (line.topic, line.partition, line.offset)):
        if line.topic == RULES:
            try:
                book.add(decode_entry(line.key, line.value))
            except BadEntryError:
                book.ignored += 1
        elif line.topic == ACTIVATIONS:
            found = rows if line.offset == IN_FORCE else activations
            found.setdefault(line.partition, []).append(_activation(line.value or b""))
    if not activations and not rows:
        raise CaptureError(
            "The capture has no activations, so it does not say which rules were in use. `lapse capture` takes them "
            "along with `rules: topic`."
        )
    begun: dict[int, list[Activation]] = {}
    notes = []
    for partition in captures.partitions:
        of_partition = activations.setdefault(partition, [])
        if not of_partition or of_partition[0].previous is not None:
            row = rows.get(partition) or (_before(book, of_partition[0]) if of_partition else [])
            if not row:
                raise CaptureError(
                    f"The capture has no activation of partition {partition} from the beginning, and nothing that says "
                    "which rules were in force there."
                )
            begun[partition], note = _begun(captures, partition, row, of_partition)
            notes.append(note)
        for one in (*begun.get(partition, ()), *of_partition):
            if one.number not in book.entries:
                raise CaptureError(
                    f"Partition {partition} took entry {one.number} up, which the capture does not have."
                )
            why = book.refused.get(one.number)
            if why is not None:
                raise CaptureError(f"Revision {one.number} can't be used by this version: {why}")
    return History(book, activations, begun, tuple(notes))


def _before(book: Rulebook, first: Activation) -> list[Activation]:
    """Return what was in force before the first activation that is left, as far as it and the entries tell."""
    live = [entry for entry in book.live() if entry.number < first.number]
    stopped = first.stopped
    if first.kind in (EntryKind.STOP, EntryKind.RESUME, EntryKind.SHADOW_OFF):
        live = [entry for entry in live if entry.ruleset == first.ruleset]
    if first.kind in (EntryKind.STOP, EntryKind.RESUME):
        stops = Stops()
        for entry in book.after(0):
            if entry.number < first.number and entry.kind in (EntryKind.STOP, EntryKind.RESUME):
                stops = stops.after(entry)
        stopped = stops.shown
    if not live:
        return []
    entry = next((one for one in live if one.number == first.previous), live[-1])
    return [
        msgspec.structs.replace(
            first,
            number=entry.number,
            kind=EntryKind.LIVE,
            previous=None,
            ruleset=entry.ruleset or "",
            stopped=stopped,
            stream_time=0,
            late=False,
            author=entry.author,
            reason=entry.reason,
        )
    ]


def _begun(
    captures: Captures, partition: int, row: list[Activation], following: list[Activation]
) -> tuple[list[Activation], str]:
    """Return what was in force at the beginning, fitted to the first records of the partition, and a note on it."""
    heads = {topic: next(captures.read(partition, topic), None) for topic in Topic}
    earliest = min(head.timestamp for head in heads.values() if head is not None) * MILLISECOND
    since = row[0].stream_time
    note = (
        f"partition {partition}: revision {row[0].number} was in force at the beginning; its activation is no longer "
        "in the feed. Records and commands are the same byte for byte only with all records."
    )
    if since > earliest:
        note += (
            f" It was taken up at {instants.text(since)}, after the first record of the capture: what came before was "
            "decided by older rules."
        )
    return [
        msgspec.structs.replace(
            one,
            stream_time=min(since, earliest),
            offsets=tuple((topic.value, 0 if head is None else head.offset) for topic, head in heads.items()),
            act_from=following[0].act_from if following else one.act_from,
        )
        for one in row
    ], note


def _activation(value: bytes) -> Activation:
    try:
        found = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CaptureError(f"An activation can't be read: {error}") from None
    return Activation(
        partition=found.partition,
        partitions=found.partitions,
        number=found.number,
        kind=EntryKind(found.kind),
        previous=found.previous,
        ruleset=found.ruleset,
        stopped=tuple(found.stopped) if isinstance(found.stopped, list) else found.stopped,
        stream_time=found.stream_time_us,
        offsets=((Topic.TICKETS.value, found.offsets.tickets), (Topic.SESSIONS.value, found.offsets.sessions)),
        late=found.late,
        act_from=None if found.act_from is None else instants.read(found.act_from),
        author=found.author,
        reason=found.reason,
    )


class _Reader:
    """The records of one topic-partition in offset order, up to one offset after the other."""

    def __init__(self, records: Iterator[CapturedRecord]) -> None:
        self._records = records
        self._next: CapturedRecord | None = next(records, None)

    def before(self, offset: int | None) -> Iterator[CapturedRecord]:
        while self._next is not None and (offset is None or self._next.offset < offset):
            record, self._next = self._next, next(self._records, None)
            yield record


def run_as_it_was(
    captures: Captures, pipeline: Pipeline, history: History, *, now: Micros, last: int | None
) -> Iterator[Batch]:
    """Run the pipeline's partition of a capture with the rules that it had in use.

    `now` is the wall clock used to detect `bad_timestamp`; rounds that are due by `last` (milliseconds) run at the end.
    """
    number = pipeline.partition.number
    readers = {topic: _Reader(captures.read(number, topic)) for topic in Topic}
    for activation in history.begun.get(number, ()):
        pipeline.replay(history.book, activation)
        for batch in settled(pipeline):
            batch.records.clear()  # the feed has no activation here
            yield batch
    for activation in history.activations[number]:
        yield from _take(pipeline, readers, dict(activation.offsets), now)
        yield from _reach(pipeline, activation)
        pipeline.replay(history.book, activation)
        yield from settled(pipeline)
    yield from _take(pipeline, readers, {}, now)
    if last is not None:
        pipeline.advance(last * MILLISECOND)
        yield from settled(pipeline)


def _reach(pipeline: Pipeline, activation: Activation) -> Iterator[Batch]:
    """Let stream time come to where it was. A timer of a revision comes before all else due at its instant."""
    was_a_timer = activation.kind is EntryKind.LIVE and not activation.late and activation.previous is not None
    pipeline.advance(activation.stream_time - (1 if was_a_timer else 0))
    yield from settled(pipeline)


def _take(pipeline: Pipeline, readers: dict[Topic, _Reader], offsets: dict[str, int], now: Micros) -> Iterator[Batch]:
    """Take the records before these offsets, in merged order."""
    return take(pipeline, {topic: reader.before(offsets.get(topic.value)) for topic, reader in readers.items()}, now)
