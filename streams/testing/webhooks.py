"""Zendesk's side of webhooks, as far as it is documented: signed requests, repeats, a circuit breaker, disorder.

What it does not have: EventBridge, custom headers, and the activity log of webhooks.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec

TIMEOUT_SECONDS = 12.0
"""How long Zendesk waits for an answer, in all."""
CONFLICT_RETRIES = 3
TIMEOUT_RETRIES = 5
LONGEST_RETRY_AFTER = 60.0
BREAKER_SHARE, BREAKER_LEAST, BREAKER_ERRORS = 0.7, 20, 1_000
BREAKER_SPAN, BREAKER_PAUSE = 300.0, 5.0
"""The breaker opens at 70 % errors among enough requests, or at 1,000 errors, within five minutes."""


class Sent(msgspec.Struct):
    """One event, and what came of it."""

    body: bytes
    statuses: list[int] = msgspec.field(default_factory=list)
    """The answer to each try; 0 for none in time, or a connection that broke."""

    @property
    def taken(self) -> bool:
        """Whether it was answered 200: what Zendesk calls delivered."""
        return 200 in self.statuses


class WebhookSender:
    """Sends events to one endpoint, as Zendesk does."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        timeout: float = TIMEOUT_SECONDS,
        pause: float = 0.2,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`timeout` and `pause` (between two tries) are in seconds; `now` gives the time in signatures."""
        self.url = url
        self._secret = secret.encode()
        self._timeout = timeout
        self._pause = pause
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._recent: deque[tuple[float, bool]] = deque()
        self._open_until = 0.0
        self.breaker_openings = 0

    async def __aenter__(self) -> WebhookSender:
        """Open the connections."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def headers(self, body: bytes) -> dict[str, str]:
        """Return a request's headers; the timestamp has whole seconds."""
        timestamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        digest = hmac.digest(self._secret, timestamp.encode() + body, hashlib.sha256)
        return {
            "Content-Type": "application/json; charset=utf-8",
            "X-Zendesk-Account-Id": "123456",
            "X-Zendesk-Webhook-Id": "01HYA7P3J0SESSIONSTATES0001",
            "X-Zendesk-Webhook-Invocation-Id": hashlib.sha256(timestamp.encode() + body).hexdigest()[:26].upper(),
            "X-Zendesk-Webhook-Signature": base64.b64encode(digest).decode(),
            "X-Zendesk-Webhook-Signature-Timestamp": timestamp,
        }

    async def send(self, body: bytes) -> Sent:
        """Send one event and its repeats: three after 409, five after a time-out, one after a short `Retry-After`."""
        sent = Sent(body)
        conflicts = timeouts = 0
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() < self._open_until:
                await asyncio.sleep(self._open_until - loop.time())
            status, retry_after = await self._post(body)
            sent.statuses.append(status)
            self._note(status != 200, loop.time())
            if status == 409 and conflicts < CONFLICT_RETRIES:
                conflicts += 1
            elif status == 0 and timeouts < TIMEOUT_RETRIES:
                timeouts += 1
            elif status in (429, 503) and retry_after is not None and retry_after < LONGEST_RETRY_AFTER:
                await asyncio.sleep(retry_after)
            else:
                return sent
            await asyncio.sleep(self._pause)

    async def _post(self, body: bytes) -> tuple[int, float | None]:
        assert self._session is not None  # noqa: S101 - within `async with`
        try:
            async with self._session.post(self.url, data=body, headers=self.headers(body)) as answer:
                await answer.read()
                wait = answer.headers.get("Retry-After", "")
                return answer.status, float(wait) if wait.isdecimal() else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, None

    def _note(self, failed: bool, now: float) -> None:
        self._recent.append((now, failed))
        while self._recent[0][0] < now - BREAKER_SPAN:
            self._recent.popleft()
        errors = sum(bad for _, bad in self._recent)
        many = len(self._recent) >= BREAKER_LEAST and errors >= BREAKER_SHARE * len(self._recent)
        if (many or errors > BREAKER_ERRORS) and now >= self._open_until:
            self._open_until = now + BREAKER_PAUSE
            self._recent.clear()
            self.breaker_openings += 1


def disordered(bodies: Iterable[bytes], rng: random.Random, *, share: float = 0.05) -> Iterator[bytes]:
    """Yield events as Zendesk may deliver them: some twice, some not at all, some after a later one."""
    held: list[bytes] = []
    for body in bodies:
        chance = rng.random()
        if chance < share / 4:
            continue
        if chance < share / 2:
            held.append(body)
            continue
        yield body
        if chance > 1 - share / 2:
            yield body
        while held and rng.random() < 0.5:
            yield held.pop(0)
    yield from held


# --- bodies ----------------------------------------------------------------------------------------------------------


def ticket_event(
    ticket_id: int | str, kind: str = "status_changed", *, at: datetime, number: int = 0, **changes: Any
) -> bytes:
    """Return the body of a ticket event: the snapshot, with what a person wrote in it; `changes` go over `detail`."""
    event = changes.pop("event", {"current": "OPEN", "previous": "NEW"})
    time = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    detail = {
        "actor_id": "8447388090494",
        "assignee_id": "8447388090494",
        "brand_id": "8447346621310",
        "created_at": "2026-03-01T09:00:00Z",
        "custom_status": "8447320465790",
        "description": "My router shows a red light.",
        "external_id": None,
        "form_id": "8646151517822",
        "group_id": "8447320466430",
        "id": str(ticket_id),
        "is_public": True,
        "organization_id": "",
        "priority": "HIGH",
        "requester_id": "8447388090494",
        "status": "OPEN",
        "subject": "Router is broken, says Ada Example",
        "submitter_id": "8447388090494",
        "tags": ["router", "vip"],
        "type": "QUESTION",
        "updated_at": time,
        "via": {"channel": "native_messaging"},
        **changes,
    }
    return json.dumps(
        {
            "account_id": 123456,
            "detail": detail,
            "event": {"meta": {"sequence": {"id": "01HYA7P3J0", "position": 1, "total": 1}}, **event},
            "id": f"{hashlib.sha256(f'{ticket_id}/{kind}/{time}/{number}'.encode()).hexdigest()[:32]}",
            "subject": f"zen:ticket:{ticket_id}",
            "time": time,
            "type": f"zen:event-type:ticket.{kind}",
            "zendesk_event_version": "2022-11-06",
        },
        ensure_ascii=False,
    ).encode()


def session_post(ticket_id: int | str, state: str, reason: str | None = None) -> bytes:
    """Return what the triggers of `deploy/zendesk` post, with the placeholders filled in."""
    said = {"ticket_id": str(ticket_id), "state": state, "channel": "Messaging"}
    return json.dumps(said if reason is None else {**said, "reason": reason}, ensure_ascii=False).encode()
