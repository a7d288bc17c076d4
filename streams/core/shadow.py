"""The shadow: a candidate rule set evaluated beside the live rules: SPEC section 10, *Shadow*.

The shadow looks at what each live step did and never changes it. It evaluates the candidate for every lapse after it
was taken up: at once and at the candidate's own waits, parked and cancelled as live rounds are, and commands nothing.
Its rounds are paired with the live rounds of the same lapse by their wait. A pair is counted when both rounds have
ended; a wait that only one side has is paired with nothing. Where the two differ, a `Difference` says how.

What is pending is kept for each ticket in a row of its own, so that the rows of the live side stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from streams.core.cycle import Rules
from streams.core.model import (
    SHADOW_ROUND,
    SHADOW_TRIGGER_FIRED,
    Cancellation,
    Cancelled,
    Difference,
    Evaluation,
    Fact,
    FieldValue,
    Kind,
    Lapse,
    Micros,
    Outcome,
    PendingRound,
    RoundOutcome,
    ShadowResult,
    Side,
    TicketRow,
    Transition,
)
from streams.core.rounds import RoundPolicy, Rounds
from streams.core.tables import OWN, Tables

KEYS = OWN + b"shadow/"
"""The key of a ticket's shadow row is this and the ticket id."""

_CANCELLATION = Cancellation(Cancelled.SESSION_CHANGED, None, 0)
"""Why a shadow round was cancelled is written nowhere: the live round of its lapse says it."""


class Candidate(msgspec.Struct, frozen=True):
    """The rules to evaluate beside the live ones, and the revision that they are."""

    revision: int
    rules: Rules


class ShadowRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The latest lapse of a ticket, while rounds of it are pending on either side."""

    revision: int
    lapse: Lapse
    pending: tuple[PendingRound, ...]
    """Rounds of the shadow that have not ended."""
    live: tuple[Micros, ...]
    """Waits of the live rounds that have not ended."""
    commanded: bool = False
    """Whether a live command was made for the lapse."""
    live_ended: tuple[tuple[Micros, Side], ...] = ()
    """Live rounds, by wait, that ended before the shadow's round of the same wait."""
    shadow_ended: tuple[tuple[Micros, Side], ...] = ()


class Seen(msgspec.Struct):
    """What the shadow found in one step."""

    records: list[Difference] = msgspec.field(default_factory=list)
    facts: list[Fact] = msgspec.field(default_factory=list)
    timers: list[Micros] = msgspec.field(default_factory=list)
    """Stream times at which shadow rounds of the ticket are due, or their parking ends."""
    changed: bool = False
    """Whether the ticket's row changed; it is in `Shadow.rows`, or not there any more."""


class Shadow:
    """The candidate in use in one partition, and its rows."""

    def __init__(self, candidate: Candidate, policy: RoundPolicy, rows: Mapping[str, ShadowRow] | None = None) -> None:
        """Evaluate `candidate` under the live side's policy, going on from `rows`, which are keyed by ticket id.

        The candidate's holdout does not count.
        """
        self.candidate = candidate
        self.rows: dict[str, ShadowRow] = dict(rows or {})
        self._policy = policy

    def follow(self, tables: Tables, ticket_id: str, outcome: Outcome, clock: Micros) -> Seen | None:
        """Do for the shadow what a live step, whose rows are in `tables`, did for the live rounds of its ticket.

        None when the step concerns no lapse that the shadow has to do with.
        """
        row, lapse = self.rows.get(ticket_id), outcome.lapse
        if row is None and lapse is None:
            return None
        seen = Seen()
        evaluations = [record for record in outcome.records if type(record) is Evaluation]
        if row is not None:
            ended = [evaluation for evaluation in evaluations if evaluation.episode == row.lapse.episode]
            cancels = _cancels(outcome)
            ticket = None if cancels else _ticket(tables, ticket_id, outcome.ticket, ended)
            trial = self._trial(ticket_id, ticket, row.lapse, row.pending, clock)
            if cancels:
                trial.cancel(_CANCELLATION)
            elif outcome.ticket is not None:
                trial.join(outcome.ticket.touched)
            else:
                trial.reach_all(clock, {evaluation.wait for evaluation in ended})
            self._settle(ticket_id, row, ended, trial, seen)
        if lapse is not None:
            ended = [evaluation for evaluation in evaluations if evaluation.episode == lapse.episode]
            trial = self._trial(ticket_id, _ticket(tables, ticket_id, None, ended), lapse, (), clock)
            trial.begin(lapse)
            pending = () if outcome.session is None else outcome.session.pending
            begun = ShadowRow(self.candidate.revision, lapse, (), tuple([entry.wait for entry in pending]))
            self._settle(ticket_id, begun, ended, trial, seen)
        return seen

    def reach(self, tables: Tables, ticket_id: str, clock: Micros) -> Seen | None:
        """Run the rounds of a ticket that are due, and end the parking that is over; None when there is none."""
        row = self.rows.get(ticket_id)
        if row is None or not any(entry.next_at <= clock for entry in row.pending):
            return None
        seen = Seen()
        trial = self._trial(ticket_id, tables.ticket(ticket_id), row.lapse, row.pending, clock)
        trial.reach_all(clock)
        self._settle(ticket_id, row, (), trial, seen)
        return seen

    def _trial(
        self,
        ticket_id: str,
        ticket: TicketRow | None,
        lapse: Lapse,
        pending: tuple[PendingRound, ...],
        clock: Micros,
    ) -> _Trial:
        trial = _Trial(
            ticket_id=ticket_id,
            ticket=ticket,
            lapse=lapse,
            pending=pending,
            rules=self.candidate.rules,
            policy=self._policy,
            now=clock,
        )
        trial.ended = {}
        return trial

    def _settle(self, ticket_id: str, row: ShadowRow, ended: Iterable[Evaluation], trial: _Trial, seen: Seen) -> None:
        """Pair what ended in this step, and put down what goes on."""
        live = {one.wait: Side(one.outcome, one.triggers, one.actions) for one in ended}
        goes_on = tuple([wait for wait in row.live if wait not in live])
        waits = {entry.wait for entry in trial.pending}
        all_live = {**dict(row.live_ended), **live} if row.live_ended else live
        all_shadow = {**dict(row.shadow_ended), **trial.ended} if row.shadow_ended else trial.ended
        commanded = row.commanded
        live_kept, shadow_kept = [], []
        every = all_live if all_live.keys() == all_shadow.keys() else all_live.keys() | all_shadow.keys()
        for wait in every if len(every) == 1 else sorted(every):
            one, other = all_live.get(wait), all_shadow.get(wait)
            if one is None and wait in goes_on and other is not None:
                shadow_kept.append((wait, other))
            elif other is None and wait in waits and one is not None:
                live_kept.append((wait, one))
            else:
                result = compare(one, other)
                seen.facts.append(Fact(SHADOW_ROUND, (result.value,)))
                if result is not ShadowResult.SAME:
                    seen.records.append(
                        Difference(
                            ticket_id=ticket_id,
                            event_id=row.lapse.event_id,
                            occurred_at=row.lapse.occurred_at,
                            episode=row.lapse.episode,
                            wait=wait,
                            revision=row.revision,
                            after_live=commanded,
                            live=one,
                            shadow=other,
                        )
                    )
            commanded = commanded or (wait in live and live[wait].outcome is RoundOutcome.COMMANDED)
        for side in trial.ended.values():
            for trigger in side.triggers:
                seen.facts.append(Fact(SHADOW_TRIGGER_FIRED, (trigger,)))
        seen.timers += [at for at, _ in trial.timers]
        if not trial.pending and not goes_on:
            seen.changed = self.rows.pop(ticket_id, None) is not None or seen.changed
            return
        after = ShadowRow(
            row.revision, row.lapse, tuple(trial.pending), goes_on, commanded, tuple(live_kept), tuple(shadow_kept)
        )
        if after != self.rows.get(ticket_id):
            self.rows[ticket_id] = after
            seen.changed = True


def compare(live: Side | None, shadow: Side | None) -> ShadowResult:
    """Compare the two sides of a round: the same when neither acts, or both with equal actions.

    >>> compare(Side(RoundOutcome.NO_MATCH), None)
    <ShadowResult.SAME: 'same'>
    """
    live_acts, shadow_acts = live is not None and live.acts, shadow is not None and shadow.acts
    if live is not None and shadow is not None and live_acts and shadow_acts:
        return ShadowResult.SAME if live.actions == shadow.actions else ShadowResult.DIFFERENT
    if live_acts:
        return ShadowResult.ONLY_LIVE
    return ShadowResult.ONLY_SHADOW if shadow_acts else ShadowResult.SAME


class _Trial(Rounds):
    """Rounds that end without a command; each is kept in `ended`, by its wait."""

    ended: dict[Micros, Side]

    def reach_all(self, clock: Micros, waits: set[Micros] | None = None) -> None:
        """Run the rounds, of these waits only if any are given, that are due, and end parking that is over."""
        for entry in sorted(self.pending, key=lambda entry: (entry.next_at, entry.wait)):
            if entry.next_at <= clock and (waits is None or entry.wait in waits):
                self.reach(entry.next_at, entry.wait)

    def _evaluate(self, entry: PendingRound, not_before: Micros | None) -> None:
        assert self.lapse is not None and self._ticket is not None and self._ticket.fields is not None  # noqa: S101
        row = self._ticket.fields
        if row.get("status") == "closed":
            self._end(entry.wait, RoundOutcome.CLOSED)
            return
        decision = self._rules.decide(entry.wait, self.lapse, row)
        if not decision.actions:
            self._end(entry.wait, RoundOutcome.NO_OP if decision.fired else RoundOutcome.NO_MATCH, decision.fired)
            return
        outcome = RoundOutcome.DRY_RUN if self._policy.dry_run else RoundOutcome.COMMANDED
        self._end(entry.wait, outcome, decision.fired, actions=decision.actions)

    def _end(
        self,
        wait: Micros,
        outcome: RoundOutcome,
        triggers: tuple[str, ...] = (),
        command_id: str | None = None,
        cancelled_by: Cancellation | None = None,
        *,
        actions: tuple[FieldValue, ...] = (),
        held_by: tuple[str, ...] = (),
    ) -> None:
        self.ended[wait] = Side(outcome, triggers, actions)


def _cancels(outcome: Outcome) -> bool:
    """Whether a step on a ticket whose session was inactive ends the rounds that are pending."""
    if outcome.expired or (outcome.ticket is not None and outcome.ticket.fields is None):
        return True
    if outcome.session is not None and outcome.session.state is None:
        return True
    return any(type(one) is Transition and one.kind is not Kind.REASON_CHANGED for one in outcome.records)


def _ticket(
    tables: Tables, ticket_id: str, changed: TicketRow | None, evaluations: Iterable[Evaluation]
) -> TicketRow | None:
    """Return the ticket's row; the step has often read it already."""
    if changed is not None:
        return changed
    for evaluation in evaluations:
        if evaluation.ticket is not None:
            return evaluation.ticket
    return tables.ticket(ticket_id)
