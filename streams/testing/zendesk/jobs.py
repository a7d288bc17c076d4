"""Background jobs: `update_many` queues one, and its results are read back by its id."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from streams.core.model import SECOND
from streams.testing.zendesk.answers import Failed, described, no_such_record
from streams.testing.zendesk.limits import Quotas
from streams.testing.zendesk.tickets import Tickets
from streams.wire import instants

Seconds = float

MOST_TICKETS = 100
KEPT: Seconds = 3_600.0
"""How long a job's status can be read; Zendesk's pages say an hour, newer ones a day. The stand-in keeps the hour."""


class Job(msgspec.Struct, kw_only=True):
    """One job. `updates` are pairs of ticket id and what is asked for it."""

    id: str
    user: str
    updates: Sequence[tuple[str, Mapping[str, Any]]]
    add_and_remove: bool
    queued_at: Seconds
    status: str = "queued"
    """`queued`, `working`, `completed`, `failed`; a failed one stopped on its way."""
    results: list[dict[str, Any]] = []
    ended_at: Seconds | None = None

    def json(self, base: str) -> dict[str, Any]:
        """Return the job's status as the API shows it."""
        ended = "" if self.ended_at is None else instants.text(int(self.ended_at * SECOND))
        return {
            "id": self.id,
            "job_type": "Bulk Update Ticket",
            "url": f"{base}/api/v2/job_statuses/{self.id}.json",
            "total": len(self.updates),
            "progress": len(self.results),
            "status": self.status,
            "message": f"{self.status.capitalize()} at {ended}" if ended else None,
            "results": self.results if self.results else None,
        }


class Jobs:
    """The jobs of an account. Each runs in a task of its own, ticket after ticket."""

    def __init__(self, tickets: Tickets, quotas: Quotas, now: Callable[[], Seconds], *, takes: Seconds = 0.0) -> None:
        """A job waits `takes` seconds in the queue before it runs."""
        self._tickets = tickets
        self._quotas = quotas
        self._now = now
        self._takes = takes
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dies_after: int | None = None
        self.most_in_flight = 0

    @property
    def in_flight(self) -> int:
        """How many are queued or working."""
        return sum(job.ended_at is None for job in self._jobs.values())

    def die_after(self, updates: int) -> None:
        """Have the next job that runs fail after so many updates; the rest of it is not done."""
        self._dies_after = updates

    def queue(self, user: str, updates: Sequence[tuple[str, Mapping[str, Any]]], *, add_and_remove: bool) -> Job:
        """Queue a job. Raises 429 `TooManyJobs`, or 400 when there are none or too many tickets."""
        if not 0 < len(updates) <= MOST_TICKETS:
            text = f"Between 1 and {MOST_TICKETS} tickets can be updated at once, and {len(updates)} were given"
            raise described(400, "TooManyTickets" if updates else "BadRequest", text)
        in_flight = self.in_flight
        if in_flight >= self._quotas.limits.jobs:
            raise described(
                429,
                "TooManyJobs",
                f"Too many jobs are currently queued or running: {in_flight}. Try again later.",
                headers={"Retry-After": "1", **self._quotas.job_headers(in_flight)},
            )
        now = self._now()
        job = Job(id=secrets.token_hex(16), user=user, updates=updates, add_and_remove=add_and_remove, queued_at=now)
        self._jobs[job.id] = job
        self.most_in_flight = max(self.most_in_flight, in_flight + 1)
        task = asyncio.ensure_future(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def status(self, job_id: str) -> Job:
        """Return a job. Raises 404 when it is not known, or ended too long ago."""
        job = self._jobs.get(job_id)
        if job is None or (job.ended_at is not None and self._now() - job.ended_at > KEPT):
            raise no_such_record()
        return job

    async def stop(self) -> None:
        """End what runs; what is not done stays undone."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        await asyncio.sleep(self._takes)
        job.status = "working"
        dies_after, self._dies_after = self._dies_after, None
        # A job's updates are always safe ones; without a stamp of their own they count from when the job was queued.
        stamp = instants.text(int(job.queued_at * SECOND))
        for index, (ticket_id, asked) in enumerate(job.updates):
            if index == dies_after:
                job.status, job.ended_at = "failed", self._now()
                return
            job.results.append({"index": index, **self._update(job, ticket_id, asked, stamp)})
            await asyncio.sleep(0)
        job.status, job.ended_at = "completed", self._now()

    def _update(self, job: Job, ticket_id: str, asked: Mapping[str, Any], stamp: str) -> dict[str, Any]:
        told = {"id": int(ticket_id) if ticket_id.isdecimal() else None, "action": "update"}
        safe = {"updated_stamp": stamp, **asked, "safe_update": True}
        try:
            if not self._quotas.take_update_in_a_job(job.user, ticket_id, self._now()):
                raise described(429, "TooManyRequests", "Number of allowed updates of this ticket exceeded")
            self._tickets.update(ticket_id, safe, by=job.user, via="job", add_and_remove=job.add_and_remove)
        except Failed as failed:
            return {**told, "success": False, "status": "Failed", **_failure(failed)}
        return {**told, "success": True, "status": "Updated"}


def _failure(failed: Failed) -> dict[str, Any]:
    """Return an error as results of jobs have it: a word in `error`, a text in `details`."""
    error = failed.answer.json["error"]
    if isinstance(error, dict):
        return {"error": error["title"], "details": error["message"]}
    details = failed.answer.json.get("details")
    told = [one["description"] for many in (details or {}).values() for one in many]
    return {"error": error, "details": " ".join(told) or failed.answer.json["description"]}
