"""The same work as one would write it from Faust's user guide: two agents, two tables, record by record.

Settings come by environment: DRAIN_BROKERS, DRAIN_PREFIX, DRAIN_APP_ID, DRAIN_PARTITIONS, DRAIN_RECORDS (ends after so
many). At the end it prints one line of JSON. Timing begins with the first record.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

import faust

PREFIX, COUNT = os.environ["DRAIN_PREFIX"], int(os.environ["DRAIN_RECORDS"])
PARTITIONS = int(os.environ["DRAIN_PARTITIONS"])

app = faust.App(
    os.environ["DRAIN_APP_ID"],
    broker=f"kafka://{os.environ['DRAIN_BROKERS']}",
    store="memory://",
    processing_guarantee="at_least_once",
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    topic_disable_leader=True,
    table_standby_replicas=0,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
)
ticket_updates = app.topic(f"{PREFIX}ticket-updates", key_type=str, value_serializer="json")
session_states = app.topic(f"{PREFIX}session-states", key_type=str, value_serializer="json")
commands = app.topic(f"{PREFIX}faust-commands", value_serializer="json")
tickets = app.Table("tickets", default=dict, partitions=PARTITIONS)
sessions = app.Table("sessions", default=dict, partitions=PARTITIONS)


class Progress:
    """Counts records, and says at the end how long they took."""

    done = commands = 0
    began = cpu = 0.0

    def note(self) -> None:
        """Count one."""
        if self.done == 0:
            self.began, self.cpu = time.perf_counter(), _cpu()
        self.done += 1
        if self.done == COUNT:
            seconds = time.perf_counter() - self.began
            out = {"records": COUNT, "seconds": seconds, "cpu": _cpu() - self.cpu, "commands": self.commands}
            print(json.dumps(out), file=sys.__stdout__, flush=True)  # Faust has taken the other one for its log
            os._exit(0)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


progress = Progress()


@app.agent(ticket_updates)
async def on_ticket(stream: Any) -> None:
    """Keep the latest of each ticket."""
    async for ticket_id, event in stream.items():
        row = dict(tickets[ticket_id])
        row.update(event["ticket"])
        tickets[ticket_id] = row
        progress.note()


@app.agent(session_states)
async def on_session(stream: Any) -> None:
    """See a session go inactive and ask for what the four recipes say."""
    async for ticket_id, event in stream.items():
        row = dict(sessions[ticket_id])
        before = row.get("state")
        row.update(state=event["state"], reason=event.get("reason"))
        sessions[ticket_id] = row
        if event["state"] == "inactive" and before != "inactive" and (ticket := tickets[ticket_id]):
            actions = decide(ticket, event.get("reason") == "User inactive or offline")
            if actions:
                progress.commands += 1
                await commands.send(key=ticket_id, value={"ticket_id": ticket_id, "actions": actions})
        progress.note()


def decide(ticket: dict[str, Any], offline: bool) -> list[dict[str, Any]]:
    """The four recipes."""
    actions: list[dict[str, Any]] = []
    if offline and ticket.get("status") == "open":
        actions += [{"field": "status", "value": "solved"}, {"field": "add_tags", "value": ["abandoned"]}]
    if offline and ticket.get("priority") == "urgent":
        actions += [{"field": "group_id", "value": "999"}]
    if "vip" in (ticket.get("tags") or ()):
        actions += [{"field": "priority", "value": "urgent"}, {"field": "add_tags", "value": ["vip_left"]}]
    if ticket.get("status") == "pending" and ticket.get("custom_fields", {}).get("11") == "drop":
        actions += [{"field": "custom_fields_12", "value": "left"}]
    return actions
