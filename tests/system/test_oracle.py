"""The oracle on cases small enough to check by eye, and against the engine over thousands of stories."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.model import SECOND
from streams.core.rounds import RoundPolicy
from streams.offline.backtest import run_backtest
from streams.offline.captures import Captures
from streams.offline.outputs import Outputs
from streams.rules.triggers import load_triggers
from tests.system.compare import compare_all
from tests.system.oracle import SESSIONS, TICKETS, Record, expect, load_rules
from tests.system.traffic import simulate

TRIGGERS = Path(__file__).with_name("triggers.yaml")
TEN = 1_772_359_200_000  # 2026-03-01T10:00:00Z


def _at(seconds: float) -> str:
    return f"2026-03-01T10:{int(seconds) // 60:02}:{int(seconds) % 60:02}.{int(seconds * 1000) % 1000:03}Z"


class _Tape:
    """Records of one partition, written one by one at a second."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def put(self, seconds: float, topic: str, value: bytes | None, key: bytes | None = b"1") -> None:
        offset = sum(record.topic == topic for record in self.records)
        self.records.append(Record(topic, 0, offset, TEN + int(seconds * 1000), key, value))

    def ticket(self, seconds: float, event_id: str = "", **fields: Any) -> None:
        body = {"event_id": event_id or f"t{seconds}", "ticket_id": "1", "occurred_at": _at(seconds), "ticket": fields}
        self.put(seconds, TICKETS, json.dumps(body).encode())

    def session(
        self, seconds: float, state: str, reason: str | None = None, event_id: str = "", **members: Any
    ) -> None:
        body = {"event_id": event_id or f"s{seconds}", "ticket_id": 1, "occurred_at": _at(seconds), "state": state}
        self.put(seconds, SESSIONS, json.dumps({**body, "reason": reason, **members}).encode())

    def outcomes(self) -> list[tuple[int, str]]:
        return sorted((e["wait_ms"], e["outcome"]) for e in self.expect().evaluations)

    def expect(self, **settings: Any) -> Any:
        return expect(self.records, load_rules(TRIGGERS), join_wait=4, **settings)


OFFLINE = "User inactive or offline"


def test_an_abandoned_open_ticket_is_solved_by_one_command_with_what_it_expects():
    tape = _Tape()
    tape.ticket(0, status="Open", tags="waiting a", updated_at="x")
    tape.session(1, "active", channel="Web")
    tape.session(2, "inactive", OFFLINE, event_id="s-9")
    expected = tape.expect()
    (command,) = [c for c in expected.commands.values() if c["wait_ms"] == 0]
    assert command == {
        "command_id": "171425af-8ccd-5db8-bb0b-0766127a93fb",
        "type": "ticket.update",
        "ticket_id": "1",
        "issued_at": "2026-03-01T10:00:02Z",
        "transition": {
            "episode": 1,
            "from": "active",
            "to": "inactive",
            "reason": "user_inactive_or_offline",
            "occurred_at": "2026-03-01T10:00:02Z",
            "event_id": "s-9",
        },
        "wait_ms": 0,
        "triggers": [
            {"id": "solve-abandoned", "title": "Solve abandoned conversations"},
            {"id": "note-solved-by-us", "title": "Note what the first rule did"},
        ],
        "actions": [
            {"field": "status", "value": "solved"},
            {"field": "custom_fields_77", "value": "by_rule"},
            {"field": "add_tags", "value": ["abandoned_conversation"]},
            {"field": "remove_tags", "value": ["waiting"]},
        ],
        "expected": {"status": "open", "custom_fields_77": None, "updated_at": "x"},
    }
    assert [t["kind"] for t in expected.transitions] == ["opened", "lapsed"]


@pytest.mark.parametrize(
    ("back", "outcomes"),
    [
        (3.5, [(0, "no_match"), (2000, "cancelled"), (5000, "cancelled")]),
        (4.5, [(0, "no_match"), (2000, "commanded"), (5000, "cancelled")]),
        (4, [(0, "no_match"), (2000, "commanded"), (5000, "cancelled")]),
        (8, [(0, "no_match"), (2000, "commanded"), (5000, "no_match")]),
    ],
)
def test_a_return_before_the_round_is_due_cancels_it(back: float, outcomes: list[tuple[int, str]]):
    tape = _Tape()
    tape.ticket(0, status="pending")
    tape.session(2, "inactive", OFFLINE)
    tape.session(back, "active")
    assert tape.outcomes() == outcomes


def test_a_round_without_a_ticket_is_run_by_its_update_or_ends_unjoined():
    tape = _Tape()
    tape.session(1, "inactive", OFFLINE)
    tape.ticket(4, status="open")
    # At 4 the round of wait 0 still stands (until 5), and so does that of 2 s, parked at 3.
    assert tape.outcomes() == [(0, "commanded"), (2000, "commanded"), (5000, "no_match")]
    assert {c["issued_at"] for c in tape.expect().commands.values()} == {"2026-03-01T10:00:04Z"}
    late = _Tape()
    late.session(1, "inactive", OFFLINE)
    late.ticket(5, status="open")  # expiry comes before an update at the same instant
    assert late.outcomes() == [(0, "unjoined"), (2000, "commanded"), (5000, "no_match")]


def test_between_the_topics_the_lower_timestamp_goes_first_and_the_ticket_on_a_tie():
    tape = _Tape()
    tape.session(2, "inactive", OFFLINE)
    tape.ticket(0, status="pending")
    tape.ticket(2, status="open")
    assert tape.outcomes()[0] == (0, "commanded")


def test_stale_duplicate_and_broken_records_change_nothing():
    tape = _Tape()
    tape.ticket(5, status="open", event_id="a")
    tape.ticket(5, status="closed", event_id="a")
    tape.ticket(4, status="closed")
    tape.put(6, TICKETS, b"{")
    tape.put(6, TICKETS, b"{}", key=None)
    tape.put(6, TICKETS, json.dumps({"ticket_id": 2, "occurred_at": _at(6), "ticket": {}}).encode())
    tape.session(7, "inactive", OFFLINE)
    expected = tape.expect()
    assert expected.results == {"applied": 2, "duplicate": 1, "stale": 1, "dead_letter": 3}
    assert list(expected.dead_letters.values()) == ["not_json", "missing_key", "key_mismatch"]
    assert [e["outcome"] for e in expected.evaluations] == ["commanded", "commanded", "no_match"]


def test_after_ended_inactive_is_no_lapse_and_another_session_starts_anew():
    tape = _Tape()
    tape.session(1, "active", session_id="a")
    tape.session(2, "ended", session_id="a")
    tape.session(3, "inactive", session_id="a")
    tape.session(4, "inactive", session_id="b")
    tape.session(5, "active", session_id="b")
    kinds = [(t["kind"], t["from"], t["episode"]) for t in tape.expect().transitions]
    assert kinds == [
        ("opened", None, 0),
        ("ended", "active", 0),
        ("other", "ended", 0),
        ("lapsed", None, 1),
        ("resumed", "inactive", 1),
    ]


def test_lapses_before_act_from_end_as_historic_at_once():
    tape = _Tape()
    tape.session(1, "inactive")
    outcomes = [e["outcome"] for e in tape.expect(act_from=(TEN + 1001) * 1000).evaluations]
    assert outcomes == ["historic"] * 3


def test_the_comparison_tells_lost_phantom_and_twice_apart():
    tape = _Tape()
    tape.ticket(0, status="open")
    tape.session(2, "inactive", OFFLINE)
    expected = tape.expect()
    good = list(expected.commands.values())
    assert compare_all(expected, good, expected.transitions + expected.evaluations)[0].counts == (0, 0, 0)
    assert compare_all(expected, good[1:], [])[0].counts == (1, 0, 0)
    assert compare_all(expected, [*good, good[0]], [])[0].counts == (0, 0, 1)
    assert compare_all(expected, [*good[1:], {**good[0], "wait_ms": 7}], [])[0].counts == (1, 1, 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.timeout(120)
def test_engine_and_oracle_agree_on_thousands_of_stories(seed: int, tmp_path: Path):
    records = simulate(seed, 6_000, start=TEN)
    expected = expect(records, load_rules(TRIGGERS), join_wait=4, until=max(r.timestamp for r in records) * 1000)
    capture = tmp_path / "capture.jsonl"
    capture.write_bytes(b"".join(map(_line, records)))
    rules = load_triggers(TRIGGERS)
    assert rules.errors == []
    engine = Engine(Rules(rules.ruleset), EngineSettings(RoundPolicy(join_wait=4 * SECOND)))
    commands, transitions = io.BytesIO(), io.BytesIO()
    with Captures([capture]) as captures:
        assert not captures.broken
        report = run_backtest(
            captures, engine, [], now=(TEN + 3_600_000) * 1000, outputs=Outputs("lapse", commands, transitions)
        )

    differences = compare_all(expected, _lines(commands), _lines(transitions))
    assert [d.counts for d in differences] == [(0, 0, 0)] * 3, "\n".join(map(str, differences))
    counted = {name: getattr(report, name) for name in ("applied", "stale", "duplicate")}
    assert {**counted, "dead_letter": sum(report.dead_letters.values())} == dict(expected.results)
    for code, count in report.dead_letters.items():
        assert count == list(expected.dead_letters.values()).count(code), code
    assert report.pending == expected.pending
    assert len(expected.commands) > 500


def _line(record: Record) -> bytes:
    """A capture line as SPEC section 7 has it, written by hand: the value as it is, or a string for what is no JSON."""
    value = b"null" if record.value is None else record.value
    try:
        if not isinstance(json.loads(value), dict | None):
            raise ValueError
    except ValueError:
        value = json.dumps(value.decode(errors="surrogateescape")).encode()
    head = {name: getattr(record, name) for name in ("topic", "partition", "offset", "timestamp")}
    head["key"] = None if record.key is None else record.key.decode()
    if named := {name: text.decode() for name, text in record.headers if name == "ce_id"}:
        head["headers"] = named
    return json.dumps(head).encode()[:-1] + b',"value":' + value + b"}\n"


def _lines(file: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]
