"""The AsyncAPI document says what the code does, and the official parser reads it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from streams.core.cycle import Rules
from streams.core.shadow import Candidate
from streams.core.triggers import Ruleset
from streams.kafka import asyncapi
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import wanted_topics
from streams.testing.driver import Driver
from tests.core.stories import RULES, SETTINGS, START_MS, rfc3339

ROOT = Path(__file__).parents[2]
TOOL = Path(__file__).parent / "asyncapi_parser"
DOCUMENT = asyncapi.document()


def test_the_committed_document_is_the_one_made_from_the_code():
    assert (ROOT / "schemas" / "asyncapi.json").read_text() == asyncapi.rendered()


def test_every_topic_is_a_channel():
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert addresses == {topic.name for topic in wanted_topics(KafkaConfig())}
    assert len(addresses) == 10


@pytest.fixture(scope="module")
def written() -> Driver:
    """What a worker with a shadow writes about a customer who leaves, and about a record that can't be used."""
    driver = Driver(RULES, SETTINGS, shadow=Candidate(2, Rules(Ruleset(()))))
    ticket = {"ticket_id": "1", "occurred_at": rfc3339(START_MS), "ticket": {"status": "open"}}
    session = {"ticket_id": "1", "occurred_at": rfc3339(START_MS), "state": "active"}
    driver.pipe("ticket-updates", "1", ticket, START_MS)
    driver.pipe("session-states", "1", session, START_MS)
    left = {**session, "state": "inactive", "occurred_at": rfc3339(START_MS + 1)}
    driver.pipe("session-states", "1", left, START_MS + 1)
    driver.pipe("session-states", "1", {"ticket_id": "1"}, START_MS + 1)
    driver.advance(START_MS + 3_600_000)
    return driver


def schema_of(message: str, part: str) -> Draft202012Validator:
    """The schema of a message's headers or payload, together with what it refers to."""
    schema = DOCUMENT["components"]["messages"][message][part]
    whole = {**schema, "components": DOCUMENT["components"]}
    return Draft202012Validator(whole, format_checker=FormatChecker())


def test_commands_have_the_headers_and_the_value_of_the_document(written: Driver):
    commands = written.read("action-commands")
    assert commands
    for command in commands:
        headers = {name: value.decode() for name, value in command.headers}
        schema_of("action-command", "headers").validate(headers)
        known = DOCUMENT["components"]["messages"]["action-command"]["headers"]["properties"]
        assert headers.keys() <= known.keys()
        schema_of("action-command", "payload").validate(json.loads(command.value or b""))


def test_the_other_outputs_are_as_the_document_says(written: Driver):
    records = written.records()
    assert {record["type"] for record in records} == {"transition", "evaluation", "shadow"}
    for record in records:
        schema_of(record["type"], "payload").validate(record)
    (letter,) = written.dead_letters()
    schema_of("dead-letter", "headers").validate({name: value.decode() for name, value in letter.headers})


@pytest.fixture(scope="session")
def parser() -> Path:
    """The official parser with its dependencies, installed once into a cache directory by npm."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        message = f"No {' and no '.join(missing)}: the AsyncAPI document was not read by the official parser."
        if os.environ.get("CI"):
            pytest.fail(message)
        warnings.warn(message, stacklevel=2)
        pytest.skip(message)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lapse")
    version = json.loads((TOOL / "package.json").read_text())["dependencies"]["@asyncapi/parser"]
    home = cache / f"asyncapi-parser-{version}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=cache))
            try:
                for file in ("package.json", "package-lock.json"):
                    shutil.copy(TOOL / file, scratch)
                command = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
                subprocess.run(command, cwd=scratch, timeout=500, check=True)
                scratch.rename(home)  # whole or not at all
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    shutil.copy(TOOL / "validate.mjs", home)
    return home / "validate.mjs"


def parsed(parser: Path, document: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "asyncapi.json").write_text(json.dumps(document))
    command = ["node", str(parser), str(folder / "asyncapi.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_official_parser_reads_the_document(parser: Path, tmp_path: Path):
    found = parsed(parser, DOCUMENT, tmp_path)
    errors_and_warnings = [problem for problem in found["diagnostics"] if problem["severity"] <= 1]
    print(found["diagnostics"])
    assert errors_and_warnings == []
    assert set(found["channels"]) == {channel["address"] for channel in DOCUMENT["channels"].values()}


def test_the_official_parser_refuses_a_broken_document(parser: Path, tmp_path: Path):
    broken = {
        **DOCUMENT,
        "operations": {"receive-nothing": {"action": "receive", "channel": {"$ref": "#/channels/no"}}},
    }
    assert parsed(parser, broken, tmp_path)["channels"] is None
