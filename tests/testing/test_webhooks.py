"""The stand-in for Zendesk's webhooks behaves as Zendesk documents its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime

import pytest
from aiohttp import web

from streams.testing.webhooks import WebhookSender, disordered
from streams.wire import instants
from streams.zendesk.signatures import SIGNATURE, TIMESTAMP, Verdict, verify

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)


@contextlib.asynccontextmanager
async def endpoint(
    statuses: Iterable[int], headers: dict[str, str] | None = None
) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """An endpoint that gives these answers one after the other, then 200; 0 gives none."""
    seen: list[web.Request] = []
    answers = iter(statuses)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request)
        status = next(answers, 200)
        if status == 0:
            await asyncio.sleep(30)
        return web.Response(status=status, headers=headers or {})

    app = web.Application()
    app.router.add_post("/zendesk", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/zendesk", seen
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("statuses", "tried"),
    [
        # 409 is sent again up to three times; time-outs up to five times; other errors never.
        ([409, 409], [409, 409, 200]),
        ([409] * 9, [409] * 4),
        ([0] * 9, [0] * 6),
        ([500], [500]),
        ([401], [401]),
        # 429 and 503 only with a short Retry-After.
        ([429], [429]),
    ],
)
async def test_only_some_answers_are_tried_again_and_only_so_often(statuses: list[int], tried: list[int]) -> None:
    async with endpoint(statuses) as (url, _), WebhookSender(url, "s", timeout=0.3, pause=0.01) as zendesk:
        assert (await zendesk.send(b"{}")).statuses == tried


@pytest.mark.parametrize(("seconds", "tried"), [("0", [503, 200]), ("60", [503])])
async def test_503_is_tried_again_with_a_short_retry_after(seconds: str, tried: list[int]) -> None:
    async with endpoint([503], {"Retry-After": seconds}) as (url, _), WebhookSender(url, "s", pause=0.01) as zendesk:
        assert (await zendesk.send(b"{}")).statuses == tried


async def test_a_request_is_signed_over_timestamp_and_body_and_a_repeat_has_another_invocation() -> None:
    async with endpoint([]) as (url, seen), WebhookSender(url, "s", now=lambda: NOW) as zendesk:
        await zendesk.send('{"é": 1}'.encode())
    headers = seen[0].headers
    assert headers[TIMESTAMP] == "2026-03-01T10:00:00Z"
    at = instants.micros(NOW)
    body = '{"é": 1}'.encode()
    assert verify(headers[SIGNATURE], headers[TIMESTAMP], body, [b"s"], now=at, max_age=1) is Verdict.VALID


async def test_the_breaker_opens_at_seventy_percent_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.testing.webhooks.BREAKER_PAUSE", 0.05)
    async with endpoint([500] * 14 + [200] * 100) as (url, _), WebhookSender(url, "s") as zendesk:
        for _ in range(19):
            await zendesk.send(b"{}")
        assert zendesk.breaker_openings == 0, "too few requests to judge"
        await zendesk.send(b"{}")
        assert zendesk.breaker_openings == 1
    async with endpoint([500] * 13 + [200] * 100) as (url, _), WebhookSender(url, "s") as zendesk:
        for _ in range(20):
            await zendesk.send(b"{}")
        assert zendesk.breaker_openings == 0


def test_delivery_is_best_effort_some_twice_some_never_some_late() -> None:
    bodies = [str(number).encode() for number in range(2_000)]
    delivered = list(disordered(bodies, random.Random(1), share=0.2))
    counts = Counter(delivered)
    assert set(delivered) < set(bodies)
    assert 0.02 < 1 - len(counts) / len(bodies) < 0.08, "never"
    assert 0.06 < sum(count == 2 for count in counts.values()) / len(bodies) < 0.14, "twice"
    assert any(int(later) < int(earlier) for earlier, later in itertools.pairwise(delivered)), "late"
