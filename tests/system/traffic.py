"""Traffic of the system tests: the stories of many tickets, told by a seed, in the order in which a broker gets them.

A `Story` is a list of steps with the pauses between them; the next step of a story is only due once the broker has
the one before, so the order of a ticket's records over the two topics is the order of their timestamps, whatever
stands still meanwhile. Nothing here comes from `streams`.
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from aiokafka.partitioner import murmur2

from tests.system.oracle import SESSIONS, TICKETS, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REASONS = ["User inactive or offline"] * 6 + ["connection_lost", "CONNECTION LOST", "agent-ended", None, "brand_new"]
_CHANNELS = ["web", "web", "Web", "ios", "android", None]
_PROSE = "the customer writes that the parcel has not come, although the carrier says it was handed over yesterday; "

Millis = int

EDGE_MARGIN: Millis = 250
"""Records keep so far from the instants at which a timer of their ticket may be due."""


class Sent(NamedTuple):
    """One record as a producer is given it; `topic` without prefix, `partition` None for the key's own."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


@dataclass
class Story:
    """One ticket's records to come: (pause in seconds before it, what makes it at a wall clock in milliseconds)."""

    steps: list[tuple[float, Callable[[Millis], Sent]]] = field(default_factory=list)
    delays: tuple[Millis, ...] = ()
    """How long after a session record a timer of this ticket may be due."""
    edges: list[Millis] = field(default_factory=list)
    """The instants at which a timer may be due, from the records that are in the log."""

    def clear_from(self, now: Millis) -> Millis:
        """The first instant from `now` on that is far enough from every edge."""
        for edge in sorted(self.edges):
            if abs(now - edge) < EDGE_MARGIN:
                now = edge + EDGE_MARGIN
        return now

    def logged(self, sent: Sent, timestamp: Millis, acknowledged: Millis) -> bool:
        """Note that a record is in the log; return whether its place is beyond doubt.

        A broker writes a record some time after it took the timestamp, and a busy or frozen one long after. A timer
        that was due between the two may run before this record although it is due after it.
        """
        until = max(acknowledged, timestamp + EDGE_MARGIN)
        sure = not any(timestamp - EDGE_MARGIN < edge < until for edge in self.edges)
        if sent.topic == SESSIONS:
            self.edges.extend(timestamp + delay for delay in self.delays)
        return sure


def stories(seed: int, *, waits: tuple[float, ...] = (2.0, 5.0), join_wait: float = 4.0) -> Iterator[Story]:
    """Stories without end. Customers come back before, between and after `waits`; tickets come before and after
    `join_wait` seconds, or never."""
    number = 0
    while True:
        number += 1
        rng = random.Random(f"{seed}/{number}")
        yield _Teller(rng, str(100_000 + number), waits, join_wait).tell()


def simulate(seed: int, count: int, *, partitions: int = 3, rate: float = 100.0, start: Millis) -> list[Record]:
    """At least `count` records as a broker would hold them if they were sent in virtual time from `start` on.

    `rate` stories begin every second. Timestamps are those of a topic with `LogAppendTime`.
    """
    source, records = stories(seed), list[Record]()
    ends = {(topic, partition): 0 for topic in (TICKETS, SESSIONS) for partition in range(partitions)}
    due: list[tuple[float, int, int, Story]] = []
    opened = 0
    while due or len(records) < count:
        if len(records) < count and (not due or opened / rate <= due[0][0]):
            story = next(source)
            opened += 1
            heapq.heappush(due, (opened / rate + story.steps[0][0], opened, 0, story))
            continue
        at, number, place, story = heapq.heappop(due)
        now = start + int(at * 1000)
        sent = story.steps[place][1](now)
        partition = partition_of(sent, partitions)
        offset = ends[sent.topic, partition]
        ends[sent.topic, partition] += 1
        records.append(Record(sent.topic, partition, offset, now, sent.key, sent.value, sent.headers))
        if place + 1 < len(story.steps):
            heapq.heappush(due, (at + story.steps[place + 1][0], number, place + 1, story))
    return records


def partition_of(sent: Sent, partitions: int) -> int:
    """The partition a Java producer would choose."""
    if sent.partition is not None:
        return sent.partition
    assert sent.key is not None
    return (murmur2(sent.key) & 0x7FFFFFFF) % partitions


class _Teller:
    """Writes the story of one ticket."""

    def __init__(self, rng: random.Random, ticket_id: str, waits: tuple[float, ...], join_wait: float) -> None:
        self.rng, self.id, self.waits, self.join_wait = rng, ticket_id, waits, join_wait
        parked = (0.0, *waits)
        self.story = Story(
            delays=tuple(int(1000 * after) for after in (*waits, *(wait + join_wait for wait in parked)))
        )
        self.made: dict[int, Sent] = {}  # what each step was, for those that repeat it
        self.sequences = {TICKETS: 0, SESSIONS: 0} if rng.random() < 0.3 else None
        self.numeric = rng.random() < 0.2
        self.session, self.events = 1, 0
        self.channel = rng.choice(_CHANNELS)

    def tell(self) -> Story:
        rng = self.rng
        known = rng.random()
        if known < 0.85:
            self.ticket(0.0, status=rng.choice(["new", "open", "Open", "open", "pending"]), **self.first_fields())
        if rng.random() < 0.9:
            self.state(rng.uniform(0.1, 1.0), rng.choice(["active", "active", "open", "ACTIVE"]))
        if known < 0.85:
            for _ in range(rng.choice([0, 0, 1, 2, 4])):
                self.ticket(rng.uniform(0.1, 0.8), **self.later_fields())
        for episode in range(rng.choice([0, 1, 1, 1, 2, 3])):
            self.leave(rng.uniform(0.2, 1.0))
            if known > 0.95 and episode == 0:
                self.ticket(rng.uniform(0.3, self.join_wait + 4), status="open", **self.first_fields())
            self.after_leaving()
        if rng.random() < 0.4:
            self.state(rng.uniform(0.2, 1), "ended")
            if rng.random() < 0.5:
                self.state(rng.uniform(0.1, 0.5), "inactive", "agent ended")
        if rng.random() < 0.03:
            self.tombstone(rng.choice([TICKETS, SESSIONS]))
            self.state(rng.uniform(0.1, 0.5), rng.choice(["active", "inactive"]))
        if not self.story.steps:
            self.state(0.1, "active")
        return self.story

    def leave(self, pause: float) -> None:
        self.state(pause, self.rng.choice(["inactive", "inactive", "Inactive"]), self.rng.choice(_REASONS))

    def after_leaving(self) -> None:
        rng = self.rng
        chance = rng.random()
        if chance < 0.35:  # back before, between or after the waits
            around = rng.choice([0.0, *self.waits])
            self.state(around + rng.uniform(0.3, 1.5), "active")
        elif chance < 0.45:  # another word for why
            self.state(rng.uniform(0.2, 1), "inactive", "agent ended")
        elif chance < 0.5:  # said twice
            self.leave(rng.uniform(0.2, 1))
        elif chance < 0.65:  # an agent was quicker than the wait
            status = rng.choice(["solved", "pending", "closed", "hold"])
            self.ticket(rng.uniform(0.2, 3), status=status, tags=rng.choice(["", "seen", "seen waiting"]))
        elif chance < 0.7:  # another conversation
            self.session += 1
            self.state(rng.uniform(0.2, 3), rng.choice(["active", "inactive", "ended"]))
        elif chance < 0.73:
            self.tombstone(rng.choice([TICKETS, SESSIONS]))
        elif chance < 0.76:
            self.state(rng.uniform(0.2, 3), "transferring")
        if rng.random() < 0.3:
            self.ticket(rng.uniform(0.1, 1), **self.later_fields())

    # --- what tickets say

    def first_fields(self) -> dict[str, Any]:
        rng = self.rng
        return {
            "priority": rng.choice(["low", "normal", "high", "urgent", None, "HIGH"]),
            "type": "question",
            "group_id": rng.choice([360, "360", 361, None, 999]),
            "assignee_id": rng.choice([None, 4001, "4002"]),
            "requester_id": rng.randrange(10**9),
            "brand_id": 77,
            "subject": "Where is my parcel? " + ticket_noise(rng),
            "description": (_PROSE * 3)[: rng.randrange(60, 160)],
            "via": {"channel": "messaging", "source": {"rel": "web_widget"}},
            "tags": rng.choice([["vip"], [], "vip waiting", ["waiting", "web"], "seen", ["vip", "nudged"], None]),
            "custom_fields": rng.choice([{"11": "keep"}, {"11": "x", "77": ""}, [{"id": 11, "value": 3}], {}]),
        }

    def later_fields(self) -> dict[str, Any]:
        rng = self.rng
        return rng.choice(
            [
                {"status": rng.choice(["open", "pending", "hold", "new"])},
                {"priority": rng.choice(["urgent", "low", ""])},
                {"tags": rng.choice(["vip", "", "seen waiting", ["a", "b"]])},
                {"custom_fields": rng.choice([{"11": None}, {"11": "keep"}, None, [{"id": "77", "value": "by_rule"}]])},
                {"group_id": rng.choice([None, 361]), "comment": (_PROSE * 2)[: rng.randrange(40, 140)]},
            ]
        )

    # --- steps

    def ticket(self, pause: float, **fields: Any) -> None:
        touched = self.rng.random() < 0.8

        def members(now: Millis) -> dict[str, Any]:
            return {"ticket": {**fields, **({"updated_at": instant(now)} if touched else {})}}

        self.add(pause, TICKETS, members)

    def state(self, pause: float, state: str, reason: str | None = None) -> None:
        members: dict[str, Any] = {"state": state, "session_id": f"{self.id}-{self.session}"}
        if reason is not None:
            members["reason"] = reason
        if self.channel is not None and self.rng.random() < 0.9:
            members["channel"] = self.channel
        if self.rng.random() < 0.1:
            del members["session_id"]
        members["client"] = {"agent": "Mozilla/5.0 (X11; Linux x86_64)", "page": "/orders/" + ticket_noise(self.rng)}
        self.add(pause, SESSIONS, lambda now: members)

    def tombstone(self, topic: str) -> None:
        self.put(self.rng.uniform(0.1, 1), lambda now: Sent(topic, self.id.encode(), None))

    def add(self, pause: float, topic: str, members: Callable[[Millis], dict[str, Any]]) -> None:
        """One good record, and now and then what goes wrong with records beside it."""
        rng = self.rng
        self.events += 1
        common: dict[str, Any] = {"ticket_id": int(self.id) if self.numeric else self.id}
        headers: tuple[tuple[str, bytes], ...] = ()
        naming = rng.random()
        if naming < 0.8:
            common["event_id"] = f"{topic[0]}-{self.id}-{self.events}"
        elif naming < 0.9:
            headers = (("ce_id", f"ce-{self.id}-{self.events}".encode()), ("traceparent", b"00-1-1-00"))
        if self.sequences is not None and rng.random() < 0.9:
            self.sequences[topic] += rng.choice([1, 1, 2])
            common["sequence"] = self.sequences[topic]
        lag = rng.choice([0, 0, 1, 40, 250])  # occurred a little before it was sent
        place = len(self.story.steps)

        def make(now: Millis) -> Sent:
            body = {**common, "occurred_at": instant(now - lag, micros=place), **members(now)}
            return Sent(topic, self.id.encode(), compact(body), headers)

        self.put(pause, make)
        noise = rng.random()
        if noise < 0.03:  # the same record once more
            self.put(rng.uniform(0.05, 1.5), lambda now: self.made[place])
        elif noise < 0.05:  # an older one, late
            self.put(rng.uniform(0.05, 1.5), self.stale(topic, dict(common)))
        elif noise < 0.07:
            self.put(rng.uniform(0.01, 0.3), self.broken(topic))

    def put(self, pause: float, make: Callable[[Millis], Sent]) -> None:
        place = len(self.story.steps)

        def remembered(now: Millis) -> Sent:
            self.made[place] = make(now)
            return self.made[place]

        self.story.steps.append((pause, remembered))

    def stale(self, topic: str, common: dict[str, Any]) -> Callable[[Millis], Sent]:
        common["event_id"] = f"late-{self.id}-{self.events}"
        if "sequence" in common:
            common["sequence"] -= 1
        members = {"ticket": {"status": "closed"}} if topic == TICKETS else {"state": "ended"}
        return lambda now: Sent(
            topic, self.id.encode(), compact({**common, "occurred_at": instant(now - 60_000), **members})
        )

    def broken(self, topic: str) -> Callable[[Millis], Sent]:
        rng, key = self.rng, self.id.encode()
        members = {"ticket": {"status": "closed"}} if topic == TICKETS else {"state": "ended"}
        good = {"ticket_id": self.id, "event_id": f"bad-{self.id}", **members}
        kind = rng.choice(["json", "utf8", "time", "member", "side", "key", "null key", "id", "future", "deep", "list"])
        if rng.random() < 0.01:
            kind = "large"

        def make(now: Millis) -> Sent:
            body = {**good, "occurred_at": instant(now)}
            partition = None
            if kind == "json":
                return Sent(topic, key, compact(body)[:-7])
            if kind == "utf8":
                return Sent(topic, key, b'{"ticket_id": "\xff\xfe"}')
            if kind == "list":
                return Sent(topic, key, b"[1, 2, 3]")
            if kind == "time":
                body["occurred_at"] = "yesterday"
            elif kind == "member":
                del body["occurred_at"]
            elif kind == "side":
                body["ticket" if topic == TICKETS else "state"] = 7
            elif kind == "key":
                body["ticket_id"] = self.id + "1"
            elif kind == "null key":
                key_, partition = None, int(self.id) % 2
                return Sent(topic, key_, compact(body), (("x-origin", b"test"),), partition)
            elif kind == "id":
                del body["ticket_id"]
            elif kind == "future":
                body["occurred_at"] = instant(now + 86_400_000)
            elif kind == "deep":
                return Sent(topic, key, compact(body)[:-1] + b',"x":' + b"[" * 70 + b"]" * 70 + b"}")
            elif kind == "large":
                body["x"] = "x" * (1 << 20)
            return Sent(topic, key, compact(body))

        return make


def instant(millis: Millis, *, micros: int = 0) -> str:
    """RFC 3339, now and then with microseconds, which count in the order."""
    whole = _EPOCH + timedelta(milliseconds=millis, microseconds=micros % 1000)
    return whole.isoformat(timespec="microseconds" if micros else "milliseconds").replace("+00:00", "Z")


def compact(body: dict[str, Any]) -> bytes:
    """Return JSON without spaces."""
    return json.dumps(body, separators=(",", ":")).encode()


def ticket_noise(rng: random.Random) -> str:
    """A few letters and digits, so that records don't compress to nothing."""
    return f"{rng.getrandbits(96):024x}"
