"""Zendesk's other direction: a webhook for every change of a ticket, and posts of a session's state.

A change of several fields gives one event for each, all with the same time. Events of one ticket are sent one after the
other, those of different tickets at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Self

from streams.core.model import SECOND, Micros
from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.testing.webhooks import WebhookSender, session_post, ticket_event
from streams.testing.zendesk.tickets import Change, Ticket
from streams.wire import instants

Seconds = float

EVENTS: Mapping[str, str] = {
    "status": "status_changed",
    "priority": "priority_changed",
    "type": "type_changed",
    "group_id": "group_assignment_changed",
    "assignee_id": "agent_assignment_changed",
    "brand_id": "brand_changed",
    "ticket_form_id": "form_changed",
    "custom_status_id": "custom_status_changed",
    "subject": "subject_changed",
    "tags": "tags_changed",
}
"""The event of each member of a ticket."""

_DETAIL = {"ticket_form_id": "form_id", "custom_status_id": "custom_status"}
"""Members that the snapshot of an event has under another name than the API."""


class Webhooks:
    """Sends what happens at the account to one endpoint, signed."""

    def __init__(
        self, url: str, secret: str, *, lanes: int = 8, now: Callable[[], Seconds] = time.time, pause: Seconds = 0.2
    ) -> None:
        """`lanes` are connections; the tickets are spread over them. `pause` is between two tries of one event."""
        self._sender = WebhookSender(url, secret, pause=pause, now=lambda: datetime.fromtimestamp(now(), UTC))
        self._now = now
        self._lanes: list[asyncio.Queue[bytes]] = [asyncio.Queue() for _ in range(lanes)]
        self._tasks: list[asyncio.Task[None]] = []
        self.answers: Counter[int] = Counter()
        """Events by the last answer to them; 0 for none."""

    async def __aenter__(self) -> Self:
        """Begin to send."""
        await self._sender.__aenter__()
        self._tasks = [asyncio.ensure_future(self._send(lane)) for lane in self._lanes]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; what is not sent yet is not sent."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sender.__aexit__()

    @property
    def delivered(self) -> int:
        """How many events were answered 200."""
        return self.answers[200]

    async def sent(self) -> None:
        """Wait until everything told so far was sent."""
        await asyncio.gather(*(lane.join() for lane in self._lanes))

    def created(self, ticket: Ticket) -> None:
        """Tell that a ticket was made."""
        at = int(self._now() * SECOND)
        self._queue(ticket.id, ticket_event(ticket.id, "created", at=_time(at), event={}, **_detail(ticket)))

    def changed(self, ticket: Ticket, change: Change) -> None:
        """Tell of a change: the hook of `Tickets.on_change`."""
        for body in events(ticket, change):
            self._queue(ticket.id, body)

    def session(self, ticket_id: int, state: str, reason: str | None = None) -> None:
        """Post a session's state, as the triggers of an account do."""
        self._queue(ticket_id, session_post(ticket_id, state, reason))

    def _queue(self, ticket_id: int, body: bytes) -> None:
        self._lanes[ticket_id % len(self._lanes)].put_nowait(body)

    async def _send(self, lane: asyncio.Queue[bytes]) -> None:
        while True:
            body = await lane.get()
            self.answers[(await self._sender.send(body)).statuses[-1]] += 1
            lane.task_done()


def events(ticket: Ticket, change: Change) -> Iterator[bytes]:
    """Yield the bodies of a change: one for each field, and one for a comment."""
    detail = _detail(ticket)
    at = _time(change.at)
    for number, (name, (old, new)) in enumerate(change.changed.items()):
        kind, event = _event(name, old, new)
        yield ticket_event(ticket.id, kind, at=at, number=change.id * 1_000 + number, event=event, **detail)
    if change.comment is not None:
        author = {"id": change.by, "is_staff": True, "name": change.by}
        event = {"comment": {"id": str(change.id), "author": author, **_renamed(change.comment)}}
        yield ticket_event(ticket.id, "comment_added", at=at, number=change.id * 1_000 + 999, event=event, **detail)


def _event(name: str, old: Any, new: Any) -> tuple[str, dict[str, Any]]:
    if name == "tags":
        return EVENTS[name], {"tags_added": sorted(set(new) - set(old)), "tags_removed": sorted(set(old) - set(new))}
    if name.startswith(CUSTOM_FIELD_PREFIX):
        field = {"id": name.removeprefix(CUSTOM_FIELD_PREFIX), "title": "A field", "type": "text"}
        return "custom_field_changed", {"custom_field": field, "current": {"value": new}, "previous": {"value": old}}
    return EVENTS[name], {"current": _said(name, new), "previous": _said(name, old)}


def _detail(ticket: Ticket) -> dict[str, Any]:
    """Return the snapshot as events have it: ids as texts, enumerations in upper case, no custom fields."""
    snapshot = {
        _DETAIL.get(name, name): _said(name, value)
        for name, value in ticket.snapshot().items()
        if not name.startswith(CUSTOM_FIELD_PREFIX)
    }
    return {
        **snapshot,
        "tags": sorted(ticket.tags),
        "created_at": instants.text(ticket.created_at),
        "updated_at": instants.text(ticket.updated_at),
    }


def _said(name: str, value: Any) -> Any:
    if name.endswith("_id"):
        return "" if value is None else str(value)
    return value.upper() if name in ("status", "priority", "type") and isinstance(value, str) else value


def _renamed(comment: Mapping[str, Any]) -> dict[str, Any]:
    return {"body": comment["body"], "is_public": comment["public"]}


def _time(at: Micros) -> datetime:
    return datetime.fromtimestamp(at / SECOND, UTC)
