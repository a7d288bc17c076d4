"""What a partition has in use of the rulebook, and what it takes up next: SPEC section 10, *Taking a live revision up*.

It knows stream time and nothing of records: the partition asks between two records, and at the timers that it is given.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from streams.core.cycle import Rules
from streams.core.model import Micros
from streams.core.revisions import Entry, EntryKind, InUse, Rulebook, Stops
from streams.core.shadow import Candidate

NOTHING_EFFECTIVE = "the rules topic has no live revision yet that is effective and that this version can compile"


def unusable(book: Rulebook, row: InUse) -> str | None:
    """Return why a rulebook does not have what a partition's row says it uses; None when it has it."""
    for number, digest in ((row.revision, row.ruleset), (row.shadow, row.shadow_ruleset)):
        if number is None:
            continue
        ruleset = book.ruleset(number)
        if ruleset is None:
            why = book.refused.get(number, "it is not in the rules topic")
            return f"revision {number}, which it has in use, can't be used: {why}"
        if ruleset.digest != digest:
            return (
                f"revision {number}, which it has in use, has the digest {digest}, but in the rules topic it is "
                f"{ruleset.digest}"
            )
    return None


def successor(book: Rulebook, row: InUse, clock: Micros) -> Entry | None:
    """Return what takes the place of a revision that is gone from the rules topic: the newest one after it.

    It must have been published since, as `lapse rules publish --continue` does, and be effective by the clock. An older
    revision never takes its place, nor does any that of a revision that is there and can't be used.
    """
    if row.revision in book.entries:
        return None
    return book.newest(clock, max(row.revision, row.activation))


def without_a_lost_shadow(book: Rulebook, row: InUse) -> InUse:
    """Return a row without its shadow, when that is gone from the rules topic and its end or another one is there."""
    if row.shadow is None or row.shadow in book.entries:
        return row
    kinds = (EntryKind.SHADOW, EntryKind.SHADOW_OFF)
    if not any(entry.kind in kinds for entry in book.after(row.entry)):
        return row
    return msgspec.structs.replace(row, shadow=None, shadow_ruleset=None)


class RulesInUse:
    """The rules in use of one partition."""

    def __init__(
        self, book: Rulebook, row: InUse, first: Entry | None = None, looked_at: int = 0, *, late: bool = False
    ) -> None:
        """Go on with what the partition's row says. `first` is to be taken up before all else, and marked `late`."""
        self.row = row
        self._book = book
        self._first = first
        self._first_is_late = late
        self._looked_at = looked_at
        """The number up to which timers were given."""

    @classmethod
    def at_first(cls, book: Rulebook, clock: Micros) -> RulesInUse | None:
        """Begin in a partition that has never had rules; None when no live revision is effective by the clock."""
        first = book.newest(clock)
        return None if first is None else cls(book, _nothing(book.stops(), book.last), first)

    @classmethod
    def of_the_past(cls, book: Rulebook, stops: Stops) -> RulesInUse:
        """Begin a replay, in which the caller says what is taken up and when."""
        return cls(book, _nothing(stops, 0), looked_at=book.last)

    @property
    def has_news(self) -> bool:
        """Whether the rulebook has something that was not looked at."""
        return self._looked_at != self._book.last

    @property
    def rules(self) -> Rules:
        """Return the live rules, in which stopped triggers are inactive."""
        return self._book.rules(self.row.revision, self.row.stops)

    @property
    def candidate(self) -> Candidate | None:
        """Return the shadow, in which stopped triggers are inactive too."""
        shadow = self.row.shadow
        return None if shadow is None else Candidate(shadow, self._book.rules(shadow, self.row.stops))

    def news(self, stream_time: Micros) -> Iterator[tuple[Entry, bool]]:
        """Yield what is to be taken up at once, and whether it is late; the caller takes each up before the next."""
        book = self._book
        if self._first is not None:
            first, self._first = self._first, None
            yield first, self._first_is_late
            shadow = book.shadow()
            if shadow is not None and shadow <= self.row.entry and shadow != self.row.shadow:
                yield book.entries[shadow], False
        for entry in book.after(self.row.entry):
            if entry.kind is not EntryKind.LIVE:
                yield entry, False
        newest = self.due(stream_time)
        if newest is not None:
            yield newest, True

    def timers(self, stream_time: Micros) -> list[Micros]:
        """Return when revisions become effective that were not looked at before."""
        coming = [entry.effective_from or 0 for entry in self._book.live(max(self._looked_at, self.row.revision))]
        self._looked_at = self._book.last
        return [at for at in coming if at > stream_time]

    def due(self, stream_time: Micros) -> Entry | None:
        """Return the newest live revision that stream time has reached, if it is newer than the one in use."""
        return self._book.newest(stream_time, self.row.revision)

    def take_up(self, entry: Entry, stream_time: Micros) -> bool:
        """Put an entry in force from here on. Return False for a shadow that can't be used: it changes nothing."""
        row = self.row
        changes: dict[str, object] = {"activation": entry.number}
        if entry.kind is EntryKind.LIVE:
            changes |= {
                "revision": entry.number,
                "ruleset": entry.ruleset,
                "since": stream_time,
                "author": entry.author,
                "reason": entry.reason,
            }
        else:
            changes["entry"] = max(row.entry, entry.number)
        if entry.kind in (EntryKind.STOP, EntryKind.RESUME):
            changes["stops"] = row.stops.after(entry)
        elif entry.kind is EntryKind.SHADOW:
            if self._book.ruleset(entry.number) is None:
                self.row = msgspec.structs.replace(row, entry=entry.number)
                return False
            changes |= {"shadow": entry.number, "shadow_ruleset": entry.ruleset}
        elif entry.kind is EntryKind.SHADOW_OFF:
            changes |= {"shadow": None, "shadow_ruleset": None}
        self.row = msgspec.structs.replace(row, **changes)
        return True


def _nothing(stops: Stops, entry: int) -> InUse:
    """Return the row of a partition that has taken nothing up yet."""
    return InUse(revision=0, ruleset="", entry=entry, stops=stops, activation=0, since=0)
