"""Carries one command out: reads the ticket, compares, updates, and finds out what became of an update in doubt.

An update can be in doubt: there was no answer, a conflict, or a process before this one may have sent it. Then the
ticket's audits are read first, because every update of ours carries its command's id. Nothing is sent again before.
A late copy of an update does no harm: its stamp is older than the ticket by then, and Zendesk refuses it.

Stamps have whole seconds. A change within the second of the stamp would not be noticed, so a ticket that was changed
this very second is read again later.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from streams.core.model import Micros
from streams.zendesk.apply import quotas
from streams.zendesk.apply.client import Answer, Backoff, NoAnswerError, Zendesk, wait_of
from streams.zendesk.apply.gate import Gate
from streams.zendesk.apply.jobs import Jobs
from streams.zendesk.apply.pace import Pace, Taken
from streams.zendesk.apply.plan import Send, plan
from streams.zendesk.apply.reading import Reader
from streams.zendesk.apply.results import Ending, Result
from streams.zendesk.apply.work import Sending, Terms, Work

logger = logging.getLogger(__name__)


class Carrier:
    """Carries commands out, one call for each. Calls for one ticket must follow one another."""

    def __init__(
        self,
        zendesk: Zendesk,
        pace: Pace,
        gate: Gate,
        *,
        max_age: Micros,
        command_field: str | None = None,
    ) -> None:
        """`command_field` is the id of the custom field that takes the command's id."""
        self.reader = Reader(zendesk)
        self._terms = Terms(gate, max_age)
        self._sending = Sending()
        self.jobs = Jobs(zendesk, pace, self._terms, self._sending, command_field)
        self._zendesk = zendesk
        self._pace = pace
        self._gate = gate
        self._command_field = command_field

    @property
    def quiet(self) -> asyncio.Event:
        """Set while no update is without its answer."""
        return self._sending.quiet

    def seconds_left(self, work: Work) -> float:
        """Return how many seconds are left before a command is too old."""
        return self._terms.seconds_left(work)

    async def carry(self, work: Work) -> Ending:
        """Carry a command out, whatever it takes; return how it ended. Raises `Failed` when nothing can be sent."""
        ending = await self._carry(work)
        if work.sent and ending.result is not Result.APPLIED:
            # An earlier update for it may have been carried out since the audits were asked.
            return await self.reader.applied_before(work.command) or ending
        return ending

    async def _carry(self, work: Work) -> Ending:
        backoff = Backoff()
        while True:
            if work.doubt:
                found = await self.reader.applied_before(work.command)
                if found is not None:
                    return found
                work.doubt = False
            left = self.seconds_left(work)
            if left <= 0:
                return Ending(Result.EXPIRED, why="it is older than apply_max_age")
            if self._gate.holds(work.command):
                await self._gate.wait(left)
                continue
            if (waits := self._pace.ticket_ready_in(work.command.ticket_id)) > 0:
                await self._gate.wait(min(waits, left))
                continue
            ending = await self._try(work)
            if ending is not None:
                return ending
            if work.doubt:
                await backoff.wait()

    async def close(self) -> None:
        """Stop what runs beside `carry`, once every call of that has ended."""
        await self.jobs.close()

    async def _try(self, work: Work) -> Ending | None:
        """Carry a command out by a single update, or where the quota on those is used up, by a job if it can."""
        if self.jobs.take(work):
            taken = await self._pace.updates.take_unless_used_up()
            if taken is None:
                return await self.jobs.carry(work)
        else:
            taken = await self._pace.updates.take()
        try:
            made = await self.prepare(work)
        except BaseException:
            taken.given_back()
            raise
        if made is None or isinstance(made, Ending):
            taken.given_back()
            return made
        return await self._update(work, made, taken)

    async def prepare(self, work: Work) -> Send | Ending | None:
        """Read the ticket and plan the update. None: it may not be sent now, and the command has to begin again."""
        if not self._terms.allow(work):
            return None
        read = await self.reader.settled(work.command)
        if isinstance(read, Ending):
            return read
        made = plan(work.command, read.ticket, self._command_field)
        if isinstance(made, Ending):
            return msgspec.structs.replace(made, status=read.status)
        # Reading may have taken long.
        return made if self._terms.allow(work) else None

    async def _update(self, work: Work, made: Send, taken: Taken) -> Ending | None:
        """Send the update; None when the command has to begin again."""
        command = work.command
        work.sends()
        try:
            with self._sending:
                answer = await self._zendesk.put(f"/api/v2/tickets/{command.ticket_id}.json", {"ticket": made.ticket})
        except BaseException as error:
            taken.lost()
            if not isinstance(error, NoAnswerError):
                raise
            logger.warning("an update got no answer: %s; its audits will tell", error, extra={"limit": "update"})
            return None
        told = quotas.updates_told(answer.headers)
        taken.answered(told)
        if answer.status == 429:
            work.doubt = False
            self._too_fast(command.ticket_id, answer, told)
            return None
        if answer.status == 503:
            await self._pace.hold(wait_of(answer))
            return None
        self._pace.ticket_updated(command.ticket_id)
        if answer.status == 409:
            return None
        work.doubt = False
        if answer.is_success:
            return Ending(Result.APPLIED, answer.status, not_done=made.not_done)
        if answer.status == 422:
            again = await self.reader.read(command)
            if isinstance(again, Ending) or isinstance(plan(command, again.ticket), Ending):
                # Closed or deleted since it was read, or changed: then it begins again.
                return again if isinstance(again, Ending) else None
        return self.reader.refusal(answer)

    def _too_fast(self, ticket_id: str, answer: Answer, told: tuple[int, int, int] | None) -> None:
        """Find out which limit a 429 speaks of, and keep to it."""
        wait = wait_of(answer)
        requests = quotas.requests_told(answer.headers)
        if told is not None and told[1] > 0 and (requests is None or requests[1] > 0):
            self._pace.ticket_exhausted(ticket_id, wait)
        elif requests is not None and requests[1] <= 0:
            self._pace.requests.hold(wait)
        else:
            self._pace.updates.hold(wait)
