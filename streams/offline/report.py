"""A backtest's findings as text and as JSON: counts, differences from other triggers, effects of waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from streams.core.model import Command, Micros, RoundOutcome
from streams.documents.durations import render
from streams.offline.backtest import Against, Report
from streams.offline.comparison import CommandChange, Lapsed, TriggerChange
from streams.offline.limits import LimitAdvice
from streams.offline.limits_report import limit_lines, limit_object
from streams.offline.waits import ENOUGH, Suggestion
from streams.offline.words import acts, counted
from streams.wire import encode, instants


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """All findings of a backtest."""

    report: Report
    ruleset: str
    broken_lines: int
    against: Against | None = None
    old_ruleset: str | None = None
    suggestion: Suggestion | None = None
    limits: LimitAdvice | None = None


def as_text(findings: Findings, *, with_advice: bool) -> Iterator[str]:
    """Yield the findings as lines of text."""
    yield from summary(findings.report)
    if findings.against is not None:
        yield ""
        yield from differences(findings.against, findings.report, findings.old_ruleset or "", findings.ruleset)
    if with_advice and findings.suggestion is not None:
        yield ""
        yield from advice(findings.suggestion)
    if findings.limits is not None:
        yield ""
        yield from limit_lines(findings.limits)


def as_object(findings: Findings, *, with_advice: bool) -> dict[str, Any]:
    """Return the findings as JSON: the members of SPEC section 7, with `against`, `waits` and `limits` if requested."""
    found: dict[str, Any] = msgspec.to_builtins(findings.report)
    if not findings.report.held_out:
        del found["held_out"]
    if findings.broken_lines:
        found["broken_lines"] = findings.broken_lines
    if findings.against is not None:
        found["against"] = differences_object(
            findings.against, findings.report, findings.old_ruleset or "", findings.ruleset
        )
    if with_advice and findings.suggestion is not None:
        found["waits"] = advice_object(findings.suggestion)
    if findings.limits is not None:
        found["limits"] = limit_object(findings.limits)
    return found


# --- counts ----------------------------------------------------------------------------------------------------------


def summary(report: Report) -> Iterator[str]:
    """Yield the report as lines of text."""
    records = "1 record" if report.records == 1 else f"{report.records} records"
    yield f"{records}: {report.applied} applied, {report.stale} stale, {report.duplicate} duplicate"
    yield from _counts("dead letters", report.dead_letters)
    yield from _counts("transitions", report.transitions)
    yield from _counts("rounds", report.rounds)
    yield from _counts("triggers fired", report.triggers, zeros=True)
    yield f"commands: {report.commands}"
    if held_out := report.rounds[RoundOutcome.HELD_OUT]:
        yield f"commands that the holdout kept back: {held_out}"
        yield from (f"  {trigger}  {count}" for trigger, count in report.held_out.items())
    if held := report.rounds[RoundOutcome.HELD]:
        yield f"commands that a limit held: {held}"
    if report.pending:
        yield f"rounds not yet due at the end of the capture: {report.pending}"


def _counts(title: str, counts: Mapping[str, int], *, zeros: bool = False) -> Iterator[str]:
    shown = {name: count for name, count in counts.items() if count or zeros}
    yield f"{title}: {sum(counts.values())}"
    width = max(map(len, shown), default=0)
    for name, count in shown.items():
        yield f"  {name:<{width}}  {count}"


# --- against other triggers ------------------------------------------------------------------------------------------


def differences(against: Against, report: Report, old_ruleset: str, new_ruleset: str) -> Iterator[str]:
    """Yield the differences from the old triggers as lines of text."""
    found = against.comparison
    old, new = against.report, report
    yield f"against the old triggers (ruleset {old_ruleset} → {new_ruleset}):"
    if not found.commands and not any(one.newly or one.no_longer for one in found.triggers.values()):
        yield f"  nothing would differ: the same {counted(found.same, 'command')}"
        return
    yield (
        f"  commands: {old.commands:,} → {new.commands:,}: {found.same:,} the same, {found.changed:,} changed, "
        f"{found.removed:,} no longer, {found.added:,} new; {counted(len(found.tickets), 'ticket')} concerned"
    )
    for outcome, count in new.rounds.items():
        if count != old.rounds[outcome]:
            yield f"  rounds {outcome}: {old.rounds[outcome]:,} → {count:,}"
    if old.pending != new.pending:
        yield f"  rounds not yet due: {old.pending:,} → {new.pending:,}"
    yield from _by_trigger(found.triggers)
    for name, one in found.triggers.items():
        for samples, what in ((one.newly_samples, "newly fires"), (one.no_longer_samples, "no longer fires")):
            if samples:
                yield f"  {name} {what}, for instance:"
                yield from (f"    {_lapse(lapse)}" for lapse in samples)
    if found.commands:
        shown_of = found.changed + found.removed + found.added
        yield f"  commands that differ ({len(found.commands):,} of {shown_of:,}):"
        for change in found.commands:
            yield f"    {_lapse(change.lapse)}"
            yield f"      old: {_command(change.old)}"
            yield f"      new: {_command(change.new)}"


def _by_trigger(triggers: Mapping[str, TriggerChange]) -> Iterator[str]:
    named = {
        name + ("" if one.old and one.new else " (new)" if one.new else " (removed)"): one
        for name, one in triggers.items()
        if one.newly or one.no_longer or one.same
    }
    width = max([len("trigger"), *map(len, named)])
    yield f"  {'trigger':<{width}}  {'newly fires':>11}  {'no longer':>9}  {'same':>9}"
    for name, one in named.items():
        yield f"  {name:<{width}}  {one.newly:>11,}  {one.no_longer:>9,}  {one.same:>9,}"
    if silent := len(triggers) - len(named):
        yield f"  {counted(silent, 'more trigger fires', 'more triggers fire')} with neither file"


def differences_object(against: Against, report: Report, old_ruleset: str, new_ruleset: str) -> dict[str, Any]:
    """Return the differences from the old triggers as JSON.

    `{"ruleset": {"old", "new"}, "commands": {"old", "new", "same", "changed", "removed", "added"}, "tickets",
    "rounds": {outcome: {"old", "new"}}, "pending": {"old", "new"}, "triggers": {id: {"old", "new", "newly",
    "no_longer", "same", "newly_samples", "no_longer_samples"}}, "differing": [{"lapse", "old", "new"}]}`. A trigger's
    `old` and `new` say whether that file has it; a sample identifies a lapse; `differing` holds full commands, or null.
    """
    found, old = against.comparison, against.report
    return {
        "ruleset": {"old": old_ruleset, "new": new_ruleset},
        "commands": {
            "old": old.commands,
            "new": report.commands,
            "same": found.same,
            "changed": found.changed,
            "removed": found.removed,
            "added": found.added,
        },
        "tickets": len(found.tickets),
        "rounds": {name: {"old": old.rounds[name], "new": count} for name, count in report.rounds.items()},
        "pending": {"old": old.pending, "new": report.pending},
        "triggers": {
            name: {
                "old": one.old,
                "new": one.new,
                "newly": one.newly,
                "no_longer": one.no_longer,
                "same": one.same,
                "newly_samples": list(map(_lapse_object, one.newly_samples)),
                "no_longer_samples": list(map(_lapse_object, one.no_longer_samples)),
            }
            for name, one in found.triggers.items()
        },
        "differing": [
            {"lapse": _lapse_object(change.lapse), "old": _object(change.old), "new": _object(change.new)}
            for change in found.commands
        ],
    }


def _lapse(lapse: Lapsed) -> str:
    return f"ticket {lapse.ticket_id}, {instants.text(lapse.occurred_at)}, event {lapse.event_id}"


def _lapse_object(lapse: Lapsed) -> dict[str, Any]:
    return {**msgspec.to_builtins(lapse), "occurred_at": instants.text(lapse.occurred_at)}


def _command(command: Command | None) -> str:
    if command is None:
        return "no command"
    by = ", ".join(trigger for trigger, _ in command.triggers)
    return f"after {render(command.wait)} by {by}: {acts(command.actions)}"


def _object(command: Command | None) -> Any:
    return None if command is None else msgspec.to_builtins(encode.command_record(command))


def side_by_side(change: CommandChange) -> tuple[str, str, str]:
    """Return (lapse, old command, new command) of a command that differs, one line each."""
    return _lapse(change.lapse), _command(change.old), _command(change.new)


# --- waits -----------------------------------------------------------------------------------------------------------


def advice(suggestion: Suggestion) -> Iterator[str]:
    """Yield the benefit and cost of each `wait` as lines of text."""
    yield (
        f"waits, by {counted(suggestion.abandonments, 'abandonment')}: {suggestion.returned:,} customers came back, "
        f"{suggestion.false_abandonments:,} of them within {render(suggestion.false_window)} (false abandonments)"
    )
    if not suggestion.false_abandonments:
        yield "  no false abandonment in this capture, so there is nothing that a wait would have avoided"
        return
    heads = f"{'false ones avoided':>18}  {'back by then':>12}  {'acted on later':>14}  delay in all"
    yield f"  {'wait':>4}  {heads}"
    for one in suggestion.waits:
        mark = "  ← enough" if one is suggestion.enough else ""
        yield (
            f"  {render(one.wait):>4}  {one.avoided:>11,} ({one.share:>4.0%})  {one.returned:>12,}  "
            f"{one.acted_on:>14,}  {delay_in_all(one.delay):>12}{mark}"
        )
    yield f"  {verdict(suggestion)}"
    if suggestion.unsettled:
        yield (
            f"  {counted(suggestion.unsettled, 'abandonment')} close to the end of the capture may have had a return "
            "after it"
        )


def verdict(suggestion: Suggestion) -> str:
    """Return a sentence on which wait is long enough, and how reliable that is."""
    if not suggestion.false_abandonments:
        return "There was no false abandonment, so nothing that a wait would have avoided."
    if suggestion.enough is None:
        said = f"No wait up to {render(suggestion.waits[-1].wait)} would have avoided {ENOUGH:.0%} of them."
    else:
        said = (
            f"`wait: {render(suggestion.enough.wait)}` is the shortest that would have avoided {ENOUGH:.0%} of the "
            "false abandonments."
        )
    return said + (" They are too few to go by: use a longer capture." if suggestion.few else "")


def advice_object(suggestion: Suggestion) -> dict[str, Any]:
    """Return `{"abandonments", "returned", "false_abandonments", "unsettled", "few", "suggested_wait_ms", "waits"}`.

    Each of `waits` is `{"wait_ms", "avoided", "share", "returned", "acted_on", "delay_seconds"}`.
    """
    return {
        "abandonments": suggestion.abandonments,
        "returned": suggestion.returned,
        "false_abandonments": suggestion.false_abandonments,
        "unsettled": suggestion.unsettled,
        "few": suggestion.few,
        "suggested_wait_ms": None if suggestion.enough is None else suggestion.enough.wait // 1000,
        "waits": [
            {
                "wait_ms": one.wait // 1000,
                "avoided": one.avoided,
                "share": one.share,
                "returned": one.returned,
                "acted_on": one.acted_on,
                "delay_seconds": one.delay / 1_000_000,
            }
            for one in suggestion.waits
        ],
    }


def delay_in_all(duration: Micros) -> str:
    """Return the total delay over all conversations, as text."""
    hours = duration / 3_600_000_000
    return f"{hours:,.1f} h" if hours >= 0.1 else f"{duration / 60_000_000:.1f} min"
