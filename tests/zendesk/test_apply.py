"""`lapse apply` as a process, on a real broker and at the stand-in for Zendesk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.core.model import SECOND
from streams.kafka.config import KafkaConfig
from streams.testing.zendesk import checks
from streams.testing.zendesk.server import CLIENT, ZendeskServer
from streams.zendesk.apply.pause import pause_topic
from tests.kafka_kit.broker import Broker
from tests.worker.kit import TRIGGERS, config_for, read_all, topics
from tests.zendesk.commands import command, now_us, write
from tests.zendesk.ingesting import Apply

pytestmark = pytest.mark.system
PARTITIONS = 2
OLD = 1_772_359_200 * SECOND
WITHIN = 60.0


@contextlib.asynccontextmanager
async def applying(
    kafka: Broker, prefix: str, folder: Path, server: ZendeskServer, **settings: str
) -> AsyncIterator[Apply]:
    process = Apply(kafka.bootstrap, prefix, folder, server.url, **settings)
    try:
        await asyncio.to_thread(process.until_ready)
        yield process
    finally:
        if process.running:
            await asyncio.to_thread(process.stop)


async def results(config: KafkaConfig) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in await read_all(config, config.topic("action-results"))]


async def until_results(config: KafkaConfig, count: int, process: Apply) -> Mapping[str, dict[str, Any]]:
    """Wait until there are so many results; return them by ticket, and hold that each command has one."""
    deadline = time.monotonic() + WITHIN
    while len(found := await results(config)) < count:
        assert time.monotonic() < deadline, (found, process.log)
        assert process.running, process.log
        await asyncio.sleep(0.2)
    assert len({one["command_id"] for one in found}) == len(found) == count
    return {one["ticket_id"]: one for one in found}


async def eventually(what: Callable[[], bool], process: Apply) -> None:
    deadline = time.monotonic() + WITHIN
    while not await asyncio.to_thread(what):
        assert time.monotonic() < deadline, process.log
        await asyncio.sleep(0.05)


async def would_become(config: KafkaConfig, prefix: str, server: ZendeskServer) -> dict[str | None, str]:
    """What `--dry-run` says, by ticket."""
    account = {
        "LAPSE_ZENDESK_URL": server.url,
        "LAPSE_ZENDESK_CLIENT_ID": CLIENT.client_id,
        "LAPSE_ZENDESK_CLIENT_SECRET": CLIENT.secret,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams", "apply", "--dry-run"),
        *("--brokers", config.brokers[0], "--topic-prefix", prefix),
        env={**os.environ, **account},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    shown, errors = await asyncio.wait_for(process.communicate(), WITHIN)
    assert process.returncode == 0, errors
    told = [json.loads(line) for line in shown.splitlines()]
    updates = [one["request"]["body"]["ticket"] for one in told if one["would"] == "update"]
    assert all(update["status"] == "solved" and update["safe_update"] for update in updates)
    return {one.get("ticket_id"): one["would"] for one in told}


async def test_each_command_ends_in_one_result_and_with_an_exit_code_of_0(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    config = await topics(config_for(kafka, topic_prefix), PARTITIONS)
    async with ZendeskServer(required_to_solve=[55]) as server:
        for number in range(1, 6):
            server.tickets.make(number, updated_at=OLD, custom_fields={} if number == 5 else {55: "x"})
        server.tickets.of(2).status = "pending"
        server.tickets.delete(3)
        commands = [command(number) for number in (1, 2, 3, 5)]
        commands.append(command(4, issued_at=now_us() - 7_200 * SECOND))
        await write(config, [{"ticket_id": "1"}, *commands], PARTITIONS)
        assert await would_become(config, topic_prefix, server) == {
            "1": "update",
            "2": "overtaken",
            "3": "gone",
            "4": "expired",
            "5": "update",
            None: "invalid",
        }
        assert server.tickets.changes == []
        async with applying(kafka, topic_prefix, tmp_path, server) as process:
            found = await until_results(config, 5, process)
            told = {ticket: (one["result"], one["status"]) for ticket, one in found.items()}
            assert told == {
                "1": ("applied", 200),
                "2": ("overtaken", 200),
                "3": ("gone", 404),
                "4": ("expired", None),
                "5": ("refused", 422),
            }
            assert all(one.keys() == {"command_id", "result", "status", "at", "ticket_id"} for one in found.values())
            await eventually(lambda: 'lapse_apply_total{result="refused"} 1.0' in process.get("/metrics")[1], process)
            assert process.get("/healthz") == (200, "ok\n")
            began = time.monotonic()
            assert await asyncio.to_thread(process.stop) == 0
            assert time.monotonic() - began < 15, "it is cut off after 4.5 s"
            assert "a-secret-for-tests" not in process.log
        letters = await read_all(config, config.topic("apply-dead-letters"))
        by_code = {dict(letter.headers)["lapse.error.code"]: letter for letter in letters}
        assert by_code.keys() == {b"refused", b"invalid"}
        assert json.loads(by_code[b"invalid"].value) == {"ticket_id": "1"}
        letter = by_code[b"refused"]
        assert (letter.key, json.loads(letter.value)["ticket_id"]) == (b"5", "5")
        headers = dict(letter.headers)
        assert b"is required when solving a ticket" in headers["lapse.apply.answer"]
        assert checks.twice(server.tickets.changes) == []
        for record in await read_all(config, config.topic("action-results")):
            assert record.key.decode() == json.loads(record.value)["ticket_id"]


async def test_a_pause_and_a_stop_hold_what_was_written_before_them_over_restarts_until_they_end(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    config = await topics(config_for(kafka, topic_prefix, rules="topic"), PARTITIONS)
    broker = ["--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix]
    triggers = tmp_path / "triggers.yaml"
    triggers.write_text(TRIGGERS)

    async def say(*arguments: str) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *broker])
        assert done.exit_code == 0, done.output
        return done.stdout

    async def held(count: int, process: Apply) -> None:
        await eventually(lambda: f"lapse_apply_held {count}.0" in process.get("/metrics")[1], process)

    async with ZendeskServer() as server:
        for number in (1, 2):
            server.tickets.make(number, updated_at=OLD)
        assert await say("apply", "resume") == "not paused\n"
        assert await say("apply", "pause", "--reason", "a test", "--author", "anna") == "paused\n"
        assert "already paused" in await say("apply", "pause")
        await say("rules", "publish", str(triggers))
        await write(config, [command(1), command(2, trigger="another")], PARTITIONS)
        async with applying(kafka, topic_prefix, tmp_path, server, rules="topic") as process:
            await held(2, process)
            assert "paused by anna: a test" in process.log
            await say("rules", "stop", "solve-abandoned", "--reason", "a test")
            await eventually(lambda: "stopped: solve-abandoned" in process.log, process)
        assert server.tickets.changes == []
        async with applying(kafka, topic_prefix, tmp_path, server, rules="topic") as process:
            await held(2, process)
            assert await say("apply", "resume") == "resumed\n"
            assert (await until_results(config, 1, process)).keys() == {"2"}
            await held(1, process)
            assert server.tickets.changes_of(1) == [], "its trigger was stopped after it was written"
            await say("rules", "resume", "solve-abandoned")
            assert (await until_results(config, 2, process))["1"]["result"] == "applied"
    names = Counter(record.key for record in await read_all(config, pause_topic(config)))
    assert names == {b"pause": 2}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"LAPSE_ZENDESK_SUBDOMAIN": "a"}, "zendesk_client_id and zendesk_client_secret are not set"),
        ({"LAPSE_ZENDESK_URL": "http://example.com"}, "use https"),
        ({"LAPSE_ZENDESK_SUBDOMAIN": "a.zendesk.com"}, "no subdomain"),
        ({"LAPSE_ZENDESK_UPDATES_PER_MINUTE": "0"}, "1 or more"),
    ],
)
def test_settings_that_will_not_do_exit_with_2_and_say_what_to_do(settings: dict[str, str], text: str) -> None:
    done = CliRunner().invoke(app, ["apply"], env=settings)
    assert done.exit_code == 2
    assert text in done.output


async def test_a_missing_topic_and_a_wrong_secret_exit_with_2_and_say_what_to_do(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    async with ZendeskServer() as server:
        missing = Apply(kafka.bootstrap, topic_prefix, tmp_path, server.url)
        assert await asyncio.to_thread(missing.ended) == 2, missing.log
        assert "lapse topics create" in missing.log
        await topics(config_for(kafka, topic_prefix), 1)
        wrong = Apply(kafka.bootstrap, topic_prefix, tmp_path, server.url, zendesk_client_secret="wrong-one")
        assert await asyncio.to_thread(wrong.ended) == 2, wrong.log
        assert "zendesk_client_secret" in wrong.log
        assert "wrong-one" not in wrong.log
        assert "Traceback" not in missing.log + wrong.log
