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
from streams.core.revisions import Activation, Compile, EntryKind, Rulebook
from streams.offline.captures import CaptureError, Captures
from streams.offline.run import settled, take
from streams.wire import instants
from streams.wire.capture import ACTIVATIONS, RULES, CapturedRecord
from streams.wire.rule_entries import BadEntryError, decode_entry
from streams.wire.shapes import ActivationRecord

_decode = msgspec.json.Decoder(ActivationRecord).decode


class History(msgspec.Struct, frozen=True):
    """The revisions of a capture, and what each partition took up, in order."""

    book: Rulebook
    activations: dict[int, list[Activation]]

    @property
    def trigger_ids(self) -> list[str]:
        """Return the ids of the triggers of every revision that was live."""
        live = [self.book.ruleset(entry.number) for entry in self.book.live()]
        return list(dict.fromkeys(one.id for ruleset in live if ruleset is not None for one in ruleset.triggers))


def history_of(captures: Captures, compile: Compile) -> History:
    """Read the rules lines of a capture. Raises `CaptureError` when it can't tell which rules were in use."""
    book = Rulebook(compile)
    activations: dict[int, list[Activation]] = {}
    for line in sorted(captures.rules, key=lambda line: (line.topic, line.partition, line.offset)):
        if line.topic == RULES:
            try:
                book.add(decode_entry(line.key, line.value))
            except BadEntryError:
                book.ignored += 1
        elif line.topic == ACTIVATIONS:
            activations.setdefault(line.partition, []).append(_activation(line.value or b""))
    if not activations:
        raise CaptureError(
            "The capture has no activations, so it does not say which rules were in use. `lapse capture` takes them "
            "along with `rules: topic`."
        )
    for partition in captures.partitions:
        of_partition = activations.get(partition)
        if not of_partition:
            raise CaptureError(f"The capture has no activation of partition {partition}.")
        if of_partition[0].previous is not None:
            raise CaptureError(
                f"The first activation of partition {partition} in the capture is not its first one: `--as-it-was` "
                "needs a capture from the first record."
            )
        for one in of_partition:
            if one.number not in book.entries:
                raise CaptureError(
                    f"Partition {partition} took entry {one.number} up, which the capture does not have."
                )
            why = book.refused.get(one.number)
            if why is not None:
                raise CaptureError(f"Revision {one.number} can't be used by this version: {why}")
    return History(book, activations)


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
