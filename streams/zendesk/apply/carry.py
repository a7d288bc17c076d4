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
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import msgspec

from streams.core.errors import Failed
from streams.core.model import SECOND, Micros
from streams.wire import instants
from streams.zendesk.apply import quotas
from streams.zendesk.apply.client import Answer, Backoff, NoAnswerError, Zendesk, wait_of
from streams.zendesk.apply.gate import Gate
from streams.zendesk.apply.pace import Pace, Taken
from streams.zendesk.apply.plan import Command, Send, not_done_of, plan
from streams.zendesk.apply.results import Ending, Result

logger = logging.getLogger(__name__)

_SETTLED: Micros = 2 * SECOND
"""A stamp this much older than the answer that shows it is not of a second in which the ticket may change again."""
_SETTLING_SECONDS = 1.0
_TRIES_TO_SETTLE = 4
_PAGE = 100
_REFUSALS = frozenset({400, 403, 413, 422})


class Work(msgspec.Struct, kw_only=True):
    """One command on its way."""

    command: Command
    counted_from: Micros
    """The instant from which its age counts."""
    doubt: bool = False
    """Whether an update for it may have been sent."""


class Read(msgspec.Struct, frozen=True):
    """A ticket as it was read, and the status of the answer."""

    ticket: Mapping[str, Any]
    status: int


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
        clock: Callable[[], Micros] = lambda: time.time_ns() // 1_000,
    ) -> None:
        """`clock` gives the present in microseconds."""
        self._zendesk = zendesk
        self._pace = pace
        self._gate = gate
        self._max_age = max_age
        self._command_field = command_field
        self._clock = clock
        self._sending = 0
        self.quiet = asyncio.Event()
        """Set while no update is without its answer."""
        self.quiet.set()

    def seconds_left(self, work: Work) -> float:
        """Return how many seconds are left before a command is too old."""
        return (work.counted_from + self._max_age - self._clock()) / SECOND

    async def carry(self, work: Work) -> Ending:
        """Carry a command out, whatever it takes; return how it ended. Raises `Failed` when nothing can be sent."""
        backoff = Backoff()
        while True:
            if work.doubt:
                found = await self.applied_before(work.command)
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

    async def _try(self, work: Work) -> Ending | None:
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
        if self.seconds_left(work) <= 0 or self._gate.holds(work.command):
            return None
        read = await self._settled(work.command)
        if isinstance(read, Ending):
            return read
        made = plan(work.command, read.ticket, self._command_field)
        if isinstance(made, Ending):
            return msgspec.structs.replace(made, status=read.status)
        # Reading may have taken long.
        return None if self.seconds_left(work) <= 0 or self._gate.holds(work.command) else made

    async def _update(self, work: Work, made: Send, taken: Taken) -> Ending | None:
        """Send the update; None when the command has to begin again."""
        command = work.command
        self._sending += 1
        self.quiet.clear()
        work.doubt = True
        try:
            answer = await self._zendesk.put(f"/api/v2/tickets/{command.ticket_id}.json", {"ticket": made.ticket})
        except BaseException as error:
            taken.lost()
            if not isinstance(error, NoAnswerError):
                raise
            logger.warning("an update got no answer: %s; its audits will tell", error, extra={"limit": "update"})
            return None
        finally:
            self._sending -= 1
            if not self._sending:
                self.quiet.set()
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
            again = await self.read(command)
            if isinstance(again, Ending) or isinstance(plan(command, again.ticket), Ending):
                # Closed or deleted since it was read, or changed: then it begins again.
                return again if isinstance(again, Ending) else None
        return self._refusal(answer)

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

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, command: Command) -> Read | Ending:
        """Read the ticket; how the command ends when there is none to read."""
        found = await self._get(f"/api/v2/tickets/{command.ticket_id}.json")
        return found if isinstance(found, Ending) else self._ticket_of(found)

    async def _settled(self, command: Command) -> Read | Ending:
        """Read the ticket, and once more while its stamp may still be that of another change."""
        for _ in range(_TRIES_TO_SETTLE):
            found = await self._get(f"/api/v2/tickets/{command.ticket_id}.json")
            if isinstance(found, Ending):
                return found
            read = self._ticket_of(found)
            if _is_settled(read.ticket.get("updated_at"), found.headers.get("Date")):
                return read
            await asyncio.sleep(_SETTLING_SECONDS)
        return read

    def _ticket_of(self, answer: Answer) -> Read:
        ticket = (answer.json or {}).get("ticket")
        if not isinstance(ticket, Mapping):
            raise Failed(f"An answer for a ticket has no object `ticket`: {answer.text[:200]}")
        return Read(ticket, answer.status)

    async def applied_before(self, command: Command) -> Ending | None:
        """Look for the command in the ticket's audits; how it ended, or None when it is not there."""
        after = ""
        while True:
            page = f"page[size]={_PAGE}" + (f"&page[after]={quote(after, safe='')}" if after else "")
            found = await self._get(f"/api/v2/tickets/{command.ticket_id}/audits.json?{page}")
            if isinstance(found, Ending):
                return found
            told = found.json or {}
            if any(_command_of(audit) == command.command_id for audit in told.get("audits") or ()):
                return Ending(Result.APPLIED, found.status, not_done=not_done_of(command))
            meta = told.get("meta") or {}
            after = str(meta.get("after_cursor") or "")
            if not meta.get("has_more") or not after:
                return None

    async def _get(self, path: str) -> Answer | Ending:
        answer = await self._zendesk.get(path)
        return answer if answer.is_success else self._refusal(answer)

    def _refusal(self, answer: Answer) -> Ending:
        """Return how a command ends by an answer that is none of success. Raises `Failed` where it is not its own."""
        if answer.status == 404 and answer.error == "RecordNotFound":
            return Ending(Result.GONE, 404, answer=answer.text)
        if answer.status in _REFUSALS:
            why = f"Zendesk answers {answer.status} {answer.error}".rstrip()
            return Ending(Result.REFUSED, answer.status, why=why, answer=answer.text)
        raise Failed(
            f"Zendesk answers {answer.status} {answer.error or answer.text[:100]}: that is no answer of the ticket "
            "API. Check zendesk_subdomain and zendesk_url, and that the account's plan has the API. Nothing was "
            "skipped."
        )


def _is_settled(stamp: Any, date: str | None) -> bool:
    """Whether a stamp is old enough for every later change to have another one; `date` is the answer's."""
    changed = instants.read(stamp) if isinstance(stamp, str) else None
    try:
        answered = None if date is None else instants.micros(parsedate_to_datetime(date))
    except (TypeError, ValueError):
        answered = None
    return changed is None or answered is None or answered - changed >= _SETTLED


def _command_of(audit: Any) -> Any:
    """Return the command id in an audit's metadata."""
    custom = ((audit.get("metadata") or {}).get("custom") or {}) if isinstance(audit, Mapping) else {}
    return custom.get("command_id") if isinstance(custom, Mapping) else None
