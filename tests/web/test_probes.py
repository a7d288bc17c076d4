"""The port of a process that has no page: metrics, probes, and routes of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
import pytest
from aiohttp import web

from streams.core.errors import Refused
from streams.web.probes import Port, Trouble, not_ready, watching_for_stalls
from tests.web.worker import Worker, a_partition


def fine() -> str | None:
    return None


def port(ready: Trouble = fine, stalled: Trouble = fine, number: int = 0, host: str = "127.0.0.1") -> Port:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    return Port(
        what="server",
        host=host,
        port=number,
        settings="silence",
        host_settings="ingest",
        exposition=lambda accept: (f"asked for {accept}\n".encode(), "text/plain; version=0.0.4"),
        not_ready=ready,
        stalled=stalled,
        routes=[web.post("/echo", echo)],
        largest_body=10,
    )


async def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, str, Mapping[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.request("GET" if body is None else "POST", url, data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.text(), answer.headers


async def test_it_serves_metrics_probes_and_routes():
    async with port() as served:
        assert (await ask(f"{served.url}/metrics", Accept="text/x"))[:2] == (200, "asked for text/x\n")
        assert (await ask(f"{served.url}/healthz"))[:2] == (200, "ok\n")
        assert (await ask(f"{served.url}/readyz"))[:2] == (200, "ready\n")
        status, text, headers = await ask(f"{served.url}/echo", b"1234567890")
        assert (status, text) == (200, "1234567890")
        assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
        assert (await ask(f"{served.url}/echo", b"12345678901"))[0] == 413
        assert (await ask(f"{served.url}/else"))[0] == 404


async def test_what_is_wrong_fails_the_probe_that_it_concerns():
    async with port(ready=lambda: "no topics") as served:
        assert (await ask(f"{served.url}/readyz"))[:2] == (503, "no topics\n")
        assert (await ask(f"{served.url}/healthz"))[0] == 200
    async with port(stalled=lambda: "it stands still") as served:
        assert (await ask(f"{served.url}/healthz"))[:2] == (503, "it stands still\n")
        assert (await ask(f"{served.url}/readyz"))[0] == 200


async def test_a_port_that_cant_be_opened_is_refused_with_the_setting_to_change():
    async with port() as served:
        taken = int(served.url.rpartition(":")[2])
        with pytest.raises(Refused, match=r"in use\. Change silence_port"):
            async with port(number=taken):
                raise AssertionError("opened twice")
    with pytest.raises(Refused, match="Change ingest_host"):
        async with port(host="192.0.2.1"):
            raise AssertionError("opened on an address of nobody")


async def test_the_address_is_known_once_the_port_is_open():
    closed = port()
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = closed.url


def test_a_worker_that_restores_is_not_ready_and_says_why():
    assert not_ready(Worker([a_partition(0)]))() is None
    both = not_ready(Worker([a_partition(0, state="restoring"), a_partition(3, state="restoring")]))()
    assert both == "The tables of partition 0 are being restored.\nThe tables of partition 3 are being restored."


async def test_partitions_without_progress_are_named():
    async with watching_for_stalls(Worker([a_partition(0), a_partition(1, lag=5)]), after=0) as stalled:
        await asyncio.sleep(0)  # the first look
        assert stalled() == "stalled: partition 1 for 0 s"
    async with watching_for_stalls(Worker([a_partition(0)]), after=0) as stalled:
        await asyncio.sleep(0)
        assert stalled() is None
