"""Zendesk's side of the demo: an account whose customers and agents act, and what it can tell of its tickets."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator

from streams.core.model import SECOND
from streams.demo.customers import Act, Happening
from streams.testing.zendesk.hooks import Webhooks
from streams.testing.zendesk.server import CLIENT, ZendeskServer
from streams.testing.zendesk.tickets import Change, Ticket

Seconds = float

COMMAND_FIELD = 360_000_000_077
"""The ticket field that holds the id of the command carried out last."""
LEFT_REASON = "User inactive or offline"


class Account:
    """Plays the happenings, and watches the changes that come of them. Times are seconds since the epoch."""

    def __init__(self, server: ZendeskServer, hooks: Webhooks) -> None:
        """Have every change of the server's tickets sent as webhooks."""
        self._server = server
        self._hooks = hooks
        self._away: dict[int, Seconds] = {}
        """Tickets whose customer is away, and since when; solved ones are no longer here."""
        self._one_less = asyncio.Event()
        self.left = 0
        self.back = 0
        self.delays: list[Seconds] = []
        """From leaving to solved, of the tickets that a command solved."""
        self.told: list[tuple[Seconds, str, str, str]] = []
        """What is worth a line: time, ticket, word, text. Whoever shows it takes it away."""
        server.tickets.on_change = self._changed

    def play(self, happening: Happening) -> None:
        """Carry one act out."""
        ticket_id, now = happening.ticket_id, time.time()
        match happening.act:
            case Act.ARRIVE:
                self._hooks.created(self._server.tickets.make(ticket_id, tags=["router"], priority="normal"))
                self._hooks.session(ticket_id, "Active")
            case Act.LEAVE:
                self.left += 1
                self._away[ticket_id] = now
                self._tell("left", ticket_id, LEFT_REASON.lower())
                self._hooks.session(ticket_id, "Inactive", LEFT_REASON)
            case Act.RETURN if ticket_id in self._away:
                del self._away[ticket_id]
                self._one_less.set()
                self.back += 1
                self._tell("came back", ticket_id, "before anything happened")
                self._hooks.session(ticket_id, "Active")
            case Act.SOLVE if self._server.tickets.of(ticket_id).status != "solved":
                self._server.tickets.update(ticket_id, {"status": "solved"}, by="agent", via="screen")
                self._hooks.session(ticket_id, "Ended")

    async def all_solved(self) -> None:
        """Wait until no ticket is open whose customer is away."""
        while self._away:
            self._one_less.clear()
            await self._one_less.wait()

    @property
    def statuses(self) -> Counter[str]:
        """How many tickets have which status."""
        return Counter(ticket.status for ticket in self._server.tickets)

    @property
    def solvers(self) -> Counter[str]:
        """How many tickets were solved by whom: `lapse` or `agent`."""
        return Counter(change.by for change in self._server.tickets.changes if _solves(change))

    def delay(self) -> tuple[Seconds, Seconds] | None:
        """Return median and 99th percentile from leaving to solved; None before the first."""
        if not self.delays:
            return None
        ordered = sorted(self.delays)
        return statistics.median(ordered), ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]

    def take_lines(self) -> Iterator[tuple[Seconds, str, str, str]]:
        """Yield what was not shown yet."""
        told, self.told = self.told, []
        yield from told

    def _changed(self, ticket: Ticket, change: Change) -> None:
        if _solves(change):
            since = self._away.pop(ticket.id, None)
            self._one_less.set()
            if change.by == CLIENT.user and since is not None:
                delay = change.at / SECOND - since
                self.delays.append(delay)
                tags = " ".join(sorted(set(change.after["tags"]) - set(change.before["tags"])))
                self._tell("solved", ticket.id, f"by command, {delay:.1f} s after the customer left; tagged {tags}")
            elif since is not None:
                self._tell("by agent", ticket.id, "solved before Lapse acted")
        self._hooks.changed(ticket, change)

    def _tell(self, word: str, ticket_id: int, text: str) -> None:
        self.told.append((time.time(), str(ticket_id), word, text))


def _solves(change: Change) -> bool:
    return "status" in change.changed and change.after["status"] == "solved"
