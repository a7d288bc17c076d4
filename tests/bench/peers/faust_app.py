"""The same work as one would write it from Faust's user guide: two agents, two tables, record by record.

Its orders come by environment: BENCH_BROKERS, BENCH_PREFIX, BENCH_GROUP, BENCH_COMMANDS, BENCH_PARTITIONS.
"""

from __future__ import annotations

import os
from typing import Any

import faust

from tests.bench.peers.recipes import merged, take_session

PREFIX, PARTITIONS = os.environ["BENCH_PREFIX"], int(os.environ["BENCH_PARTITIONS"])

app = faust.App(
    os.environ["BENCH_GROUP"],
    broker=f"kafka://{os.environ['BENCH_BROKERS']}",
    store="memory://",
    processing_guarantee="at_least_once",
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    topic_disable_leader=True,
    table_standby_replicas=0,
    consumer_auto_offset_reset="earliest",
    broker_commit_interval=0.5,
    web_enabled=False,
)
ticket_updates = app.topic(f"{PREFIX}ticket-updates", key_type=str, value_serializer="json")
session_states = app.topic(f"{PREFIX}session-states", key_type=str, value_serializer="json")
commands = app.topic(os.environ["BENCH_COMMANDS"], value_serializer="json")
tickets = app.Table("tickets", partitions=PARTITIONS)
sessions = app.Table("sessions", partitions=PARTITIONS)


@app.agent(ticket_updates)
async def on_ticket(stream: Any) -> None:
    """Keep the latest of each ticket."""
    async for ticket_id, event in stream.items():
        tickets[ticket_id] = merged(tickets.get(ticket_id), event["ticket"])


@app.agent(session_states)
async def on_session(stream: Any) -> None:
    """See a session go inactive and ask for what the four recipes say."""
    async for ticket_id, event in stream.items():
        row, command = take_session(ticket_id, sessions.get(ticket_id), event, tickets.get(ticket_id))
        sessions[ticket_id] = row
        if command is not None:
            await commands.send(key=ticket_id, value=command)
