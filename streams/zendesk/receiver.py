"""The HTTP server of `lapse ingest`: webhooks, metrics and probes on one port.

What a status means to Zendesk decides which one a request gets: only 409 is sent again for sure, and many errors open
its circuit breaker. So a signed body that nobody can use is answered with 200 and becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Self

from aiohttp import web

from streams.core.model import MILLISECOND, SECOND, Micros
from streams.telemetry.ingest import IngestMetrics
from streams.web.probes import Port
from streams.zendesk.events import Kind, Received, Unusable, receive, type_of
from streams.zendesk.signatures import SIGNATURE, TIMESTAMP, Verdict, verify
from streams.zendesk.writer import NotWrittenError, Writer

logger = logging.getLogger(__name__)

LARGEST_BODY = 1 << 20
CONNECTIONS = 512
"""Connections at a time: Zendesk calls from many machines at once. It tries again after the 503 of one too many."""

_BODY_SECONDS = 10.0
_STOP_SECONDS = 9.0
"""How long a stop waits for requests in flight: a little longer than a write may take."""


class Receiver:
    """Serves from `async with` on. Requests are answered before the writer is ready, too: with 409."""

    def __init__(
        self,
        writer: Writer,
        metrics: IngestMetrics,
        *,
        host: str,
        port: int,
        secrets: Sequence[bytes],
        max_age: Micros,
        command_field: str | None = None,
    ) -> None:
        """Port 0 takes any free one."""
        self._writer = writer
        self._metrics = metrics
        self._secrets = secrets
        self._max_age = max_age
        self._command_field = command_field
        self._port = Port(
            what="receiver",
            host=host,
            port=port,
            settings="ingest",
            exposition=metrics.exposition,
            not_ready=lambda: writer.trouble,
            routes=[web.post("/zendesk", self._post)],
            largest_body=LARGEST_BODY + 1,
            connections=CONNECTIONS,
            stop_seconds=_STOP_SECONDS,
        )

    @property
    def url(self) -> str:
        """Return the address for webhooks, once the port is open."""
        return f"{self._port.url}/zendesk"

    async def __aenter__(self) -> Self:
        """Open the port. Raises `Refused` when that fails."""
        await self._port.__aenter__()
        return self

    async def __aexit__(self, *end: object) -> None:
        """Close the port, and answer the requests in flight."""
        await self._port.__aexit__(*end)

    # --- webhooks ----------------------------------------------------------------------------------------------------

    async def _post(self, request: web.Request) -> web.Response:
        began = time.monotonic()
        status = 500
        try:
            status, text = await self._status_of(request)
        finally:
            self._metrics.answered(status, time.monotonic() - began)
        return web.Response(status=status, text=text)

    async def _status_of(self, request: web.Request) -> tuple[int, str]:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return 413, "The body is larger than 1 MiB.\n"
        except TimeoutError:
            return 408, f"The body did not come within {_BODY_SECONDS:.0f} s.\n"
        if len(body) > LARGEST_BODY:
            return 413, "The body is larger than 1 MiB.\n"
        now = time.time_ns() // 1000
        signature, signed_at = request.headers.get(SIGNATURE), request.headers.get(TIMESTAMP)
        verdict = verify(signature, signed_at, body, self._secrets, now=now, max_age=self._max_age)
        if verdict is Verdict.VALID:
            return await self._take(body, str(signature), str(signed_at), now)
        return self._refuse(verdict, request)

    def _refuse(self, verdict: Verdict, request: web.Request) -> tuple[int, str]:
        if verdict is Verdict.INVALID:
            logger.warning(
                "a request from %s has no valid signature; does ingest_secrets hold the webhook's signing secret?",
                request.remote,
                extra={"limit": "signature"},
            )
            return 401, "No valid signature.\n"
        logger.warning(
            "a request from %s was signed more than ingest_max_age ago", request.remote, extra={"limit": "age"}
        )
        return 403, "The signature is too old.\n"

    async def _take(self, body: bytes, signature: str, signed_at: str, now: Micros) -> tuple[int, str]:
        arrived_ms = now // MILLISECOND
        try:
            try:
                received = receive(
                    body, signature=signature, signed_at=signed_at, arrived_at=now, command_field=self._command_field
                )
                return await self._write(received, now)
            except Unusable as why:
                await self._writer.write_letter(body, type_of(body), why, arrived_ms)
                self._metrics.received(Kind.UNUSABLE)
                logger.warning("a signed body can't be used: %s %s", why.path, why, extra={"limit": "unusable"})
                return 200, "Kept as a dead letter.\n"
        except NotWrittenError as error:
            logger.warning("not written, so Zendesk has to try again: %s", error, extra={"limit": "not written"})
            return 409, "Not written; try again.\n"

    async def _write(self, received: Received, now: Micros) -> tuple[int, str]:
        record = received.record
        if record is not None:
            await self._writer.write(record, now // MILLISECOND)
            happened = received.occurred_at
            self._metrics.written(record.topic.value, None if happened is None else (now - happened) / SECOND)
        self._metrics.received(received.kind)
        return 200, "Nothing to write.\n" if record is None else "Written.\n"
