"""A worker for the pages: the real engine, partition, journal and lookup, fed record by record, without Kafka."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

from streams.core.cycle import Rules
from streams.core.engine import Engine
from streams.core.model import SECOND
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.offline.run import settled
from streams.rules.triggers import parse_triggers
from streams.telemetry.observer import Metrics
from streams.web.journal import Journal
from streams.web.server import Server
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.instants import text
from streams.wire.rows import MsgpackRows, session_state
from streams.worker.lookup import Lookup
from tests.web.worker import Worker, a_partition

RULES = """
triggers:
  - id: solve
    title: Solve <b>abandoned</b>
    conditions:
      all:
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: status, operator: is, value: open}
    actions: [{field: status, value: solved}]
  - id: vip
    title: Look after VIPs
    conditions:
      all:
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: priority, operator: is, value: urgent}
        - {field: current_tags, operator: includes, value: vip}
    actions: [{field: group_id, value: "360"}]
  - id: remind
    title: Remind
    wait: 60s
    conditions:
      all: [{field: messaging_session_state, operator: is, value: inactive}]
    actions: [{field: add_tags, value: reminded}]
"""


class Desk:
    """Partition 0 of one; `tell` takes one record, `at` seconds from now (by default now)."""

    def __init__(self, engine: Engine | None = None) -> None:
        ruleset = parse_triggers(RULES, "rules").ruleset
        assert ruleset is not None
        self.ruleset = ruleset
        self.journal = Journal()
        self.metrics = Metrics(abandonment_reasons=["user_inactive_or_offline"], triggers=["solve", "vip", "remind"])
        self.metrics.assigned([0])
        partition = Partition(
            engine or Engine(Rules(ruleset)),
            number=0,
            partition_count=1,
            decode=decode,
            rows=MsgpackRows(),
            dead_letter_limit=None,
            clock_grace=0,
        )
        partition.start()
        self.pipeline = Pipeline(partition)
        self.worker = Worker([a_partition(0)])
        supervisor: Any = SimpleNamespace(
            partition_count=1, processors={0: SimpleNamespace(partition=partition)}, assigned={0}
        )
        self.lookup = Lookup(supervisor, session_state)
        self._offsets = dict.fromkeys(Topic, 0)

    def server(self, **others: Any) -> Server:
        return Server(
            port=0,
            metrics=self.metrics,
            source=self.worker,
            ruleset=self.ruleset,
            journal=self.journal,
            tables=self.lookup,
            **others,
        )

    def tell(self, topic: Topic, ticket_id: str, at: float, members: dict[str, Any] | None) -> None:
        now = int(time.time() * SECOND)
        when = now + int(at * SECOND)
        offset = self._offsets[topic]
        self._offsets[topic] += 1
        body = None
        if members is not None:
            common = {"event_id": f"{topic.value[0]}-{offset}", "ticket_id": ticket_id, "occurred_at": text(when)}
            body = json.dumps({**common, **members}).encode()
        self.pipeline.feed(topic, [CapturedRecord(offset, when // 1000, ticket_id.encode(), body)], 0)
        self.pipeline.slice(now + SECOND, dict.fromkeys(Topic, 0))
        for batch in settled(self.pipeline):
            self.metrics.batch_committed(0, batch, 0.01)
            self.journal.batch_committed(batch)
            self.metrics.pending_rounds(0, batch.pending_rounds)

    def ticket(self, ticket_id: str, at: float = 0.0, **fields: Any) -> None:
        self.tell(Topic.TICKETS, ticket_id, at, {"ticket": fields})

    def session(self, ticket_id: str, state: str, at: float = 0.0, reason: str | None = None, **members: Any) -> None:
        self.tell(Topic.SESSIONS, ticket_id, at, {"state": state, "reason": reason, "channel": "web", **members})

    def abandoned(self, ticket_id: str, **fields: Any) -> None:
        """A ticket whose customer wrote a while ago and has just left."""
        self.ticket(ticket_id, -3.0, **{"status": "open", **fields})
        self.session(ticket_id, "active", -2.0)
        self.session(ticket_id, "inactive", -1.0, "user_inactive_or_offline")
