"""A carrier of commands at the stand-in for Zendesk, without a broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from streams.core.model import SECOND
from streams.testing.zendesk import checks
from streams.testing.zendesk.server import CLIENT, ZendeskServer
from streams.zendesk.apply.carry import Carrier
from streams.zendesk.apply.client import Account, Zendesk
from streams.zendesk.apply.gate import Gate
from streams.zendesk.apply.pace import Pace
from streams.zendesk.apply.plan import decode_command
from streams.zendesk.apply.results import Ending
from streams.zendesk.apply.work import Work
from tests.zendesk.commands import command, now_us

OLD = 1_772_359_200 * SECOND
HOUR = 3_600 * SECOND


class Desk:
    """The stand-in, and a carrier that works at it."""

    def __init__(self, server: ZendeskServer, zendesk: Zendesk, gate: Gate, carrier: Carrier) -> None:
        self.server = server
        self.zendesk = zendesk
        self.gate = gate
        self.carrier = carrier
        self.commands: list[dict[str, Any]] = []

    def ticket(self, number: int = 1, **members: Any) -> Any:
        return self.server.tickets.make(number, **{"updated_at": OLD, "created_at": OLD, **members})

    def work(self, *, doubt: bool = False, **given: Any) -> Work:
        made = command(**given)
        self.commands.append(made)
        decoded = decode_command(msgspec.json.encode(made))
        return Work(command=decoded, counted_from=given.get("issued_at") or now_us(), doubt=doubt)

    async def carry(self, **given: Any) -> Ending:
        async with asyncio.timeout(60):
            return await self.carrier.carry(self.work(**given))

    @property
    def changes(self) -> list[Any]:
        return [change for change in self.server.tickets.changes if change.command_id is not None]

    def count(self, method: str, part: str) -> int:
        return sum(done == method and part in path for done, path, _ in self.server.requests)

    def all_is_well(self) -> None:
        changes = self.server.tickets.changes
        assert checks.twice(changes) == []
        assert checks.against_expected(changes, self.commands) == []
        assert checks.out_of_order(changes, self.commands) == []


@contextlib.asynccontextmanager
async def a_desk(
    *, secret: str = CLIENT.secret, client: str = CLIENT.client_id, command_field: str | None = None, **options: Any
) -> AsyncIterator[Desk]:
    async with ZendeskServer(**options) as server:
        pace, gate = Pace(10_000), Gate()
        gate.ready()
        account = Account(url=server.url, client_id=client, client_secret=secret)
        async with Zendesk(account, pace) as zendesk:
            carrier = Carrier(zendesk, pace, gate, max_age=HOUR, command_field=command_field)
            try:
                yield Desk(server, zendesk, gate, carrier)
            finally:
                await carrier.close()
