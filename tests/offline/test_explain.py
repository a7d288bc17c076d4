"""`lapse explain` tells what happened to a ticket, and why nothing did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.offline.command import BacktestError
from streams.offline.words import folded

TRIGGERS = """
triggers:
  - id: solve
    title: Solve
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
    actions:
      - {field: status, value: solved}
  - id: vip
    title: Look after our best
    conditions:
      all:
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: priority, operator: is, value: urgent}
        - {field: current_tags, operator: includes, value: vip}
    actions:
      - {field: priority, value: urgent}
  - id: remind
    title: Remind
    wait: 60s
    conditions:
      all:
        - {field: messaging_session_state, operator: is, value: inactive}
    actions:
      - {field: add_tags, value: reminded}
"""


class Scene:
    """A capture of one partition that is written event by event, and what `lapse explain` says of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        (folder / "triggers.yaml").write_text(TRIGGERS)

    def tell(self, topic: str, at: int, event_id: str, **members: Any) -> Scene:
        """Add an event of ticket 5158, `at` seconds after 10 o'clock."""
        instant = f"2026-03-01T10:{at // 60:02}:{at % 60:02}Z"
        value = {"event_id": event_id, "ticket_id": "5158", "occurred_at": instant, **members}
        line = {
            "topic": topic,
            "partition": 0,
            "offset": len(self.lines),
            "timestamp": 1_772_359_200_000 + at * 1000,
            "key": "5158",
            "value": value,
        }
        self.lines.append(json.dumps(line))
        return self

    def ticket(self, at: int, event_id: str, **ticket: Any) -> Scene:
        return self.tell("ticket-updates", at, event_id, ticket=ticket)

    def session(self, at: int, event_id: str, state: str, **members: Any) -> Scene:
        return self.tell("session-states", at, event_id, state=state, **members)

    def run(self, *more: str) -> Any:
        capture, triggers = self.folder / "capture.jsonl", self.folder / "triggers.yaml"
        capture.write_text("\n".join(self.lines) + "\n")
        files = ["--events", str(capture), "--triggers", str(triggers), "--ticket", "5158"]
        return CliRunner().invoke(app, ["explain", *files, *more])

    def json(self, *more: str) -> dict[str, Any]:
        result = self.run("--json", *more)
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path).ticket(0, "t-1", status="open", priority="low").session(1, "s-1", "active", channel="web")


def test_a_round_tells_every_trigger_and_condition_with_the_value_it_saw(scene: Scene) -> None:
    [now, *_] = scene.session(100, "s-2", "inactive").json()["rounds"]
    assert (now["outcome"], now["triggers"], now["wait_ms"]) == ("commanded", ["solve"], 0)
    [fired] = now["fired"]
    assert [(c["field"], c["before"], c["now"], c["holds"]) for c in fired["conditions"]] == [
        ("status", "open", "open", True),
        ("messaging_session_state", "active", "inactive", True),
    ]
    assert fired["changes"] == {"status": {"from": "open", "to": "solved"}}
    [missed] = now["not_fired"]
    assert (missed["id"], missed["short"]) == ("vip", 2)
    assert [c["holds"] for c in missed["conditions"]] == [True, False, False]
    assert now["not_asked"] == [{"id": "remind", "why": "wait 1m"}]
    assert now["command"]["command_id"] == now["command_id"]
    assert now["command"]["actions"] == now["actions"] == [{"field": "status", "value": "solved"}]


def test_the_text_says_the_same_for_people(scene: Scene) -> None:
    text = scene.session(100, "s-2", "inactive").run().stdout
    assert "Ticket 5158: 3 records, 1 lapse, 1 round\n" in text
    assert "✓ messaging_session_state changed_to inactive  (saw active → inactive)\n" in text
    assert "made status: open → solved\n" in text
    assert "- vip, Look after our best: 2 conditions short\n" in text
    assert "✗ current_tags includes [vip]  (saw no value)\n" in text
    assert "    status = solved\n" in text
    assert "A round with wait 1m has not ended. It is due at 2026-03-01T10:02:40Z" in text


def test_dead_letters_of_the_ticket_stand_in_its_story(scene: Scene) -> None:
    text = scene.tell("session-states", 30, "bad", state=7).run().stdout
    assert "dead letter     invalid, at $.state: " in text
    assert text.count("(event bad)") == 1


@pytest.mark.parametrize("width", [60, 80])
def test_on_a_terminal_no_line_is_wider_and_what_goes_on_stands_further_in(scene: Scene, width: int) -> None:
    scene.session(100, "s-2", "inactive")
    whole = scene.run().stdout
    assert max(map(len, whole.splitlines())) > 80
    lines = list(folded(whole.splitlines(), width))
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()) == " ".join(whole.split())
    assert "" in lines


def test_an_action_without_a_value_is_its_name(scene: Scene) -> None:
    file = scene.folder / "triggers.yaml"
    file.write_text(file.read_text().replace("{field: status, value: solved}", "{field: end_messaging_session}", 1))
    text = scene.session(100, "s-2", "inactive").run().stdout
    assert "    end_messaging_session\n" in text


def test_who_comes_back_cancels_and_is_named_as_the_cause(scene: Scene) -> None:
    rounds = scene.session(100, "s-2", "inactive").session(120, "s-3", "active").json()["rounds"]
    [cancelled] = [one for one in rounds if one["wait_ms"] == 60_000]
    assert cancelled["outcome"] == "cancelled"
    assert cancelled["why"] == "Before the round was due, the customer came back (event s-3, 2026-03-01T10:02:00Z)."
    assert cancelled["fired"] == cancelled["not_fired"] == []


def test_a_round_after_its_wait_sees_the_ticket_as_it_is_then(scene: Scene) -> None:
    scene.session(100, "s-2", "inactive").ticket(130, "t-2", tags=["late"]).ticket(200, "t-3", priority="high")
    [late] = [one for one in scene.json()["rounds"] if one["wait_ms"] == 60_000]
    assert late["fired"][0]["changes"] == {"tags": {"from": ["late"], "to": ["late", "reminded"]}}


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ("late", "It came too late: a newer event"),
        ("s-1", "It opened the session."),
        ("again", "It told the state that the session was in already: a repeat."),
        ("bad", "The record is a dead letter (invalid)"),
        ("t-1", "It updated the ticket; only a lapse of the session starts rounds."),
        ("s-2", "It was a lapse"),
    ],
)
def test_why_nothing_happened_at_an_event(scene: Scene, event: str, says: str) -> None:
    scene.session(20, "again", "active").session(10, "late", "inactive").tell("session-states", 30, "bad", state=7)
    found = scene.session(100, "s-2", "inactive").json("--event", event)
    assert found["event"]["why"].startswith(says)
    assert {one["event_id"] for one in found["rounds"]} <= {event}
    assert bool(found["rounds"]) is (event == "s-2")
    assert says in scene.run("--event", event).stdout


def test_a_lapse_without_a_ticket_waits_for_it_and_then_is_unjoined(tmp_path: Path) -> None:
    scene = Scene(tmp_path).session(0, "s-1", "active").session(5, "s-2", "inactive")
    [parked] = [one for one in scene.json()["pending"] if one["wait_ms"] == 0]
    assert parked["why"].startswith("Its ticket was not heard of yet")
    unjoined = scene.session(90, "s-3", "inactive", reason="other").json()["rounds"]
    assert [one["outcome"] for one in unjoined if one["wait_ms"] == 0] == ["unjoined"]
    assert "within `join_wait` (30s)" in unjoined[0]["why"]


def test_lines_that_hold_no_record_are_named_and_left_out(scene: Scene) -> None:
    scene.session(100, "s-2", "inactive").lines.insert(1, "{oops")
    done = scene.run()
    assert done.exit_code == 0
    assert done.stderr.startswith(f"{scene.folder / 'capture.jsonl'}:2: ")
    assert "Ticket 5158: 3 records, 1 lapse" in done.stdout


def test_timers_are_no_records(scene: Scene) -> None:
    text = scene.session(100, "s-2", "inactive").ticket(400, "t-2", priority="low").run().stdout
    assert "Ticket 5158: 4 records, 1 lapse, 2 rounds\n" in text


def test_settings_decide_as_in_a_backtest(scene: Scene) -> None:
    scene.session(100, "s-2", "inactive")
    assert {one["outcome"] for one in scene.json("--act-from", "2026-04-01T00:00:00Z")["rounds"]} == {"historic"}
    [dry, *_] = scene.json("--dry-run")["rounds"]
    assert (dry["outcome"], dry["command"], dry["command_id"] is not None) == ("dry_run", None, True)
    closed = scene.ticket(50, "t-2", status="closed").json()["rounds"]
    assert closed[0]["why"] == "The ticket was closed when the round began."


def test_what_is_not_in_the_capture_is_said_with_what_is(scene: Scene) -> None:
    result = scene.session(100, "s-2", "inactive").run("--event", "nope")
    assert isinstance(result.exception, BacktestError)
    assert (result.exception.exit_code, str(result.exception)) == (
        1,
        "ticket 5158 has 3 events, none of them is nope; its lapses are s-2",
    )
    scene.lines = [line.replace("5158", "5159") for line in scene.lines]
    assert "no record of ticket 5158 in" in str(scene.run().exception)


def test_explaining_agrees_with_the_backtest(scene: Scene) -> None:
    scene.session(100, "s-2", "inactive").session(300, "s-3", "active").session(400, "s-4", "inactive")
    told = scene.json()
    out = scene.folder / "transitions.jsonl"
    files = [str(scene.folder / "capture.jsonl"), "--triggers", str(scene.folder / "triggers.yaml")]
    CliRunner().invoke(app, ["backtest", "--events", *files, "--transitions", str(out)])
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert told["transitions"] == [one for one in records if one["type"] == "transition"]
    names = [one for one in records if one["type"] == "evaluation"]
    assert [{k: one[k] for k in names[0]} for one in told["rounds"]] == names
