"""Advice on triggers that can be read: what will probably not do what its writer wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from streams.config.demands import CHANGED, clash, values_of
from streams.config.overlaps import Overlap, find_overlaps, written_fields
from streams.config.problems import Findings, Place
from streams.core.normal import SESSION_FIELDS
from streams.core.triggers import Condition, Operator, Trigger

MAX_OVERLAPS = 100
"""Overlaps listed one by one; a file with more has one habit, not a hundred slips."""


Writers: TypeAlias = Mapping[tuple[int, str], set[str]]
"""By wait and field, the ids of triggers that write it."""


def advise(triggers: Sequence[Trigger], places: Mapping[str, Place], file_place: Place, findings: Findings) -> None:
    """Add warnings to `findings`; `places` tells where each trigger stands, `file_place` where their list does."""
    if not any(trigger.active for trigger in triggers):
        findings.add(file_place, "no_active_trigger", "no trigger is active: nothing would ever be commanded")
    writers = _writers(triggers)
    for trigger in triggers:
        why = _unreachable(trigger, writers)
        if why is not None:
            findings.add(places[trigger.id], "unreachable", f"`{trigger.id[:60]}` can never fire: {why}")
    _advise_open(triggers, places, findings)
    _advise_overlaps(triggers, places, file_place, findings)


def _writers(triggers: Iterable[Trigger]) -> Writers:
    """Return which triggers write a field in the rounds of a wait; a set of two says *several*, whoever they are."""
    writers: dict[tuple[int, str], set[str]] = {}
    for trigger in triggers:
        for field in written_fields(trigger):
            ids = writers.setdefault((trigger.wait, field), set())
            if len(ids) < 2:
                ids.add(trigger.id)
    return writers


def _unreachable(trigger: Trigger, writers: Writers) -> str | None:
    """Return why a trigger can never fire, None when it may."""

    def why_not(conditions: Iterable[Condition]) -> str | None:
        for condition in conditions:
            why = _never_changes(condition, trigger, writers)
            if why is not None:
                return why
        return clash(conditions, status_is_written=_others_write(trigger, "status", writers))

    why = why_not(trigger.all)
    if why is not None or not trigger.any:
        return why
    reasons = [why_not((*trigger.all, condition)) for condition in trigger.any]
    if all(reasons):
        return reasons[0] if len(reasons) == 1 else f"none of its `any` conditions can hold; the first: {reasons[0]}"
    return None


def _never_changes(condition: Condition, trigger: Trigger, writers: Writers) -> str | None:
    """Return why a ticket's field can't have changed: in a round only other triggers' actions change the ticket."""
    if condition.operator not in CHANGED or condition.field in SESSION_FIELDS:
        return None
    if _others_write(trigger, condition.field, writers):
        return None
    return (
        f"within a round `{condition.field}` changes only by an action of another trigger with the same `wait`, "
        "and none writes it"
    )


def _others_write(trigger: Trigger, field: str, writers: Writers) -> bool:
    return bool(writers.get((trigger.wait, field), set()) - {trigger.id})


def _advise_open(triggers: Iterable[Trigger], places: Mapping[str, Place], findings: Findings) -> None:
    """Warn once of conditions that take Open for *not yet solved*."""
    found = [trigger for trigger in triggers if _wants_open_without_new(trigger)]
    if not found:
        return
    first, others = found[0], len(found) - 1
    also = f"; so does {others} other" if others == 1 else f"; so do {others} others" if others else ""
    message = (
        f"`{first.id[:60]}` asks for status `open`, which leaves out tickets that no agent has taken yet (`new`); "
        f"to include them, write `value: [new, open]`{also}"
    )
    findings.add(places[first.id], "open_is_not_new", message)


def _wants_open_without_new(trigger: Trigger) -> bool:
    conditions = (*trigger.all, *trigger.any) if len(trigger.any) == 1 else trigger.all
    return any(
        condition.field == "status" and condition.operator is Operator.IS and values_of(condition) == {"open"}
        for condition in conditions
    )


def _advise_overlaps(
    triggers: Sequence[Trigger], places: Mapping[str, Place], file_place: Place, findings: Findings
) -> None:
    listed = 0
    for overlap in find_overlaps(triggers):
        if overlap is None or listed >= MAX_OVERLAPS:
            message = f"there are, or may be, more overlaps than the {listed} that are listed"
            findings.add(file_place, "unlisted_overlaps", message)
            return
        listed += 1
        findings.add(places[overlap.later.id], "overlap", _overlap_message(overlap, places))


def _overlap_message(overlap: Overlap, places: Mapping[str, Place]) -> str:
    first, later = overlap.first, overlap.later
    fields = ", ".join(f"`{field}`" for field in overlap.fields)
    outcome = (
        f"`{later.id[:60]}` comes later and wins"
        if overlap.later_still_matches
        else f"`{first.id[:60]}` comes first, after which `{later.id[:60]}` no longer matches"
    )
    return (
        f"one lapse can match both `{later.id[:60]}` and `{first.id[:60]}` (line {places[first.id].line}), "
        f"which both write {fields}: {outcome}"
    )
