"""Jobs: one request that updates up to a hundred tickets, which Zendesk does in its own time.

They carry out what the quota on single updates would leave waiting. In a job, each ticket's update is what a single one
would be: with the stamp that was read, and the command's id in its metadata. Results come ticket by ticket. A ticket
that a job has updated is done; every other one is in doubt and goes on by itself, so that its audits are read first,
and the answer to a single update says why the job could not do it. What a job does late finds a newer stamp.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streams.zendesk.apply.client import NoAnswerError, Zendesk, wait_of
from streams.zendesk.apply.pace import Pace
from streams.zendesk.apply.plan import Send, plan
from streams.zendesk.apply.reading import is_settled
from streams.zendesk.apply.results import Ending, Result
from streams.zendesk.apply.work import Sending, Terms, Work

logger = logging.getLogger(__name__)

Seconds = float

MOST_TICKETS = 100
MOST_JOBS = 30
LEAST_LEFT: Seconds = 300.0
"""A command that expires sooner takes no job: one that is in doubt after a restart must not expire while a job waits
in Zendesk's queue."""
_GATHER: Seconds = 1.0
_FIRST_LOOK: Seconds = 1.0
_LAST_LOOK: Seconds = 5.0
_LONGEST: Seconds = 900.0
"""After so long a job counts as lost; its tickets go on by themselves."""
_OVER = frozenset({"completed", "failed", "killed"})


class _Place:
    """A command's place in a job."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.ending: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()

    @property
    def ticket_id(self) -> str:
        return self.work.command.ticket_id

    def ends(self, ending: Ending | None) -> None:
        """Say how the command ended; None when it has to begin again."""
        if not self.ending.done():
            self.ending.set_result(ending)

    def fails(self, error: Exception) -> None:
        if not self.ending.done():
            self.ending.set_exception(error)


class Jobs:
    """Gathers commands into jobs. Everything that a job does not do, a single update has to."""

    def __init__(
        self, zendesk: Zendesk, pace: Pace, terms: Terms, sending: Sending, command_field: str | None = None
    ) -> None:
        """`command_field` is the id of the custom field that takes the command's id."""
        self._zendesk = zendesk
        self._pace = pace
        self._terms = terms
        self._sending = sending
        self._command_field = command_field
        self._waiting: list[_Place] = []
        self._slots = asyncio.Semaphore(MOST_JOBS)
        self._statuses = _Statuses(zendesk)
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused = False

    def take(self, work: Work) -> bool:
        """Whether a command can go by a job. One with an action that is passed on, such as a reply, never does."""
        if self._refused or work.alone or work.command.passes_on:
            return False
        return self._terms.seconds_left(work) > LEAST_LEFT

    async def carry(self, work: Work) -> Ending | None:
        """Carry a command out in the next job; None when it has to begin again."""
        place = _Place(work)
        self._waiting.append(place)
        if len(self._waiting) >= MOST_TICKETS:
            self._start()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(_GATHER, self._start)
        return await place.ending

    async def close(self) -> None:
        """Stop; what jobs do that are still in Zendesk's queue, the audits will tell."""
        self._waiting.clear()
        tasks = [*self._tasks, *self._statuses.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self) -> None:
        waiting = [place for place in self._waiting if not place.ending.done()]
        places, self._waiting = waiting[:MOST_TICKETS], waiting[MOST_TICKETS:]
        if places:
            task = asyncio.create_task(self._run(places), name="job")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, places: Sequence[_Place]) -> None:
        try:
            async with self._slots:
                await self._carry(places)
        except Exception as error:
            for place in places:
                place.fails(error)
        finally:
            for place in places:
                place.ends(None)

    async def _carry(self, places: Sequence[_Place]) -> None:
        """Read the tickets, queue the job, and take its results."""
        planned = await self._plan([place for place in places if self._may_go(place)])
        # Reading may have taken long.
        sends = {place.ticket_id: (place, made) for place, made in planned if self._may_go(place)}
        if not sends:
            return
        job = await self._queue(sends)
        if job is None:
            return
        done = await self._statuses.results_of(job)
        for ticket_id, (place, made) in sends.items():
            if ticket_id in done:
                place.work.doubt = False
                place.ends(Ending(Result.APPLIED, 200, not_done=made.not_done))
            else:
                place.work.alone = True
        logger.info("a job has updated %d of %d tickets", len(done), len(sends))

    def _may_go(self, place: _Place) -> bool:
        if place.ending.done() or not self._terms.allow(place.work):
            return False
        return self._pace.ticket_ready_in(place.ticket_id) <= 0

    async def _plan(self, places: Sequence[_Place]) -> list[tuple[_Place, Send]]:
        """Read the tickets and plan their updates; what ends without one ends here."""
        if not places:
            return []
        ids = ",".join(place.ticket_id for place in places)
        answer = await self._zendesk.get(f"/api/v2/tickets/show_many.json?ids={ids}")
        shown = (answer.json or {}).get("tickets") if answer.is_success else None
        tickets = {str(one.get("id")): one for one in shown or () if isinstance(one, Mapping)}
        planned: list[tuple[_Place, Send]] = []
        for place in places:
            ticket = tickets.get(place.ticket_id)
            if ticket is None or not is_settled(ticket.get("updated_at"), answer.headers.get("Date")):
                place.work.alone = True
                continue
            made = plan(place.work.command, ticket, self._command_field)
            if isinstance(made, Send):
                planned.append((place, made))
            else:
                place.ends(msgspec.structs.replace(made, status=answer.status))
        return planned

    async def _queue(self, sends: Mapping[str, tuple[_Place, Send]]) -> str | None:
        """Queue a job; return its id, or None when there is none, or none is known of."""
        updates = [{"id": int(ticket_id), **made.ticket} for ticket_id, (_, made) in sends.items()]
        works = [place.work for place, _ in sends.values()]
        for work in works:
            work.sends()
        try:
            with self._sending:
                answer = await self._zendesk.put("/api/v2/tickets/update_many.json", {"tickets": updates})
        except NoAnswerError as error:
            logger.warning("a job got no answer: %s; audits will tell", error, extra={"limit": "job"})
            return None
        wait = wait_of(answer)
        if answer.status == 503:
            await self._pace.hold(wait)
            return None
        if not answer.is_success:
            for work in works:
                work.doubt, work.alone = False, answer.status != 429
        if answer.status == 429:
            if answer.error != "TooManyJobs":
                self._pace.requests.hold(wait)
            await asyncio.sleep(wait)
            return None
        for ticket_id in sends:
            self._pace.ticket_updated(ticket_id)
        job = (answer.json or {}).get("job_status")
        job_id = job.get("id") if isinstance(job, Mapping) else None
        if answer.is_success and isinstance(job_id, str):
            return job_id
        self._refused = True
        logger.error("Zendesk answers a job with %d %s; updates go one by one now", answer.status, answer.text[:200])
        return None


class _Statuses:
    """Asks for the statuses of all jobs at once."""

    def __init__(self, zendesk: Zendesk) -> None:
        self._zendesk = zendesk
        self._asked: dict[str, tuple[asyncio.Future[frozenset[str]], Seconds]] = {}
        """Who waits for a job, and since when."""
        self.tasks: set[asyncio.Task[None]] = set()

    async def results_of(self, job_id: str) -> frozenset[str]:
        """Wait for a job's end; return the ids of the tickets that it has updated, as far as is known."""
        over: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
        self._asked[job_id] = (over, time.monotonic())
        if len(self._asked) == 1:
            task = asyncio.create_task(self._ask_on(), name="statuses of jobs")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return await over

    async def _ask_on(self) -> None:
        pause = _FIRST_LOOK
        try:
            while self._asked:
                await asyncio.sleep(pause)
                before = len(self._asked)
                await self._ask()
                pause = _FIRST_LOOK if len(self._asked) < before else min(pause * 2, _LAST_LOOK)
        except Exception as error:
            for over, _ in self._asked.values():
                if not over.done():
                    over.set_exception(error)
            self._asked.clear()

    async def _ask(self) -> None:
        ids = list(self._asked)
        answer = await self._zendesk.get(f"/api/v2/job_statuses/show_many.json?ids={','.join(ids)}")
        shown = (answer.json or {}).get("job_statuses") if answer.is_success else None
        jobs = {str(one.get("id")): one for one in shown or () if isinstance(one, Mapping)}
        now = time.monotonic()
        for job_id in ids:
            over, since = self._asked[job_id]
            job = jobs.get(job_id)
            if job is not None and job.get("status") not in _OVER and now < since + _LONGEST:
                continue
            del self._asked[job_id]
            if not over.done():
                over.set_result(_updated(job or {}))


def _updated(job: Mapping[str, Any]) -> frozenset[str]:
    """Return the ids of the tickets that a job has updated.

    >>> _updated({"results": [{"id": 7, "success": True}, {"id": 8, "success": False}]})
    frozenset({'7'})
    """
    results = [one for one in job.get("results") or () if isinstance(one, Mapping)]
    return frozenset(str(one.get("id")) for one in results if one.get("success") is True)
