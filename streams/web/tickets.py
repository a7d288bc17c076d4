"""What the pages and the API tell about one round and about one ticket, with explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from streams.core.cycle import Rules
from streams.core.model import EVALUATED, Micros, PendingRound, SessionRow, TicketRow
from streams.core.session import ACTIVE, INACTIVE
from streams.core.trace import RoundTrace, trace_round
from streams.core.triggers import Ruleset
from streams.documents.durations import render
from streams.offline.words import how_it_ended, not_asked, why_cancelled
from streams.web.journal import Journal, Round
from streams.web.status import Tables
from streams.wire import encode, instants
from streams.wire.state import session_state, ticket_state
from streams.wire.trace import round_trace


class Explainer(NamedTuple):
    """The rules in use, which serve to explain rounds."""

    ruleset: Ruleset
    rules: Rules
    join_wait: Micros


# --- a round ---------------------------------------------------------------------------------------------------------


class Explained(NamedTuple):
    """One round with its explanation."""

    id: str
    round: Round
    why: str
    trace: RoundTrace | None
    skipped: list[tuple[str, str]]


def explained(found: Round, by: Explainer) -> Explained:
    """Explain a kept round with the rules in use and the data it was evaluated on."""
    said = found.evaluation
    trace = None
    if said.lapse is not None and said.ticket is not None and said.outcome in EVALUATED:
        trace = trace_round(by.rules, said.wait, said.lapse, said.ticket.fields or {})
    skipped = list(not_asked(said.wait, by.ruleset)) if trace is not None else []
    by_what = said.cancelled_by
    why = how_it_ended(said.outcome, by.join_wait) if by_what is None else why_cancelled(by_what)
    return Explained(found.id, found, why, trace, skipped)


def explained_object(one: Explained) -> dict[str, Any]:
    """Return a round for tools: its evaluation record, the reason for its outcome, its trace and its command."""
    trace: dict[str, Any] = {"passes": 0, "fired": [], "not_fired": [], "actions": []}
    command = one.round.command
    return {
        "id": one.id,
        **msgspec.to_builtins(encode.output_record(one.round.evaluation)),
        "why": one.why,
        **(trace if one.trace is None else round_trace(one.trace)),
        "not_asked": [{"id": trigger, "why": reason} for trigger, reason in one.skipped],
        "command": None if command is None else msgspec.to_builtins(encode.command_record(command)),
    }


# --- a ticket --------------------------------------------------------------------------------------------------------


class Ticket(NamedTuple):
    """What this worker knows of a ticket."""

    id: str
    partition: int | None
    held: bool
    ticket: TicketRow | None
    session: SessionRow | None
    rounds: list[Explained]
    transitions: list[dict[str, Any]]
    sentences: list[str]
    holder: str | None = None
    """Address of the worker that holds its partition, if that is another worker and known."""

    @property
    def known(self) -> bool:
        """Whether the ticket has a row."""
        return self.ticket is not None or self.session is not None


def ticket(
    ticket_id: str,
    tables: Tables,
    held: Mapping[int, str],
    journal: Journal,
    by: Explainer,
    *,
    holder: str | None = None,
) -> Ticket:
    """Look up a ticket. `held` are this worker's partitions with their states, `holder` is another worker's address."""
    rows = list(tables.find(ticket_id))
    first = rows[0] if rows else None
    partition = first.partition if first is not None else tables.partition_of(ticket_id)
    found = Ticket(
        ticket_id,
        partition,
        partition in held,
        next((one.ticket for one in rows if one.ticket is not None), None),
        next((one.session for one in rows if one.session is not None), None),
        [explained(one, by) for one in journal.rounds_of(ticket_id)],
        [msgspec.to_builtins(encode.output_record(one)) for one in journal.transitions_of(ticket_id)],
        [],
        holder,
    )
    if found.known:
        found.sentences.extend(_sentences(found, by.ruleset, len({one.partition for one in rows}) > 1))
    else:
        found.sentences.append(_why_unknown(found, held))
    return found


def _why_unknown(found: Ticket, held: Mapping[int, str]) -> str:
    partition = found.partition
    if partition is None:
        return "This worker has not joined its consumer group yet. Try again in a moment."
    if partition not in held:
        where = "another worker" if found.holder is None else f"the worker at {found.holder}"
        return (
            f"This ticket belongs to partition {partition}, which {where} holds: look it up on that worker's page, or "
            f"run `lapse state {found.id}`, which reads the tables from the broker."
        )
    if held[partition] == "restoring":
        return f"Partition {partition}, to which this ticket belongs, is being restored. Try again in a moment."
    return (
        "No usable record of this ticket was ever read, or its rows have expired. `lapse dead-letters list` shows "
        "records that could not be used."
    )


def _sentences(found: Ticket, ruleset: Ruleset, scattered: bool) -> list[str]:
    """Return sentences that explain why nothing happened, the most relevant first."""
    told = []
    if scattered:
        told.append(
            "Its ticket and its session are in different partitions: their producers use different partitioners."
        )
    told.extend(_of_session(found.session))
    waits = () if found.session is None else found.session.pending
    if (found.ticket is None or found.ticket.fields is None) and not any(entry.parked_until for entry in waits):
        told.append("The ticket itself is not known: no update of it has come, or it was deleted.")
    if found.rounds:
        latest = found.rounds[0].round.evaluation
        told.append(
            f"Its latest round (wait {render(latest.wait)}, episode {latest.episode}) ended as "
            f"{latest.outcome.value.replace('_', ' ')}. {found.rounds[0].why}"
        )
    elif not any(trigger.active for trigger in ruleset.triggers):
        told.append("No trigger is active, so nothing is ever done.")
    elif found.session is not None and found.session.episode and not waits:
        told.append(
            "None of its rounds is among the latest ones, which this worker keeps. `lapse explain` shows all rounds in "
            "a capture."
        )
    return told


def _of_session(session: SessionRow | None) -> list[str]:
    if session is None or session.state is None:
        return ["No session state of this ticket is known, so nothing can lapse. Do both topics use the same keys?"]
    since = instants.text(session.since)
    if session.state == ACTIVE:
        return [f"Its session has been active since {since}. No round waits."]
    if session.pending:
        return list(map(_waits_for, session.pending))
    if session.state == INACTIVE and not session.episode:
        return ["Its session was already inactive in its first event, which does not count as a lapse here."]
    if session.state == INACTIVE:
        return [f"Its session has been inactive since {since}. Its rounds have ended."]
    return [f"Its session has been {session.state} since {since}."]


def _waits_for(entry: PendingRound) -> str:
    if entry.parked_until is None:
        return f"The round with wait {render(entry.wait)} is due at {instants.text(entry.due)}."
    return (
        f"The ticket itself is not known. The round with wait {render(entry.wait)} waits for it until "
        f"{instants.text(entry.parked_until)}."
    )


def ticket_object(found: Ticket) -> dict[str, Any]:
    """Return a ticket for tools."""
    return {
        "ticket_id": found.id,
        "partition": found.partition,
        "held": found.held,
        "holder": found.holder,
        "sentences": found.sentences,
        "ticket": None if found.ticket is None else ticket_state(found.ticket),
        "session": None if found.session is None else session_state(found.session),
        "rounds": [explained_object(one) for one in found.rounds],
        "transitions": found.transitions,
    }
