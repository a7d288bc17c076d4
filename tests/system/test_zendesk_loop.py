"""The whole loop on a real broker: a customer leaves, Zendesk tells it, Lapse solves the ticket, Zendesk tells that."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.demo.seen import Seen, read_metrics
from streams.demo.worker import Worker, until_ready
from streams.kafka.topics import create_topics
from streams.testing.zendesk import checks
from streams.testing.zendesk.hooks import Webhooks
from streams.testing.zendesk.server import CLIENT, ZendeskServer
from tests.kafka_kit.broker import Broker, free_port
from tests.worker.kit import config_for, read_all

pytestmark = pytest.mark.system

PARTITIONS = 2
SECRET = "a-secret-of-the-webhook"
COMMAND_FIELD = 77
WITHIN = 60.0
TRIGGERS = """
triggers:
  - id: solve-abandoned
    title: Solve abandoned conversations
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: messaging_session_inactive_reason, operator: is, value: user_inactive_or_offline}
    actions:
      - {field: status, value: solved}
      - {field: add_tags, value: abandoned_conversation}
"""

LEFT, LEFT_PENDING, STAYED = range(1, 13), range(13, 17), range(17, 21)
"""Tickets whose customers left, those whose ticket was pending then, and those whose customers stayed."""


class Loop:
    """The processes of Lapse around an account."""

    def __init__(self, config: Any, server: ZendeskServer, folder: Path) -> None:
        self.server = server
        self.ports = {verb: free_port() for verb in ("ingest", "run", "apply")}
        triggers = folder / "triggers.yaml"
        triggers.write_text(TRIGGERS)
        common = {
            "brokers": ",".join(config.brokers),
            "topic_prefix": config.topic_prefix,
            "zendesk_command_field": str(COMMAND_FIELD),
            "log_format": "json",
        }
        self._settings = {
            "ingest": {**common, "ingest_port": self.ports["ingest"], "ingest_secrets": SECRET},
            "run": {**common, "web_port": self.ports["run"], "triggers": str(triggers), "act_from": "beginning"},
            "apply": {
                **common,
                "apply_port": self.ports["apply"],
                "zendesk_url": server.url,
                "zendesk_client_id": CLIENT.client_id,
                "zendesk_client_secret": CLIENT.secret,
            },
        }

    def page(self, verb: str) -> str:
        return f"http://127.0.0.1:{self.ports[verb]}/"

    async def start(self, folder: Path, stack: AsyncExitStack) -> list[Worker]:
        """Start every process; return once all are ready."""
        processes = []
        for verb, settings in self._settings.items():
            processes.append(await Worker.start(folder, settings, verb))
            stack.callback(processes[-1].kill)
        endings = [asyncio.ensure_future(process.ended()) for process in processes]
        ready = asyncio.gather(*(until_ready(self.page(verb)) for verb in self.ports))
        await asyncio.wait({ready, *endings}, return_when=asyncio.FIRST_COMPLETED, timeout=WITHIN)
        for ending in endings:
            if ending.done():
                ending.result()  # raises with the end of its log
            ending.cancel()
        assert ready.done(), "the processes were not ready in time"
        return processes

    async def until_settled(self, lapses: int) -> Seen:
        """Wait until so many lapses were seen, and every command of them was carried out and has come back."""
        async with asyncio.timeout(WITHIN):
            while True:
                seen = await asyncio.to_thread(read_metrics, self.page("run"), self.page("apply"))
                if seen.has_settled(lapses, waits=1):
                    return seen
                await asyncio.sleep(0.1)


def read_page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=WITHIN) as answer:
        return answer.read().decode()


async def test_every_ticket_that_is_solved_was_solved_by_a_command_and_every_command_comes_back_once(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    config = config_for(kafka, topic_prefix)
    await create_topics(config, PARTITIONS, 1)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ZendeskServer())
        for ticket_id in (*LEFT, *LEFT_PENDING, *STAYED):
            status = "pending" if ticket_id in LEFT_PENDING else "open"
            server.tickets.make(ticket_id, status=status, tags=["router"])
        loop = Loop(config, server, tmp_path)
        hooks = await stack.enter_async_context(Webhooks(f"{loop.page('ingest')}zendesk", SECRET))
        server.tickets.on_change = hooks.changed
        processes = await loop.start(tmp_path, stack)

        for ticket in server.tickets:
            hooks.created(ticket)
            hooks.session(ticket.id, "Active")
        for ticket_id in (*LEFT, *LEFT_PENDING):
            hooks.session(ticket_id, "Inactive", "User inactive or offline")
        await asyncio.wait_for(hooks.sent(), WITHIN)
        seen = await loop.until_settled(len(LEFT) + len(LEFT_PENDING))
        await asyncio.wait_for(hooks.sent(), WITHIN)
        page = await asyncio.to_thread(read_page, f"{server.url}/")
        for process in processes:
            await process.stop()

        assert (seen.commands, seen.results, seen.known) == (len(LEFT), Counter(applied=len(LEFT)), len(LEFT))
        assert set(hooks.answers) == {200}
    by_topic = {
        name: [msgspec.json.decode(record.value) for record in await read_all(config, config.topic(name))]
        for name in ("action-commands", "action-results", "ticket-updates")
    }
    commands = by_topic["action-commands"]
    ids = {command["command_id"] for command in commands}
    assert len(commands) == len(ids) == len(LEFT)

    assert page.count("<td>solved</td><td>abandoned_conversation router</td>") == len(LEFT), "for people to look at"
    tickets, changes = server.tickets, server.tickets.changes
    assert {ticket.id for ticket in tickets if ticket.status == "solved"} == set(LEFT)
    assert {change.by for change in changes} == {CLIENT.user}, "nobody else changed a ticket"
    assert Counter(change.command_id for change in changes) == Counter(ids), "each command is one change"
    assert checks.against_expected(changes, commands) == []
    for command in commands:
        ticket = tickets.of(command["ticket_id"])
        assert (ticket.tags, ticket.custom_fields) == (
            ["abandoned_conversation", "router"],
            {COMMAND_FIELD: command["command_id"]},
        )
    results = [(result["command_id"], result["result"]) for result in by_topic["action-results"]]
    assert Counter(results) == Counter((command_id, "applied") for command_id in ids)
    came_back = [update["command_id"] for update in by_topic["ticket-updates"] if update.get("command_id")]
    assert Counter(came_back) == Counter(ids), "each command comes back in one ticket update"
