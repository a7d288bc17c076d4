"""What the tests of a trigger file cover: which triggers fired or did not, and which conditions held or did not.

A condition counts with its value when its trigger fired, or otherwise when it was last evaluated in the round. A
condition that holds in every round (the session has become inactive) can't be tested as false, so that is not required.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from streams.core.trace import TriggerTrace
from streams.core.triggers import Condition, Trigger
from streams.documents import durations
from streams.documents.yaml_nodes import At
from streams.rules.inline_tests import TestRun
from streams.rules.lints.asks import always_holds
from streams.rules.triggers import TriggerFile
from streams.rules.wording import condition_text


class ConditionCoverage(msgspec.Struct):
    """How often tests found one condition true, and how often false."""

    condition: Condition
    place: At
    side: str
    """`all` or `any`."""
    held: int = 0
    failed: int = 0

    @property
    def always(self) -> bool:
        """Whether it holds in every round."""
        return always_holds(self.condition)

    @property
    def missing(self) -> list[str]:
        """The results that no test produced: `true`, `false`."""
        return [
            outcome
            for outcome, times in (("true", self.held), ("false", self.failed))
            if not times and not (outcome == "false" and self.always)
        ]


class TriggerCoverage(msgspec.Struct):
    """How often tests made one trigger fire, and how often it was evaluated without firing."""

    trigger: Trigger
    place: At
    conditions: list[ConditionCoverage]
    fired: int = 0
    quiet: int = 0

    @property
    def asked(self) -> bool:
        """Whether any test evaluated it."""
        return bool(self.fired or self.quiet)

    @property
    def counts(self) -> bool:
        """Whether it needs to be covered: it is active, or some test evaluated it anyway."""
        return self.trigger.active or self.asked

    @property
    def can_be_quiet(self) -> bool:
        """Whether it can be evaluated in a round without firing."""
        every, some = self.trigger.all, self.trigger.any
        return not all(map(always_holds, every)) or (bool(some) and not any(map(always_holds, some)))

    def missing(self) -> Iterator[tuple[At, str]]:
        """Yield the results that no test produced for the trigger or a condition, with their position."""
        name = f"`{self.trigger.id[:60]}`"
        if not self.asked:
            wait = durations.render(self.trigger.wait)
            yield self.place, f"no test asks {name}: its round is the one with `after: {wait}`"
            return
        if not self.fired:
            yield self.place, f"no test makes {name} fire"
        if not self.quiet and self.can_be_quiet:
            yield self.place, f"no test shows {name} not firing"
        for one in self.conditions:
            for outcome in one.missing:
                yield one.place, f"no test makes `{condition_text(one.condition)}` of {name} {outcome}"


class Coverage(msgspec.Struct):
    """What the tests of one file cover."""

    file: str
    tests: int
    triggers: list[TriggerCoverage]

    @property
    def seen(self) -> int:
        """The number of outcomes of triggers and conditions that some test produced."""
        return self.total - sum(_gaps(one) for one in self._counted())

    @property
    def total(self) -> int:
        """The number of possible outcomes."""
        return sum(
            1 + one.can_be_quiet + sum(2 - condition.always for condition in one.conditions) for one in self._counted()
        )

    def _counted(self) -> Iterator[TriggerCoverage]:
        return (one for one in self.triggers if one.counts)

    def lines(self) -> Iterator[str]:
        """Yield a line for each gap, then the summary lines."""
        for one in self._counted():
            for place, gap in one.missing():
                yield f"{self.file}:{place.line}:{place.column}: untested: {gap}"
        idle = [f"`{one.trigger.id[:60]}`" for one in self.triggers if not one.counts]
        if idle:
            shown = ", ".join(idle[:5]) + (f" and {len(idle) - 5} more" if len(idle) > 5 else "")
            yield f"{self.file}: not active, and tried out by no test (`given: {{active: [...]}}`): {shown}"
        share = f" ({self.seen / self.total:.0%})" if self.total else ""
        tests = f"{self.tests} test{'' if self.tests == 1 else 's'}"
        yield (
            f"{self.file}: {tests} saw {self.seen} of {self.total} outcomes{share}: every trigger fire and not, "
            "every condition true and false"
        )

    def json(self) -> dict[str, Any]:
        """Return the same information as one JSON object."""
        return {
            "file": self.file,
            "tests": self.tests,
            "seen": self.seen,
            "total": self.total,
            "triggers": [
                {
                    "id": one.trigger.id,
                    "line": one.place.line,
                    "active": one.trigger.active,
                    "fired": one.fired,
                    "not_fired": one.quiet,
                    "conditions": [
                        {
                            "side": condition.side,
                            "line": condition.place.line,
                            "column": condition.place.column,
                            "condition": condition_text(condition.condition),
                            "true": condition.held,
                            "false": condition.failed,
                            "always_true": condition.always,
                        }
                        for condition in one.conditions
                    ],
                }
                for one in self.triggers
            ],
        }


def _gaps(one: TriggerCoverage) -> int:
    return (
        (not one.fired)
        + (one.can_be_quiet and not one.quiet)
        + sum(len(condition.missing) for condition in one.conditions)
    )


def cover(file: TriggerFile, runs: Iterable[TestRun]) -> Coverage | None:
    """Return what `runs` of the tests of a file covered; None when the file has errors."""
    if file.ruleset is None:
        return None
    found = {trigger.id: _untried(trigger, file) for trigger in file.ruleset.triggers}
    tests = 0
    for run in runs:
        tests += 1
        seen = run.trace()
        if seen is None:
            continue
        for trace in seen.fired:
            found[trace.trigger.id].fired += 1
            _count(found[trace.trigger.id], trace)
        for trace in seen.not_fired:
            found[trace.trigger.id].quiet += 1
            _count(found[trace.trigger.id], trace)
    in_file_order = sorted(found.values(), key=lambda one: (one.place.line, one.place.column))
    return Coverage(file.file, tests, in_file_order)


def _untried(trigger: Trigger, file: TriggerFile) -> TriggerCoverage:
    sides = zip(("all", "any"), (trigger.all, trigger.any), file.condition_places[trigger.id], strict=True)
    conditions = [
        ConditionCoverage(condition, place, side)
        for side, asked, places in sides
        for condition, place in zip(asked, places, strict=True)
    ]
    return TriggerCoverage(trigger, file.places[trigger.id], conditions)


def _count(one: TriggerCoverage, trace: TriggerTrace) -> None:
    for condition, asked in zip(one.conditions, (*trace.all, *trace.any), strict=True):
        if asked.holds:
            condition.held += 1
        else:
            condition.failed += 1
