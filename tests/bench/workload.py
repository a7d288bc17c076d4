"""The records and rules of the benchmarks: two topics, realistic sizes, one lapse in twenty records.

Tickets are taken in turns. Of twenty records twelve are ticket updates (about 545 bytes) and eight session states
(about 280): one of them a lapse, one a return, the rest repeats. Made from a seed, as batches ready to send.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import yaml
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

TICKETS, SESSIONS = "ticket-updates", "session-states"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PROSE = (
    "The customer writes that the parcel has not come although the carrier says that it was handed over yesterday, "
    "asks for a call, and wants to know whether the order can be changed while it is on its way to the new address."
)


class Made(NamedTuple):
    """One record: is it for the ticket topic, its key, its value, its timestamp in milliseconds."""

    is_ticket: bool
    key: bytes
    value: bytes
    timestamp: int


def records(count: int, tickets: int, *, seed: int = 1, ends_at: int | None = None) -> Iterator[Made]:
    """`count` records over `tickets` tickets, one per millisecond, the last at `ends_at` (default: just now)."""
    rng = random.Random(seed)
    first = (int(time.time() * 1000) if ends_at is None else ends_at) - count
    inactive = set[int]()
    for place in range(count):
        now = first + place
        slot = place % 20
        if slot < 12:
            ticket = (place // 20 * 12 + slot) % tickets
            yield Made(True, b"%d" % (1_000_000 + ticket), ticket_update(ticket, place, now, rng), now)
            continue
        # A session speaks for a ticket that was written a little before.
        ticket = (place // 20 * 12 - 1 - (slot - 12)) % tickets
        state, reason = "active", None
        if slot == 12 and ticket not in inactive and place >= 20:
            state, reason = "inactive", "User inactive or offline"
            inactive.add(ticket)
        elif ticket in inactive:
            inactive.discard(ticket)
        yield Made(False, b"%d" % (1_000_000 + ticket), session_state(ticket, place, now, state, reason), now)


def ticket_update(ticket: int, event: int, now: int, rng: random.Random, status: str | None = None) -> bytes:
    """One ticket update of about 545 bytes."""
    at, start = instant(now), rng.randrange(60)
    body = {
        "event_id": f"t-{event}",
        "ticket_id": str(1_000_000 + ticket),
        "occurred_at": at,
        "ticket": {
            "status": status or rng.choice(("open", "open", "open", "pending")),
            "priority": rng.choice(("low", "normal", "high", "urgent")),
            "type": "question",
            "group_id": str(360 + ticket % 40),
            "assignee_id": str(4000 + ticket % 200),
            "requester_id": str(10_000_000 + ticket * 7),
            "tags": ["web", "vip"] if ticket % 10 == 0 else ["web", "returning"],
            "subject": _PROSE[start : start + 48],
            "description": _PROSE[start : start + 148],
            "custom_fields": {"11": "keep" if ticket % 3 else "drop", "12": str(ticket % 17)},
            "updated_at": at,
        },
    }
    return json.dumps(body, separators=(",", ":")).encode()


def session_state(ticket: int, event: int, now: int, state: str, reason: str | None) -> bytes:
    """One session state of about 280 bytes."""
    body = {
        "event_id": f"s-{event}",
        "ticket_id": str(1_000_000 + ticket),
        "occurred_at": instant(now),
        "state": state,
        "reason": reason,
        "session_id": f"{ticket:012x}-1",
        "channel": "web",
        "client": {
            "agent": "Mozilla/5.0 (X11; Linux x86_64)",
            "page": f"/orders/{ticket}",
            "locale": "de-AT",
            "viewport": "390x844",
        },
    }
    return json.dumps(body, separators=(",", ":")).encode()


def instant(millis: int) -> str:
    """RFC 3339."""
    return (_EPOCH + timedelta(milliseconds=millis)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


async def fill(bootstrap: str, prefix: str, partitions: int, made: Iterator[Made]) -> int:
    """Write records to the two inputs in large batches; returns how many."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=512 << 10, max_request_size=8 << 20, acks=1)
    count, open_batches, sent = 0, {}, []
    async with producer:

        async def send(where: tuple[bool, int]) -> None:
            batch = open_batches.pop(where)
            batch.close()
            topic = prefix + (TICKETS if where[0] else SESSIONS)
            sent.append(await producer.send_batch(batch, topic, partition=where[1]))
            if len(sent) > 64:
                await asyncio.gather(*sent)
                sent.clear()

        for record in made:
            count += 1
            where = (record.is_ticket, (murmur2(record.key) & 0x7FFFFFFF) % partitions)
            while True:
                batch = open_batches.setdefault(where, None) or producer.create_batch()
                open_batches[where] = batch
                if batch.append(timestamp=record.timestamp, key=record.key, value=record.value) is not None:
                    break
                await send(where)
        for where in list(open_batches):
            await send(where)
        await asyncio.gather(*sent)
    return count


def recipes() -> str:
    """The four shipped recipes, all of them active, as a trigger file."""
    shipped = yaml.safe_load((Path(__file__).parents[2] / "deploy/triggers/recipes.yaml").read_text())
    return yaml.safe_dump({"triggers": [{**each, "active": True} for each in shipped["triggers"]]}, sort_keys=False)


def rules(count: int) -> str:
    """A trigger file: the four recipes, and others of their kind that rarely match, `count` in all."""
    left = {"field": "messaging_session_state", "operator": "changed_to", "value": "inactive"}
    offline = {
        "field": "messaging_session_inactive_reason",
        "operator": "is",
        "value": "user_inactive_or_offline",
    }

    def is_(field: str, value: object) -> dict[str, object]:
        return {"field": field, "operator": "is", "value": value}

    recipes = [
        ("solve", [is_("status", "open"), left, offline], [("status", "solved"), ("add_tags", "abandoned")]),
        ("urgent", [is_("priority", "urgent"), left, offline], [("group_id", "999")]),
        (
            "vip",
            [{"field": "current_tags", "operator": "includes", "value": "vip"}, left],
            [("priority", "urgent"), ("add_tags", "vip_left")],
        ),
        ("pending", [is_("status", "pending"), left, is_("custom_fields_11", "drop")], [("custom_fields_12", "left")]),
    ]
    others = [
        (
            f"other-{number}",
            [
                is_("group_id", str(9000 + number)),
                left,
                is_("messaging_session_inactive_reason", f"reason_{number % 7}"),
            ],
            [("add_tags", f"other_{number}")],
        )
        for number in range(count - len(recipes))
    ]
    triggers = [
        {
            "id": name,
            "title": name.capitalize(),
            "conditions": {"all": conditions, "any": []},
            "actions": [{"field": field, "value": value} for field, value in actions],
        }
        for name, conditions, actions in [*recipes, *others]
    ]
    return yaml.safe_dump({"triggers": triggers}, sort_keys=False)
