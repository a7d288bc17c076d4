"""Reads tickets and their audits, and tells what an answer that is none of success means for a command."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import msgspec

from streams.core.errors import Failed
from streams.core.model import SECOND, Micros
from streams.wire import instants
from streams.zendesk.apply.client import Answer, Zendesk
from streams.zendesk.apply.plan import Command, not_done_of
from streams.zendesk.apply.results import Ending, Result

_SETTLED: Micros = 2 * SECOND
"""A stamp this much older than the answer that shows it is not of a second in which the ticket may change again."""
_SETTLING_SECONDS = 1.0
_TRIES_TO_SETTLE = 4
_PAGE = 100
_REFUSALS = frozenset({400, 403, 413, 422})


class Read(msgspec.Struct, frozen=True):
    """A ticket as it was read, and the status of the answer."""

    ticket: Mapping[str, Any]
    status: int


class Reader:
    """Reads for commands, one ticket at a time."""

    def __init__(self, zendesk: Zendesk) -> None:
        """Read from this account."""
        self._zendesk = zendesk

    async def read(self, command: Command) -> Read | Ending:
        """Read the ticket; how the command ends when there is none to read."""
        found = await self._get(f"/api/v2/tickets/{command.ticket_id}.json")
        return found if isinstance(found, Ending) else self._ticket_of(found)

    async def settled(self, command: Command) -> Read | Ending:
        """Read the ticket, and once more while its stamp may still be that of another change."""
        for _ in range(_TRIES_TO_SETTLE):
            found = await self._get(f"/api/v2/tickets/{command.ticket_id}.json")
            if isinstance(found, Ending):
                return found
            read = self._ticket_of(found)
            if is_settled(read.ticket.get("updated_at"), found.headers.get("Date")):
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
        return answer if answer.is_success else self.refusal(answer)

    def refusal(self, answer: Answer) -> Ending:
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


def is_settled(stamp: Any, date: str | None) -> bool:
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
