"""Advice on triggers that can be read: what will probably not do what its author wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from streams.core.triggers import Condition, Cycle, Operator, Trigger
from streams.documents import durations
from streams.documents.problems import Findings, Place, listed
from streams.rules.lints.asks import read_field
from streams.rules.lints.chains import Chain, find_chains
from streams.rules.lints.demands import CHANGED, clash, values_of
from streams.rules.lints.overlaps import TAGS, Overlap, find_overlaps, in_firing_order, later_rounds_cancelled
from streams.rules.lints.useless import Useless, Why, find_useless
from streams.rules.lints.writers import Writers
from streams.rules.wording import condition_text

MAX_OVERLAPS = 100
"""The maximum number of overlaps listed one by one; a file with more follows a pattern and not a series of mistakes."""

Places = Mapping[str, Place]


def advise(
    triggers: Sequence[Trigger],
    cycle: Cycle,
    places: Places,
    file_place: Place,
    findings: Findings,
    *,
    whole: bool = True,
) -> None:
    """Add warnings to `findings`; `places` has the position of each trigger, `file_place` the position of their list.

    `whole`: whether `triggers` are all triggers of the file. When some could not be read, advice that depends on the
    absence of other triggers is left out.
    """
    if not findings.has_errors and not any(trigger.active for trigger in triggers):
        findings.add(file_place, "no_active_trigger", "no trigger is active: nothing would ever be commanded")
    in_order = in_firing_order(triggers)
    writers = Writers(in_order, cycle) if whole else None
    possible: list[Trigger] = []
    for trigger in in_order:
        why = _unreachable(trigger, writers)
        if why is not None:
            findings.add(places[trigger.id], "unreachable", f"`{_id(trigger)}` can never fire: {why}")
        elif trigger.active:
            possible.append(trigger)
            if writers is not None:
                _advise_dependence(trigger, writers, places, findings)
    _advise_open(triggers, places, findings)
    _advise_waits(possible, places, findings)
    _advise_chains(possible, cycle, places, file_place, findings)
    useless = {
        name: one
        for name, one in _find_useless(possible, cycle, file_place, findings).items()
        if whole or one.why is Why.DUPLICATE
    }
    told = _advise_overlaps(triggers, useless, places, file_place, findings)
    for one in useless.values():
        if one.why is not Why.SHADOWED or (one.by.id, one.trigger.id) not in told:
            _advise_useless(one, places, findings)


# --- triggers that can never fire, or only after another --------------------------------------------------------------


def _unreachable(trigger: Trigger, writers: Writers | None) -> str | None:
    """Return why a trigger can never fire; None when it may. Without `writers`, others may write anything."""
    may_be_closed = writers is None or writers.may_close(trigger)

    def why_not(conditions: Iterable[Condition]) -> str | None:
        for condition in conditions:
            if writers and condition.operator in CHANGED and writers.needed_by(condition, trigger) == []:
                return _never_changes(condition)
        return clash(conditions, may_be_closed=may_be_closed)

    why = why_not(trigger.all)
    if why is not None or not trigger.any:
        return why
    reasons = [why_not((*trigger.all, condition)) for condition in trigger.any]
    if all(reasons):
        return reasons[0] if len(reasons) == 1 else f"none of its `any` conditions can hold; the first: {reasons[0]}"
    return None


def _never_changes(condition: Condition) -> str:
    what = "none writes it"
    if condition.operator is Operator.VALUE:
        what = f"none sets it to {' or '.join(f'`{value}`' for value in sorted(map(str, values_of(condition))))}"
    return (
        f"within a round `{condition.field}` changes only by an action of another trigger with the same `wait`, "
        f"and {what}"
    )


def _advise_dependence(trigger: Trigger, writers: Writers, places: Places, findings: Findings) -> None:
    """Warn of a trigger that matches no ticket until another trigger has fired."""
    for condition in trigger.all:
        needed = writers.needed_by(condition, trigger)
        if needed:
            findings.add(places[trigger.id], "depends_on_trigger", _dependence(trigger, [condition], needed, places))
            return
    by_condition = [writers.needed_by(condition, trigger) for condition in trigger.any]
    if by_condition and all(needed is not None for needed in by_condition):
        needed = [writer for writers_of_one in by_condition for writer in writers_of_one or ()]
        message = _dependence(trigger, trigger.any, needed, places)
        findings.add(places[trigger.id], "depends_on_trigger", message)


def _dependence(trigger: Trigger, conditions: Sequence[Condition], needed: Sequence[Trigger], places: Places) -> str:
    names = dict.fromkeys(_named(writer, places) for writer in needed)
    also = " or another" if len(names) > 1 else ""
    asked = " or ".join(f"`{condition_text(condition)}`" for condition in conditions)
    which = f"{next(iter(names))}{also}"
    now = ""
    if conditions[0].operator is Operator.VALUE:
        now = ", and `is` asks for the value that the ticket has"
    return (
        f"`{_id(trigger)}` can match only after {which} has fired in the same round: {asked} speaks of what triggers "
        f"did to the ticket in this round, not of earlier updates{now}"
    )


# --- traps ------------------------------------------------------------------------------------------------------------


def _advise_open(triggers: Iterable[Trigger], places: Places, findings: Findings) -> None:
    """Warn of conditions that use Open to mean *not yet solved*, each one, so that a comment can allow one of them."""
    for trigger in triggers:
        if _wants_open_without_new(trigger):
            message = (
                f"`{_id(trigger)}` asks for status `open`, which leaves out tickets that no agent has taken yet "
                "(`new`); to include them, write `value: [new, open]`"
            )
            findings.add(places[trigger.id], "open_is_not_new", message)


def _wants_open_without_new(trigger: Trigger) -> bool:
    conditions = (*trigger.all, *trigger.any) if len(trigger.any) == 1 else trigger.all
    return any(
        condition.field == "status" and condition.operator is Operator.IS and values_of(condition) == {"open"}
        for condition in conditions
    )


def _advise_waits(triggers: Sequence[Trigger], places: Places, findings: Findings) -> None:
    """Warn of triggers that end the session and so cancel other triggers of the file with a longer wait."""
    for trigger, later in later_rounds_cancelled(triggers):
        shown = [f"{_named(one, places)[:-1]}, `wait: {durations.render(one.wait)}`)" for one in later[:3]]
        more = f" and {len(later) - 3} more" if len(later) > 3 else ""
        message = (
            f"`{_id(trigger)}` ends the messaging session, which cancels the rounds that still wait: once it has "
            f"fired, {', '.join(shown)}{more} will not be asked"
        )
        findings.add(places[trigger.id], "cancels_waits", message)


def _advise_chains(
    triggers: Sequence[Trigger], cycle: Cycle, places: Places, file_place: Place, findings: Findings
) -> None:
    """Warn of triggers that fire in the same round although they seem to be meant for two rounds."""
    for chain in find_chains(triggers, cycle):
        if chain is None:
            message = "there are too many triggers alike to look for all that make another one fire"
            findings.add(file_place, "not_all_compared", message)
        else:
            findings.add(places[chain.then.id], "chained", _chain_message(chain, places))


def _chain_message(chain: Chain, places: Places) -> str:
    condition, then = chain.condition, _id(chain.then)
    if read_field(condition) == TAGS:
        wrote = f"adds the tag `{chain.wrote}`"
        advice = f"put `{then}` above it and write `cycle: single_pass`, and it fires at the next lapse"
    else:
        wrote = f"sets `{condition.field}` to {'no value' if chain.wrote is None else f'`{chain.wrote}`'}"
        not_changed = f"`{{field: {condition.field}, operator: not_changed}}`"
        advice = f"if it is meant for tickets that were so before, add {not_changed}"
    return (
        f"`{then}` fires right after {_named(chain.first, places)}, in the same round: that one {wrote}, after which "
        f"`{condition_text(condition)}` holds; {advice}"
    )


# --- triggers that interfere with each other --------------------------------------------------------------------------


def _find_useless(
    possible: Sequence[Trigger], cycle: Cycle, file_place: Place, findings: Findings
) -> dict[str, Useless]:
    useless: dict[str, Useless] = {}
    for one in find_useless(possible, cycle):
        if one is None:
            findings.add(
                file_place, "not_all_compared", "there are too many triggers alike to look for all that are useless"
            )
        else:
            useless[one.trigger.id] = one
    return useless


def _advise_useless(one: Useless, places: Places, findings: Findings) -> None:
    trigger, by = f"`{_id(one.trigger)}`", _named(one.by, places)
    code, message = {
        Why.DUPLICATE: ("duplicate_trigger", f"{trigger} asks and does the same as {by}"),
        Why.SHADOWED: (
            "shadowed",
            f"{trigger} never fires: wherever it could, {by} fires first and leaves `{one.field}` as {trigger} does "
            "not match it",
        ),
        Why.REDUNDANT: (
            "redundant",
            f"{trigger} never changes anything: wherever it could fire, {by} has fired before it and done the same",
        ),
        Why.OVERWRITTEN: (
            "overwritten",
            f"{trigger} never has an effect: whenever it fires, {by} fires after it and writes all that it writes",
        ),
    }[one.why]
    findings.add(places[one.trigger.id], code, message)


def _advise_overlaps(
    triggers: Sequence[Trigger],
    useless: Mapping[str, Useless],
    places: Places,
    file_place: Place,
    findings: Findings,
) -> set[tuple[str, str]]:
    """Warn of overlaps; return the pairs that were reported."""
    told: set[tuple[str, str]] = set()
    for overlap in find_overlaps(triggers):
        if overlap is None or len(told) >= MAX_OVERLAPS:
            message = f"there are, or may be, more overlaps than the {len(told)} that are listed"
            findings.add(file_place, "unlisted_overlaps", message)
            break
        told.add((overlap.first.id, overlap.later.id))
        shadow = useless.get(overlap.later.id)
        never = shadow is not None and shadow.why is Why.SHADOWED and shadow.by is overlap.first
        message = _overlap_message(overlap, places, never_fires=never)
        findings.add(places[overlap.later.id], "overlap", message)
    return told


def _overlap_message(overlap: Overlap, places: Places, *, never_fires: bool) -> str:
    first, later = overlap.first, overlap.later
    outcome = (
        f"`{_id(later)}` comes later and wins"
        if overlap.later_still_matches
        else f"`{_id(first)}` comes first, after which `{_id(later)}` no longer matches"
    )
    return (
        f"one lapse can match both `{_id(later)}` and {_named(first, places)}, "
        f"which both write {listed(overlap.fields)}: {outcome}{': it never fires' if never_fires else ''}"
    )


def _id(trigger: Trigger) -> str:
    return trigger.id[:60]


def _named(trigger: Trigger, places: Places) -> str:
    off = "" if trigger.active else ", not active"
    return f"`{_id(trigger)}` (line {places[trigger.id].line}{off})"
