"""docs/records.md: its examples are real, its tables are whole, its consumer keeps the contract on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from jsonschema import Draft202012Validator, FormatChecker

from tests.kafka_kit import topics
from tests.kafka_kit.broker import Broker
from tests.system.installation import Installation

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "docs" / "examples" / "apply_commands.py"
RECIPES = ROOT / "deploy" / "triggers" / "recipes.yaml"

SECTIONS = {
    link[1]: section
    for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
    if (link := re.search(r"^Schema[^\n]*\(\.\./schemas/([\w-]+)\.schema\.json\)", section, re.MULTILINE))
}
RECORDS = sorted(path.name.removesuffix(".schema.json") for path in (ROOT / "schemas").glob("*.schema.json"))
INPUTS = {"ticket-update": "ticket-updates", "session-state": "session-states"}


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text())
    return found


def examples(name: str) -> list[dict[str, Any]]:
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", SECTIONS[name], re.M | re.S)]


def test_every_record_with_a_schema_is_on_the_page():
    """A line of a capture and a trigger file are no records of a topic."""
    assert sorted([*SECTIONS, "capture-line", "trigger-file"]) == RECORDS


@pytest.mark.parametrize("name", SECTIONS)
def test_the_examples_validate_against_their_schema(name):
    assert examples(name)
    for example in examples(name):
        Draft202012Validator(schema(name), format_checker=FormatChecker()).validate(example)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_table_of_a_record_names_each_member_once(name):
    table = SECTIONS[name].split("|---|", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^\| `([\w.]+)` \| (?:(yes|no) \|)?", table, re.MULTILINE)
    found = schema(name)
    assert sorted(member for member, _ in rows) == sorted(found["properties"])
    if name in INPUTS:
        assert {member for member, required in rows if required == "yes"} == set(found["required"])


def test_the_outcomes_of_a_round_are_all_explained():
    table = SECTIONS["evaluation"].split("| outcome | the round |", 1)[1]
    found = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(found) == sorted(schema("evaluation")["properties"]["outcome"]["enum"])


def test_the_inputs_on_the_page_give_the_outputs_on_the_page(tmp_path):
    story, commands, told = tmp_path / "story.jsonl", tmp_path / "commands.jsonl", tmp_path / "transitions.jsonl"
    with story.open("w") as lines:
        for name, topic in INPUTS.items():
            for offset, value in enumerate(examples(name)):
                at = int(datetime.fromisoformat(value["occurred_at"]).timestamp() * 1000)
                record = {"topic": topic, "partition": 0, "offset": offset, "timestamp": at}
                lines.write(json.dumps({**record, "key": value["ticket_id"], "value": value}) + "\n")
    words = ["backtest", "--events", story, "--triggers", RECIPES, "--commands", commands, "--transitions", told]
    subprocess.run([sys.executable, "-m", "streams", *map(str, words)], cwd=ROOT, check=True, timeout=60)
    assert [json.loads(line) for line in commands.read_text().splitlines()] == examples("action-command")
    opened, lapsed, evaluation = [json.loads(line) for line in told.read_text().splitlines()]
    assert opened["kind"] == "opened"
    assert [[lapsed], [evaluation]] == [examples("transition"), examples("evaluation")]


def test_the_consumer_on_the_page_is_the_one_in_the_file():
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert block == EXAMPLE.read_text()


# --- the consumer, on a real broker ----------------------------------------------------------------------------------


class Desk:
    """A helpdesk that remembers who changed what, refuses unsafe updates, and can fail right after one."""

    def __init__(self) -> None:
        self.tickets: dict[str, dict[str, Any]] = {}
        self.updates: list[str] = []
        self.fails_after_update = False

    def put(self, ticket_id: str, **fields: Any) -> None:
        applied = self.tickets.get(ticket_id, {"applied": []})["applied"]
        self.tickets[ticket_id] = {"fields": fields, "updated_at": _now(), "applied": applied}

    async def read(self, ticket_id: str) -> dict[str, Any] | None:
        return self.tickets.get(ticket_id)

    async def update(self, command: dict[str, Any], unless_changed_since: str) -> dict[str, Any]:
        ticket_id = command["ticket_id"]
        ticket = self.tickets[ticket_id]
        assert ticket["updated_at"] == unless_changed_since
        ticket["applied"].append(command["command_id"])
        self.updates.append(ticket_id)
        fields = dict(ticket["fields"])
        for action in command["actions"]:
            if action["field"] == "add_tags":
                fields["tags"] = [*fields.get("tags", []), *action["value"]]
            else:
                fields[action["field"]] = action["value"]
        self.put(ticket_id, **fields)
        if self.fails_after_update:
            self.fails_after_update = False
            raise ConnectionError("the process ends between the update and its answer")
        return self.tickets[ticket_id]


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _example() -> Any:
    spec = importlib.util.spec_from_file_location("apply_commands", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.apply_commands


@pytest.mark.system
@pytest.mark.timeout(180)
async def test_the_consumer_applies_each_command_once_and_spares_newer_work_and_answers(
    kafka: Broker, topic_prefix: str, tmp_path: Path
):
    installation = Installation(kafka, topic_prefix, 1, tmp_path)
    await installation.create()
    desk, apply_commands = Desk(), _example()
    names = {"commands": f"{topic_prefix}action-commands", "updates": f"{topic_prefix}ticket-updates"}
    worker = installation.worker("worker", triggers=str(RECIPES))
    worker.start()
    try:
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:

            async def send(topic: str, ticket_id: str, **members: Any) -> None:
                record = {"ticket_id": ticket_id, "occurred_at": _now(), **members}
                await producer.send_and_wait(topic_prefix + topic, json.dumps(record).encode(), ticket_id.encode())

            for ticket_id in ("1", "2", "3"):
                desk.put(ticket_id, status="open")
                await send("ticket-updates", ticket_id, ticket={"status": "open"})
                await send("session-states", ticket_id, state="active")
                await send("session-states", ticket_id, state="inactive", reason="user_inactive_or_offline")
        await _until(lambda: _commands(installation), 3)
        desk.put("2", status="pending")  # an agent was quicker than the consumer
        desk.fails_after_update = True

        with pytest.raises(ConnectionError):
            await apply_commands(kafka.bootstrap, desk, **names, group=f"{topic_prefix}desk")
        again = asyncio.create_task(apply_commands(kafka.bootstrap, desk, **names, group=f"{topic_prefix}desk"))
        try:
            await _until(lambda: _applied(worker.web_port), 2)
        finally:
            again.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await again
    finally:
        worker.kill()
    assert desk.updates == ["1", "3"], "ticket 1 was updated before the failure and must not be updated again"
    assert desk.tickets["1"]["fields"] == {"status": "solved", "tags": ["abandoned_conversation"]}
    assert desk.tickets["2"]["fields"] == {"status": "pending"}
    answers = [json.loads(r.value) for r in await topics.read(kafka.bootstrap, names["updates"], 1)]
    assert [answer["ticket_id"] for answer in answers if answer.get("command_id")] == ["1", "3"]


async def _until(count: Callable[[], Awaitable[int]], expected: int) -> None:
    async with asyncio.timeout(60):
        while await count() != expected:  # noqa: ASYNC110 - the broker and the worker set no event of ours
            await asyncio.sleep(0.2)


async def _commands(installation: Installation) -> int:
    return len(await installation.read("action-commands"))


async def _applied(port: int) -> int:
    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    found = re.search(r"^lapse_commands_applied_total (\d+)", await asyncio.to_thread(get), re.MULTILINE)
    return int(found[1]) if found else 0
