"""Rounds: when they run and how they end (SPEC section 4, *Rounds*, *No ticket yet*, *Outcome*).

`Rounds` works on one ticket during one engine step: it takes the session row's pending rounds, runs, parks or cancels
some of them, and collects the resulting records, commands, timers and facts. The rounds that are still pending go back
into the row.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streams.core import command as commands
from streams.core.cycle import Rules
from streams.core.guard import Guard
from streams.core.model import (
    COMMAND,
    GROUP_ACTED_ON,
    GROUP_HELD_OUT,
    HELD_COMMAND,
    ROUND,
    TRIGGER_FIRED,
    Cancellation,
    Command,
    Evaluation,
    Fact,
    FieldValue,
    Lapse,
    Micros,
    PendingRound,
    RoundOutcome,
    TicketRow,
    Transition,
    Withdrawal,
)


class RoundPolicy(msgspec.Struct, frozen=True):
    """The settings of rounds."""

    join_wait: Micros = 30_000_000
    act_from: Micros | None = None
    """Lapses before this instant are historic; None means that no lapse is."""
    dry_run: bool = False


class Rounds:
    """The rounds of one ticket during one step."""

    def __init__(
        self,
        *,
        ticket_id: str,
        ticket: TicketRow | None,
        lapse: Lapse | None,
        pending: tuple[PendingRound, ...],
        rules: Rules,
        policy: RoundPolicy,
        now: Micros,
        held: tuple[str, ...] = (),
        guard: Guard | None = None,
    ) -> None:
        """Start with the pending rounds of a ticket whose row is `ticket`; `now` is stream time.

        `held` are the ids of its held commands. Without a `guard` no limit counts.
        """
        self.pending = list(pending)
        self.lapse = lapse
        self.records: list[Transition | Evaluation] = []
        self.commands: list[Command] = []
        self.held_ids = held
        """The ids of held commands that are not withdrawn."""
        self.held: list[Command | Withdrawal] = []
        self.issued: list[tuple[str, Micros]] = []
        """The id and the instant of each command made, held ones included."""
        self.timers: list[tuple[Micros, Micros]] = []
        self.facts: list[Fact] = []
        self.holdout_group: str | None = None
        """The group of the first round that ended with a command, real or held out; None without a holdout."""
        self._ticket_id = ticket_id
        self._ticket = ticket
        self._rules = rules
        self._policy = policy
        self._now = now
        self._guard = guard

    def begin(self, lapse: Lapse) -> None:
        """Start the rounds of a new episode; those that are already due run at once, in the order (due, wait)."""
        self.lapse = lapse
        base = max(lapse.occurred_at, lapse.timestamp)
        if self._policy.act_from is not None and lapse.occurred_at < self._policy.act_from:
            for wait in self._rules.waits:
                self._end(wait, RoundOutcome.HISTORIC)
            return
        for wait in self._rules.waits:
            entry = PendingRound(base + wait, wait)
            # Round 0 is the lapse itself; an `occurred_at` ahead of the record's timestamp does not delay it.
            if wait == 0 or entry.due <= self._now:
                self._start(entry)
            else:
                self._keep(entry)

    def reach(self, at: Micros, wait: Micros) -> bool:
        """Run a timer that stream time reached: a round is due, or its parking ends. False for an outdated timer."""
        for entry in self.pending:
            if entry.wait == wait and entry.next_at == at:
                self.pending.remove(entry)
                if entry.parked_until is None:
                    self._start(entry)
                else:
                    self._end(entry.wait, RoundOutcome.UNJOINED)
                return True
        return False

    def join(self, update_occurred_at: Micros) -> None:
        """Run the parked rounds after an update of their ticket, which occurred at this instant, was applied."""
        parked = [entry for entry in self.pending if entry.parked_until is not None]
        for entry in _in_order(parked):
            self.pending.remove(entry)
            self._evaluate(entry, not_before=update_occurred_at)

    def cancel(self, by: Cancellation) -> None:
        """End all pending rounds as cancelled, and withdraw the held commands."""
        self.withdraw()
        entries, self.pending = self.pending, []
        for entry in _in_order(entries):
            self._end(entry.wait, RoundOutcome.CANCELLED, cancelled_by=by)

    @property
    def guard_rows(self) -> tuple[tuple[bytes, bytes | None], ...]:
        """The rows of the partition that the guard has changed."""
        return () if self._guard is None else tuple(self._guard.rows.items())

    def withdraw(self) -> None:
        """Withdraw the held commands."""
        self.held.extend(Withdrawal(self._ticket_id, command_id) for command_id in self.held_ids)
        self.held_ids = ()

    def _start(self, entry: PendingRound) -> None:
        if entry.wait not in self._rules.waits:
            self._end(entry.wait, RoundOutcome.NO_MATCH)
        elif self._ticket is not None and self._ticket.fields is not None:
            self._evaluate(entry, not_before=None)
        elif entry.due + self._policy.join_wait <= self._now:
            self._end(entry.wait, RoundOutcome.UNJOINED)
        else:
            self._keep(msgspec.structs.replace(entry, parked_until=entry.due + self._policy.join_wait))

    def _keep(self, entry: PendingRound) -> None:
        self.pending.append(entry)
        self.timers.append((entry.next_at, entry.wait))

    def _evaluate(self, entry: PendingRound, not_before: Micros | None) -> None:
        assert self.lapse is not None and self._ticket is not None and self._ticket.fields is not None  # noqa: S101
        row = self._ticket.fields
        if row.get("status") == "closed":
            self._end(entry.wait, RoundOutcome.CLOSED)
            return
        decision = self._rules.decide(entry.wait, self.lapse, row)
        ids = decision.fired
        if not decision.actions:
            self._end(entry.wait, RoundOutcome.NO_OP if ids else RoundOutcome.NO_MATCH, ids)
            return
        issued_at = self.lapse.occurred_at if entry.wait == 0 else entry.due
        if not_before is not None:
            issued_at = max(issued_at, not_before)
        command = commands.command(
            ticket_id=self._ticket_id,
            lapse=self.lapse,
            wait=entry.wait,
            issued_at=issued_at,
            decision=decision,
            updated_at=row.get("updated_at"),
            ruleset=self._rules.digest,
            revision=self._rules.revision,
        )
        if self._policy.dry_run:
            self._end(entry.wait, RoundOutcome.DRY_RUN, ids, command.command_id, actions=decision.actions)
            return
        holdout = self._rules.holdout
        if holdout is not None and holdout.holds_out(self._ticket_id):
            self.holdout_group = self.holdout_group or GROUP_HELD_OUT
            self._end(entry.wait, RoundOutcome.HELD_OUT, ids, command.command_id, actions=decision.actions)
            return
        self.issued.append((command.command_id, command.issued_at))
        held_by = () if self._guard is None else self._guard.judge(ids)
        if held_by:
            self.held.append(command)
            self.held_ids = (*self.held_ids, command.command_id)
            self.facts.extend(Fact(HELD_COMMAND, (trigger,)) for trigger in held_by)
            self._end(entry.wait, RoundOutcome.HELD, ids, command.command_id, actions=decision.actions, held_by=held_by)
            return
        if holdout is not None:
            self.holdout_group = self.holdout_group or GROUP_ACTED_ON
        self.commands.append(command)
        self.facts.append(Fact(COMMAND))
        self._end(entry.wait, RoundOutcome.COMMANDED, ids, command.command_id, actions=decision.actions)

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
        assert self.lapse is not None  # noqa: S101 -- a round exists only within an episode
        self.records.append(
            Evaluation(
                ticket_id=self._ticket_id,
                event_id=self.lapse.event_id,
                occurred_at=self.lapse.occurred_at,
                episode=self.lapse.episode,
                wait=wait,
                outcome=outcome,
                triggers=triggers,
                command_id=command_id,
                lapse=self.lapse,
                ticket=self._ticket,
                cancelled_by=cancelled_by,
                actions=actions,
                held_by=held_by,
            )
        )
        self.facts.append(Fact(ROUND, (outcome.value,)))
        self.facts.extend(Fact(TRIGGER_FIRED, (trigger,)) for trigger in triggers)


def _in_order(entries: Iterable[PendingRound]) -> list[PendingRound]:
    return sorted(entries, key=lambda entry: (entry.due, entry.wait))
