"""Silence as presence: who has not written for too long, decided on a log in memory that reads back what it writes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from streams.core.batch import Batch
from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.model import MILLISECOND, SECOND
from streams.core.names import Table, Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.core.rounds import RoundPolicy
from streams.core.silence import SilenceEngine
from streams.core.triggers import Ruleset
from streams.rules.triggers import parse_triggers
from streams.wire import instants
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.wire.silence import SilenceRows, decode_whole, silence_writes

MINUTE = 60
WAITS = {"mobile": 15 * MINUTE * SECOND}
START = 1_772_359_200
"""2026-03-01T10:00:00Z"""


class Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def clock(seconds: float) -> str:
    return instants.text(round((START + seconds) * SECOND))


class Silence:
    """`lapse ingest --silence` over one partition in memory. Times are seconds after START."""

    def __init__(self, waits: Mapping[str, int] = WAITS, act_from: float | None = None) -> None:
        self.logs: dict[Topic, list[Record]] = {topic: [] for topic in Topic}
        self.waits = waits
        self.act_from = None if act_from is None else round((START + act_from) * SECOND)
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.committed: dict[Topic, int] = dict.fromkeys(Topic, 0)
        self.stream_time = 0
        self.states: list[dict[str, Any]] = []
        self.ids = itertools.count()
        self.restart()

    def restart(self) -> None:
        """Begin again from what was committed, as a new process would."""
        settings = EngineSettings(rounds=RoundPolicy(act_from=self.act_from))
        self.partition = Partition(
            SilenceEngine(self.waits, instants.read, settings),
            number=0,
            partition_count=1,
            decode=decode_whole(decode),
            rows=SilenceRows(),
            dead_letter_limit=None,
            clock_grace=0,
            stream_time=self.stream_time,
        )
        self.partition.restore(Table.SESSIONS, self.changelog)
        self.partition.start()
        self.pipeline = Pipeline(self.partition)
        self.fed = dict(self.committed)

    def write(self, topic: Topic, at: float, value: dict[str, Any] | None, ticket: str = "7") -> None:
        log = self.logs[topic]
        timestamp = round((START + at) * 1000)
        body = None if value is None else json.dumps({"event_id": f"e{next(self.ids)}", "ticket_id": ticket} | value)
        log.append(Record(len(log), timestamp, ticket.encode(), None if body is None else body.encode()))

    def message(self, at: float, *, arrives: float | None = None, ticket: str = "7", channel: str = "mobile") -> None:
        """A comment of the customer, as `lapse ingest` writes it."""
        members = {"status": "open", "channel": channel, "customer_message_at": clock(at)}
        when = at if arrives is None else arrives
        self.write(Topic.TICKETS, when, {"occurred_at": clock(at), "ticket": members}, ticket)

    def update(self, at: float, **members: Any) -> None:
        self.write(Topic.TICKETS, at, {"occurred_at": clock(at), "ticket": members})

    def state(self, at: float, state: str, **members: Any) -> None:
        """A session state of somebody else."""
        self.write(Topic.SESSIONS, at, {"occurred_at": clock(at), "state": state, **members})

    def run(self, now: float, *, crash: bool = False) -> list[dict[str, Any]]:
        """Take everything, and let time come to `now`; return what is written. With `crash`, nothing is."""
        instant = round((START + now) * SECOND)
        before = len(self.states)
        while True:
            for topic, log in self.logs.items():
                if fresh := log[self.fed[topic] :]:
                    self.pipeline.feed(topic, fresh, instant)
                    self.fed[topic] = len(log)
            while not self.pipeline.slice(instant, dict.fromkeys(Topic, instant)):
                pass
            batch = self.pipeline.hand_over()
            if batch is None:
                return self.states[before:]
            if crash:
                self.restart()
                return []
            made = silence_writes(batch)
            self.changelog += [(write.key, write.value) for write in made.get(Table.SESSIONS, ())]
            for write in made.get(Topic.SESSIONS, ()):
                log = self.logs[Topic.SESSIONS]
                log.append(Record(len(log), instant // MILLISECOND, write.key, write.value))
                self.states.append(json.loads(write.value))
            self.committed |= batch.next_offsets
            self.stream_time = batch.stream_time
            self.pipeline.settle()

    def told(self) -> list[tuple[str, str | None, str]]:
        """Every state written so far: state, reason, time."""
        return [(state["state"], state.get("reason"), state["occurred_at"]) for state in self.states]


def test_after_so_long_without_a_message_the_session_is_inactive_with_the_reason_silent():
    silence = Silence()
    silence.message(0)
    assert silence.run(15 * MINUTE - 1) == []
    assert silence.run(15 * MINUTE) == [
        {
            "event_id": f"lapse-silence/7/{START * SECOND}/inactive",
            "ticket_id": "7",
            "occurred_at": "2026-03-01T10:15:00Z",
            "state": "inactive",
            "reason": "silent",
            "channel": "mobile",
        }
    ]
    assert silence.run(60 * MINUTE) == [], "once a silence"


def test_the_next_message_makes_it_active_again_and_the_wait_begins_anew():
    silence = Silence()
    silence.message(0)
    silence.run(20 * MINUTE)
    silence.message(20 * MINUTE)
    silence.run(40 * MINUTE)
    assert silence.told() == [
        ("inactive", "silent", clock(15 * MINUTE)),
        ("active", None, clock(20 * MINUTE)),
        ("inactive", "silent", clock(35 * MINUTE)),
    ]


def test_a_message_within_the_wait_puts_it_off():
    silence = Silence()
    silence.message(0)
    silence.message(14 * MINUTE)
    assert silence.run(28 * MINUTE) == []
    silence.run(29 * MINUTE)
    assert silence.told() == [("inactive", "silent", clock(29 * MINUTE))]


def test_an_agents_update_puts_nothing_off():
    silence = Silence()
    silence.message(0)
    silence.update(14 * MINUTE, status="pending", channel="mobile")
    silence.run(15 * MINUTE)
    assert silence.told() == [("inactive", "silent", clock(15 * MINUTE))]


def test_downtime_changes_nothing_in_what_is_written_except_when():
    late = Silence()
    late.message(0)
    late.message(20 * MINUTE)
    late.message(34 * MINUTE)
    late.run(6 * 60 * MINUTE)
    assert late.told() == [
        ("inactive", "silent", clock(15 * MINUTE)),
        ("active", None, clock(20 * MINUTE)),
        ("inactive", "silent", clock(49 * MINUTE)),
    ]


def test_a_message_that_arrives_late_makes_the_session_active_not_before_it_was_inactive():
    silence = Silence()
    silence.message(0)
    silence.run(15 * MINUTE)
    silence.message(14 * MINUTE, arrives=16 * MINUTE)
    silence.run(16 * MINUTE)
    assert silence.told()[1] == ("active", None, clock(15 * MINUTE)), "the worker must not take it for stale"
    silence.run(29 * MINUTE)
    assert silence.told()[2:] == [("inactive", "silent", clock(29 * MINUTE))]


def test_a_message_that_is_sent_twice_counts_once():
    silence = Silence()
    silence.message(0)
    silence.run(15 * MINUTE)
    silence.message(0, arrives=16 * MINUTE)
    assert silence.run(40 * MINUTE) == []


def test_a_channel_without_a_wait_is_left_alone():
    silence = Silence()
    silence.message(0, channel="web")
    assert silence.run(600 * MINUTE) == []
    assert silence.changelog == [], "and costs no row"


def test_the_channel_of_the_session_counts_where_that_of_the_ticket_has_no_wait():
    silence = Silence()
    silence.state(0, "active", channel="mobile")
    silence.message(1 * MINUTE, channel="web")
    silence.run(16 * MINUTE)
    assert silence.told() == [("inactive", "silent", clock(16 * MINUTE))]


def test_an_active_of_somebody_else_begins_the_wait_anew():
    silence = Silence()
    silence.message(0)
    silence.state(10 * MINUTE, "active")
    assert silence.run(24 * MINUTE) == []
    silence.run(25 * MINUTE)
    assert silence.told() == [("inactive", "silent", clock(25 * MINUTE))]


def test_a_session_that_somebody_else_made_inactive_is_left_to_them():
    silence = Silence()
    silence.message(0)
    silence.state(5 * MINUTE, "inactive", reason="user_inactive_or_offline")
    silence.message(30 * MINUTE)
    assert silence.run(60 * MINUTE) == []
    silence.state(61 * MINUTE, "active")
    silence.run(76 * MINUTE)
    assert silence.told() == [("inactive", "silent", clock(76 * MINUTE))]


def test_an_ended_session_is_left_alone():
    silence = Silence()
    silence.message(0)
    silence.state(5 * MINUTE, "ended")
    silence.state(6 * MINUTE, "inactive")
    silence.message(7 * MINUTE)
    assert silence.run(60 * MINUTE) == []


def test_a_stale_state_of_somebody_else_changes_nothing():
    silence = Silence()
    silence.message(0)
    silence.run(15 * MINUTE)
    silence.write(Topic.SESSIONS, 16 * MINUTE, {"occurred_at": clock(14 * MINUTE), "state": "active"})
    silence.message(20 * MINUTE)
    silence.run(20 * MINUTE)
    assert [state for state, *_ in silence.told()] == ["inactive", "active"]


def test_closed_and_deleted_tickets_are_left_alone_and_their_rows_go():
    for end in ("closed", None):
        silence = Silence()
        silence.message(0)
        if end is None:
            silence.write(Topic.TICKETS, 1 * MINUTE, None)
        else:
            silence.update(1 * MINUTE, status=end)
        silence.message(0.5 * MINUTE, arrives=2 * MINUTE)
        assert silence.run(60 * MINUTE) == []
        silence.run(31 * 24 * 60 * MINUTE)
        assert silence.changelog[-1] == (b"7", None)


def test_a_forgotten_session_waits_for_the_next_message():
    silence = Silence()
    silence.message(0)
    silence.write(Topic.SESSIONS, 5 * MINUTE, None)
    assert silence.run(30 * MINUTE) == []
    silence.message(31 * MINUTE)
    silence.run(46 * MINUTE)
    assert silence.told() == [("inactive", "silent", clock(46 * MINUTE))]


def test_silence_before_act_from_is_history():
    silence = Silence(act_from=60 * MINUTE)
    silence.message(0)
    silence.message(50 * MINUTE, ticket="8")
    silence.run(120 * MINUTE)
    assert [(state["ticket_id"], state["occurred_at"]) for state in silence.states] == [("8", clock(65 * MINUTE))]
    silence.message(121 * MINUTE)
    assert silence.run(122 * MINUTE) == [], "nothing was written that a message would end"


def test_a_wait_survives_a_restart_and_goes_on_with_its_length():
    silence = Silence()
    silence.message(0)
    silence.run(5 * MINUTE)
    silence.waits = {"mobile": 60 * MINUTE * SECOND}
    silence.restart()
    silence.run(15 * MINUTE)
    assert silence.told() == [("inactive", "silent", clock(15 * MINUTE))]


def test_a_channel_that_lost_its_wait_is_waited_for_no_longer():
    silence = Silence()
    silence.message(0)
    silence.run(5 * MINUTE)
    silence.waits = {"whatsapp": 60 * MINUTE * SECOND}
    silence.restart()
    assert silence.run(60 * MINUTE) == []


def test_a_time_that_is_none_and_one_in_the_future_do_not_hold_the_wait_up():
    silence = Silence()
    silence.message(0)
    silence.update(1 * MINUTE, channel="mobile", customer_message_at="yesterday")
    silence.run(15 * MINUTE)
    silence.update(16 * MINUTE, channel="mobile", customer_message_at=clock(10_000 * MINUTE))
    silence.run(31 * MINUTE)
    assert silence.told() == [
        ("inactive", "silent", clock(15 * MINUTE)),
        ("active", None, clock(16 * MINUTE)),
        ("inactive", "silent", clock(31 * MINUTE)),
    ]


# --- laws ------------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["message", "active", "inactive", "ended", "closed", "late", "repeat"]),
        st.integers(0, 25 * MINUTE),
        st.sampled_from(["7", "8"]),
        st.sampled_from(["go on", "restart", "crash"]),
    ),
    max_size=12,
)


def play(steps: Any, *, faults: bool) -> Silence:
    silence, now = Silence(), 0.0
    for what, later, ticket, fault in steps:
        now += later
        if what in {"active", "inactive", "ended"}:
            silence.write(Topic.SESSIONS, now, {"occurred_at": clock(now), "state": what, "channel": "mobile"}, ticket)
        elif what == "closed":
            silence.write(Topic.TICKETS, now, {"occurred_at": clock(now), "ticket": {"status": "closed"}}, ticket)
        elif what == "late":
            silence.message(max(0, now - 10 * MINUTE), arrives=now, ticket=ticket)
        else:
            silence.message(now, ticket=ticket)
            if what == "repeat":
                silence.message(now, ticket=ticket)
        if faults and fault == "crash":
            silence.run(now, crash=True)
        silence.run(now)
        if faults and fault == "restart":
            silence.restart()
    silence.run(now + 20 * MINUTE)
    silence.run(now + 20 * MINUTE)
    return silence


NO_RULES = Ruleset(())


def worker(silence: Silence, ruleset: Ruleset = NO_RULES) -> tuple[Partition, Batch]:
    """The worker's tables and its batch once it has read tickets and session states, by the order of their topics."""
    partition = Partition(
        Engine(Rules(ruleset), EngineSettings()),
        number=0,
        partition_count=1,
        decode=decode,
        rows=MsgpackRows(),
        dead_letter_limit=None,
        clock_grace=0,
    )
    pipeline = Pipeline(partition)
    now = (START + 24 * 60 * MINUTE) * SECOND
    for topic, log in silence.logs.items():
        pipeline.feed(topic, log, now)
    while not pipeline.slice(now, dict.fromkeys(Topic, now)):
        pass
    batch = pipeline.hand_over()
    assert batch is not None
    pipeline.settle()
    return partition, batch


@given(STEPS)
def test_crashes_and_restarts_change_no_byte_of_what_is_written(steps):
    assert play(steps, faults=True).states == play(steps, faults=False).states


@given(STEPS)
def test_the_worker_agrees_about_the_state_of_every_session(steps):
    """Its order rules take no state of ours for stale or repeated that we count on."""
    silence = play(steps, faults=True)
    ids = [state["event_id"] for state in silence.states]
    assert len(ids) == len(set(ids))
    if not silence.states:
        return
    tables, _ = worker(silence)
    for ticket in {state["ticket_id"] for state in silence.states}:
        ours, theirs = silence.partition.session(ticket), tables.session(ticket)
        assert ours is not None and theirs is not None
        assert (ours.state, ours.reason) == (theirs.state, theirs.reason)


def test_triggers_of_the_worker_fire_on_silence_and_a_return_ends_what_waits():
    parsed = parse_triggers(
        """
triggers:
  - id: at-once
    title: At once
    conditions: &silent
      all:
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: messaging_session_inactive_reason, operator: is, value: silent}
    actions: [{field: add_tags, value: silent}]
  - id: later
    title: Later
    wait: 10m
    conditions: *silent
    actions: [{field: status, value: solved}]
"""
    )
    assert parsed.ruleset is not None, parsed.errors
    silence = Silence()
    silence.message(0)
    silence.run(16 * MINUTE)
    silence.message(20 * MINUTE)
    silence.run(20 * MINUTE)
    silence.run(36 * MINUTE)
    _, batch = worker(silence, parsed.ruleset)
    fired = [(command.triggers[0][0], instants.text(command.lapse.occurred_at)) for command in batch.commands]
    assert fired == [
        ("at-once", clock(15 * MINUTE)),
        ("at-once", clock(35 * MINUTE)),
        ("later", clock(35 * MINUTE)),
    ], "the first silence ended within the ten minutes"


def test_a_state_of_the_same_instant_that_is_in_the_topic_before_ours_does_not_hold():
    silence = Silence()
    silence.message(0)
    silence.state(15 * MINUTE, "active")
    silence.run(16 * MINUTE)
    assert silence.told() == [("inactive", "silent", clock(15 * MINUTE))]
    silence.message(20 * MINUTE)
    silence.run(21 * MINUTE)
    assert silence.told()[1:] == [("active", None, clock(20 * MINUTE))]


@given(STEPS)
def test_what_it_reads_of_its_own_writes_nothing(steps):
    silence = play(steps, faults=False)
    own = [record for record in silence.logs[Topic.SESSIONS] if b"lapse-silence/" in (record.value or b"")]
    alone = Silence()
    alone.logs[Topic.SESSIONS] = [at_offset(record, number) for number, record in enumerate(own)]
    assert alone.run(10_000 * MINUTE) == []
    assert alone.changelog == []


def at_offset(record: Record, offset: int) -> Record:
    return record._replace(offset=offset)
