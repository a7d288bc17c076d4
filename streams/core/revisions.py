"""Revisions of the rules, and which of them a partition has in use: SPEC section 10.

The entries of the rules topic are published once for all partitions. Each partition takes them up by itself, at a point
of its own stream time, and keeps what it has taken up in a row of its own. So a restart, a rebalance or another worker
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Literal

import msgspec

from streams.core.cycle import Rules
from streams.core.model import Micros
from streams.core.tables import OWN
from streams.core.triggers import Ruleset

RULES_KEY = OWN + b"rules"
"""The key of the row that holds what a partition has in use."""

Triggers = tuple[str, ...] | Literal["all"]


class EntryKind(StrEnum):
    """What an entry of the rules topic says."""

    LIVE = "live"
    SHADOW = "shadow"
    SHADOW_OFF = "shadow_off"
    STOP = "stop"
    RESUME = "resume"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the rules topic. What its kind does not have is None."""

    number: int
    kind: EntryKind
    published_at: Micros
    author: str | None = None
    reason: str | None = None
    ruleset: str | None = None
    """Digest of the rules in `source`."""
    source: str | None = None
    """Text of the trigger file."""
    based_on: int | None = None
    effective_from: Micros | None = None
    triggers: Triggers | None = None


class Stops(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is stopped: everything, or some triggers. A stop holds over every revision until it is resumed."""

    everything: bool = False
    ids: tuple[str, ...] = ()

    def after(self, entry: Entry) -> Stops:
        """Return what is stopped after a stop or a resume; resuming everything resumes each trigger too."""
        named = entry.triggers or ()
        if named == "all":
            return Stops(everything=True, ids=self.ids) if entry.kind is EntryKind.STOP else Stops()
        if entry.kind is EntryKind.STOP:
            return Stops(self.everything, tuple(sorted({*self.ids, *named})))
        return Stops(self.everything, tuple(one for one in self.ids if one not in named))

    @property
    def shown(self) -> Triggers:
        """Return it as records show it."""
        return "all" if self.everything else self.ids


class InUse(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a partition has taken up; its row in the sessions changelog."""

    revision: int
    """Number of the live revision."""
    ruleset: str
    """Its digest, so that a topic that was made anew is noticed."""
    entry: int
    """The highest number among the stops, resumes and shadows that were looked at."""
    stops: Stops
    activation: int
    """Number of the entry that was taken up last."""
    since: Micros
    """Stream time at which the live revision was taken up."""
    author: str | None = None
    reason: str | None = None
    shadow: int | None = None
    shadow_ruleset: str | None = None


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """An entry was taken up by a partition."""

    partition: int
    partitions: int
    number: int
    kind: EntryKind
    previous: int | None
    """The entry that was taken up before it."""
    ruleset: str
    """Digest of the live rules in use from here on; for a shadow, that of the candidate."""
    stopped: Triggers
    stream_time: Micros
    offsets: tuple[tuple[str, int], ...]
    """By the default name of the input, the next record to be taken."""
    late: bool
    act_from: Micros | None
    author: str | None
    reason: str | None


class UnusableRevisionError(Exception):
    """This version can't compile a revision; the text says why."""


Compile = Callable[[str], Ruleset]
"""Makes a ruleset from the text of a trigger file. Raises `UnusableRevisionError`."""

Compiled = tuple[Ruleset, Rules] | str
"""The rules of a revision, or why this version can't compile them."""

_COMPILED_KEPT = 16


class Rulebook:
    """All entries of the rules topic that were read so far, with the rules of each revision compiled."""

    def __init__(self, compile: Compile) -> None:
        """Start without entries."""
        self._compile = compile
        self.entries: dict[int, Entry] = {}
        self.last = 0
        """The highest number, which grows with every entry; 0 when there are none."""
        self.ignored = 0
        """How many entries were ignored: a number out of turn, or a digest that is not the source's."""
        self.refused: dict[int, str] = {}
        """Revisions that can't be used, and why: this version can't compile them, or their digest is wrong."""
        self.disowned: set[int] = set()
        """Those of them with a wrong digest: they are ignored."""
        self._rulesets: dict[int, Ruleset] = {}
        self._rules: dict[tuple[int, tuple[str, ...]], Rules] = {}

    def compiled(self, entry: Entry) -> Compiled | None:
        """Compile an entry's rules, if it has any. This changes nothing, so that it may run in another thread."""
        if entry.source is None:
            return None
        try:
            ruleset = self._compile(entry.source)
        except UnusableRevisionError as error:
            return str(error)
        return ruleset, Rules(ruleset, revision=entry.number)

    def add(self, entry: Entry, compiled: Compiled | None = None) -> str | None:
        """Add the next entry; return why it is ignored, if it is. `compiled` is what `compiled` has returned for it.

        The first entry may have any number: a topic that was made anew goes on after the highest one in use.
        """
        if self.entries and entry.number != self.last + 1:
            self.ignored += 1
            return f"its number is {entry.number}, and not {self.last + 1}"
        compiled = self.compiled(entry) if compiled is None else compiled
        if isinstance(compiled, str):
            self.refused[entry.number] = compiled
        elif compiled is not None:
            ruleset, rules = compiled
            if ruleset.digest != entry.ruleset:
                # Its number is used up: whoever published it goes on with the next one.
                self.ignored += 1
                why = f"its digest is {entry.ruleset}, and that of its source is {ruleset.digest}"
                self.refused[entry.number] = why
                self.disowned.add(entry.number)
                self._append(entry)
                return why
            self._rulesets[entry.number] = ruleset
            self._keep(entry.number, (), rules)
        self._append(entry)
        return None

    def _append(self, entry: Entry) -> None:
        self.entries[entry.number] = entry
        self.last = entry.number

    def ruleset(self, number: int) -> Ruleset | None:
        """Return the rules of a revision; None when it is not there or can't be compiled."""
        return self._rulesets.get(number)

    def rules(self, number: int, stops: Stops) -> Rules:
        """Return the compiled rules of a revision, in which stopped triggers are inactive."""
        key = (number, stops.ids)
        found = self._rules.get(key)
        if found is None:
            ruleset = self._rulesets[number]
            triggers = tuple(
                msgspec.structs.replace(trigger, active=trigger.active and trigger.id not in stops.ids)
                for trigger in ruleset.triggers
            )
            found = Rules(msgspec.structs.replace(ruleset, triggers=triggers), revision=number)
            self._keep(number, stops.ids, found)
        return found

    def _keep(self, number: int, stopped: tuple[str, ...], rules: Rules) -> None:
        if len(self._rules) >= _COMPILED_KEPT:
            self._rules.clear()
        self._rules[number, stopped] = rules

    def after(self, number: int) -> Iterator[Entry]:
        """Yield the entries after a number, in order."""
        for at in range(max(number + 1, min(self.entries, default=1)), self.last + 1):
            yield self.entries[at]

    def live(self, after: int = 0) -> Iterator[Entry]:
        """Yield the usable live revisions after a number, in order."""
        return (one for one in self.after(after) if one.kind is EntryKind.LIVE and one.number in self._rulesets)

    def newest(self, by: Micros, after: int = 0) -> Entry | None:
        """Return the newest usable live revision that is effective by an instant."""
        due = [one for one in self.live(after) if (one.effective_from or 0) <= by]
        return due[-1] if due else None

    def stops(self) -> Stops:
        """Return what is stopped after all entries."""
        stops = Stops()
        for entry in self.after(0):
            if entry.kind in (EntryKind.STOP, EntryKind.RESUME):
                stops = stops.after(entry)
        return stops

    def shadow(self) -> int | None:
        """Return the usable revision that is the shadow after all entries."""
        found = None
        for entry in self.after(0):
            if entry.kind is EntryKind.SHADOW and entry.number in self._rulesets:
                found = entry.number
            elif entry.kind is EntryKind.SHADOW_OFF:
                found = None
        return found
