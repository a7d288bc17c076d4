"""Makes support-week.jsonl.gz: a made-up week of a support desk, to try triggers out on.

Customers write mostly by day and on weekdays. A third leaves; of those a third is back within minutes. Nothing in it is
anybody's data. `python -m deploy.samples.make` writes the same bytes every time.
"""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from streams.core.partitioning import partition_of

HERE = Path(__file__).parent
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
TICKETS = 2_400
PARTITIONS = 2
BUSY_HOURS = [1, 1, 1, 1, 1, 2, 4, 9, 16, 20, 21, 18, 14, 17, 19, 18, 15, 12, 10, 9, 8, 6, 4, 2]
BUSY_DAYS = [1.2, 1.0, 1.0, 1.05, 0.95, 0.4, 0.3]
REASONS = ["user_inactive_or_offline"] * 8 + ["agent_closed"] * 2 + ["messaging_channel_disconnected"]

Event = tuple[datetime, str, str, dict[str, Any]]
"""(when, topic, ticket id, members beside the common ones)"""


def arrivals(rng: random.Random) -> Iterator[datetime]:
    """Yield when customers write, more of them where the desk is busy."""
    places = [(day, hour) for day in range(7) for hour in range(24)]
    weights = [BUSY_DAYS[day] * BUSY_HOURS[hour] for day, hour in places]
    for day, hour in rng.choices(places, weights, k=TICKETS):
        yield MONDAY + timedelta(days=day, hours=hour, seconds=rng.uniform(0, 3_600))


def conversation(rng: random.Random, ticket: str, begins: datetime) -> Iterator[Event]:
    """Yield what happens to one ticket."""
    at = begins
    channel = rng.choice(["web", "web", "ios", "android", "whatsapp"])
    priority = rng.choices(["low", "normal", "high", "urgent"], [2, 9, 3, 1])[0]
    tags = rng.choices([[], ["vip"], ["billing"]], [8, 1, 3])[0]
    fields = {"status": "new", "priority": priority, "group_id": "360001", "tags": tags}
    yield at, "ticket-updates", ticket, {"ticket": fields}
    session = {"session_id": f"ms-{ticket}", "channel": channel}
    yield at + timedelta(seconds=1), "session-states", ticket, {"state": "active", **session}
    at += timedelta(seconds=rng.uniform(20, 400))
    yield at, "ticket-updates", ticket, {"ticket": {"status": "open", "assignee_id": str(rng.randint(7001, 7020))}}
    for _ in range(rng.choices([0, 1, 2], [13, 6, 1])[0]):
        at += timedelta(seconds=rng.uniform(60, 1_500))
        yield at, "session-states", ticket, {"state": "inactive", "reason": rng.choice(REASONS), **session}
        if rng.random() > 0.45:
            return
        # A lost Wi-Fi or a look at another app, mostly; some come back after lunch.
        at += timedelta(seconds=rng.lognormvariate(math.log(55), 1.1))
        yield at, "session-states", ticket, {"state": "active", **session}
    at += timedelta(seconds=rng.uniform(120, 1_800))
    yield at, "ticket-updates", ticket, {"ticket": {"status": "solved"}}
    yield at + timedelta(seconds=2), "session-states", ticket, {"state": "ended", **session}


def lines() -> Iterator[str]:
    """Yield the capture's lines, in the order of time."""
    rng = random.Random(20260302)  # noqa: S311 the same week every time
    events = [
        event
        for number, begins in enumerate(sorted(arrivals(rng)))
        for event in conversation(rng, str(51_000 + number), begins)
    ]
    events.sort(key=lambda event: event[0])
    offsets: dict[tuple[str, int], int] = {}
    for number, (when, topic, ticket, members) in enumerate(events):
        partition = partition_of(ticket.encode(), PARTITIONS)
        offset = offsets.get((topic, partition), 0)
        offsets[topic, partition] = offset + 1
        instant = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        value = {"event_id": f"e-{number}", "ticket_id": ticket, "occurred_at": instant, **members}
        record = {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "timestamp": int(when.timestamp() * 1000),
            "key": ticket,
            "value": value,
        }
        yield json.dumps(record, separators=(",", ":")) + "\n"


def sample() -> bytes:
    """Return the compressed capture."""
    return gzip.compress("".join(lines()).encode(), mtime=0)


if __name__ == "__main__":
    (HERE / "support-week.jsonl.gz").write_bytes(sample())
