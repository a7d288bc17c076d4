"""`lapse ingest` on a real broker, with requests as Zendesk sends them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.core.partitioning import partition_of
from streams.testing.webhooks import TIMEOUT_SECONDS, WebhookSender, disordered, session_post, ticket_event
from tests.kafka_kit import topics as kit
from tests.kafka_kit.broker import Broker
from tests.worker.kit import config_for, read_all, topics
from tests.zendesk.ingesting import SECRET, Ingest

pytestmark = pytest.mark.system
PARTITIONS = 3


@contextlib.contextmanager
def ingesting(kafka: Any, prefix: str, folder: Path, **settings: str) -> Iterator[Ingest]:
    process = Ingest(kafka.bootstrap, prefix, folder, **settings)
    try:
        yield process.until_ready()
    finally:
        if process.running:
            process.stop()


@contextlib.asynccontextmanager
async def sender(process: Ingest, secret: str = SECRET, **options: Any) -> AsyncIterator[WebhookSender]:
    async with WebhookSender(process.url, secret, **options) as made:
        yield made


async def test_what_is_answered_200_is_in_the_topics_and_the_rest_gets_the_status_that_zendesk_understands(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    config = await topics(config_for(kafka, topic_prefix), PARTITIONS)
    now = datetime.now(UTC)
    secrets = f"{SECRET},c2Vjb25k"
    broken = b'{"type": "zen:event-type:ticket.created"}'
    with ingesting(kafka, topic_prefix, tmp_path, ingest_secrets=secrets) as process:
        before = time.time_ns() // 1_000_000
        async with sender(process) as first, sender(process, "c2Vjb25k") as second, sender(process, "x") as stranger:
            assert (await first.send(ticket_event("5158", at=now))).statuses == [200]
            assert (await second.send(session_post("5158", "Inactive", "User inactive or offline"))).statuses == [200]
            assert (await first.send(b'{"type": "zen:event-type:user.created"}')).statuses == [200]
            assert (await first.send(broken)).statuses == [200]
            assert (await stranger.send(session_post("5158", "Active"))).statuses == [401]
            assert (await first.send(b"x" * ((1 << 20) + 1))).statuses == [413]
            assert (await first.send(b"x" * (1 << 20))).statuses == [200], "1 MiB is not over 1 MiB"
        async with sender(process, now=lambda: now - timedelta(minutes=61)) as late:
            assert (await late.send(session_post("5158", "Active"))).statuses == [403]
        async with aiohttp.ClientSession() as session, session.post(process.url, data=b"{}") as answer:
            assert (answer.status, answer.headers["Server"]) == (401, "lapse")
        metrics = process.get("/metrics")[1]
        assert process.get("/healthz")[0] == 200
        assert SECRET not in process.log
    after = time.time_ns() // 1_000_000
    (ticket,) = await read_all(config, config.topic("ticket-updates"))
    (session_record,) = await read_all(config, config.topic("session-states"))
    assert json.loads(ticket.value)["ticket"]["status"] == "open"
    assert json.loads(session_record.value)["reason"] == "user_inactive_or_offline"
    for record in (ticket, session_record):
        assert record.partition == partition_of(b"5158", PARTITIONS)
        assert before <= record.timestamp <= after, "the timestamp is the arrival"
    letters = await read_all(config, config.topic("dead-letters"))
    by_size = {int(dict(letter.headers)["lapse.source.size"]): letter for letter in letters}
    assert by_size.keys() == {len(broken), 1 << 20}
    headers = dict(by_size[len(broken)].headers)
    assert by_size[len(broken)].value is None, "nobody asked to keep what persons wrote"
    assert headers["lapse.source.sha256"].decode() == hashlib.sha256(broken).hexdigest()
    assert headers["lapse.source.type"] == b"zen:event-type:ticket.created"
    assert (headers["lapse.error.code"], headers["lapse.error.path"]) == (b"invalid", b"$.detail")
    for line in (
        'lapse_ingest_requests_total{status="200"} 5.0',
        'lapse_ingest_requests_total{status="401"} 2.0',
        'lapse_ingest_requests_total{status="403"} 1.0',
        'lapse_ingest_requests_total{status="413"} 1.0',
        'lapse_ingest_events_total{kind="unknown"} 1.0',
        'lapse_ingest_events_total{kind="unusable"} 2.0',
        'lapse_ingest_records_total{topic="session-states"} 1.0',
        "lapse_ingest_request_seconds_count 9.0",
    ):
        assert line in metrics
    listed = await asyncio.to_thread(
        CliRunner().invoke,
        app,
        ["dead-letters", "replay", "--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix],
    )
    assert listed.exit_code == 0
    assert "0 sent back\n2 not sent back: a letter that does not say where it came from" in listed.stdout


async def test_a_body_is_kept_on_request(kafka: Broker, topic_prefix: str, tmp_path: Path) -> None:
    config = await topics(config_for(kafka, topic_prefix), 1)
    with ingesting(kafka, topic_prefix, tmp_path, ingest_keep_bodies="true") as process:
        async with sender(process) as zendesk:
            assert (await zendesk.send(b"{")).statuses == [200]
    (letter,) = await read_all(config, config.topic("dead-letters"))
    assert letter.value == b"{"


@pytest.mark.timeout(3600)
async def test_nothing_that_was_answered_200_is_missing_whenever_it_is_killed_or_kafka_is_away(
    kafka: Broker, tmp_path: Path, topic_prefix: str, long: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kills of ingest, and a broker that is frozen; events come twice, late, in disorder, and again after errors."""
    events, faults = (20_000, 50) if long else (1_000, 4)
    seed = random.SystemRandom().randrange(1_000_000)
    rng = random.Random(seed)
    config = await topics(config_for(kafka, topic_prefix), PARTITIONS)
    process = Ingest(kafka.bootstrap, topic_prefix, tmp_path).until_ready()
    began = datetime.now(UTC)
    bodies = disordered(
        (ticket_event(n % 97, at=began + timedelta(milliseconds=n), number=n) for n in itertools.count()), rng
    )
    acknowledged: list[str] = []
    delivered = done = 0

    async def deliver(zendesk: WebhookSender) -> None:
        nonlocal delivered
        while delivered < events or done < faults:
            delivered += 1
            sent = await zendesk.send(body := next(bodies))
            if sent.taken:
                acknowledged.append(json.loads(body)["id"])

    try:
        async with sender(process, timeout=4.0, pause=0.3) as zendesk:
            tasks = [asyncio.create_task(deliver(zendesk)) for _ in range(8)]
            while done < faults:
                await asyncio.sleep(rng.uniform(0.1, 0.6))
                if done % 4 == 3:
                    kafka.pause()
                    await asyncio.sleep(2)
                    kafka.resume()
                else:
                    process.kill()
                    process = Ingest(kafka.bootstrap, topic_prefix, tmp_path, process.port)
                    await asyncio.to_thread(process.until_ready)
                done += 1
            await asyncio.gather(*tasks)
        assert process.stop() == 0
        records = await read_all(config, config.topic("ticket-updates"))
    finally:
        kafka.resume()
        process.kill()
    written = [json.loads(one.value)["event_id"] for one in records]
    missing = set(acknowledged) - set(written)
    with capsys.disabled():
        print(
            f"\nseed {seed}: {delivered} events, {len(acknowledged)} answered 200, {done} faults, "
            f"{len(written)} records, {len(missing)} missing"
        )
    assert delivered >= events
    assert len(set(acknowledged)) > events // 2
    assert missing == set()


async def test_while_kafka_is_away_the_answer_is_409_and_it_is_not_ready(
    kafka: Broker, tmp_path: Path, topic_prefix: str
) -> None:
    await topics(config_for(kafka, topic_prefix), 1)
    with ingesting(kafka, topic_prefix, tmp_path) as process:
        kafka.pause()
        try:
            async with aiohttp.ClientSession() as session, sender(process) as zendesk:
                body = session_post("1", "Active")
                began = time.monotonic()
                async with session.post(process.url, data=body, headers=zendesk.headers(body)) as answer:
                    assert (answer.status, await answer.text()) == (409, "Not written; try again.\n")
                assert time.monotonic() - began < TIMEOUT_SECONDS, "before Zendesk gives up"
            status, reason = process.get("/readyz")
            assert status == 503
            assert "session-states" in reason
            assert process.get("/healthz")[0] == 200, "to restart it would not help"
        finally:
            kafka.resume()
        process.until_ready(30)  # without a request: a proxy sends none before
        async with sender(process, pause=0.5) as zendesk:
            assert (await zendesk.send(session_post("1", "Active"))).taken


def test_a_start_that_can_not_work_is_one_message_and_code_2(kafka: Broker, topic_prefix: str, tmp_path: Path) -> None:
    without_topics = Ingest(kafka.bootstrap, topic_prefix, tmp_path)
    assert without_topics.ended() == 2
    assert f"{topic_prefix}ticket-updates and {topic_prefix}session-states and " in without_topics.log
    assert "lapse topics create" in without_topics.log
    without_secret = Ingest(kafka.bootstrap, topic_prefix, tmp_path, ingest_secrets="")
    assert without_secret.ended() == 2
    assert "No signing secret is set." in without_secret.log
    asyncio.run(
        kit.create(
            kafka.bootstrap, [f"{topic_prefix}{t}" for t in ("ticket-updates", "session-states", "dead-letters")], 1
        )
    )
    with ingesting(kafka, topic_prefix, tmp_path) as process:
        taken = Ingest(kafka.bootstrap, topic_prefix, tmp_path, process.port)
        assert taken.ended() == 2
        assert "the port is in use. Change ingest_port" in taken.log
    for log in (without_topics.log, without_secret.log, taken.log):
        assert "Traceback" not in log


def test_a_file_of_saved_bodies_is_written_and_what_is_wrong_with_a_line_is_said(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    config = asyncio.run(topics(config_for(kafka, topic_prefix), 1))
    at = datetime(2026, 3, 1, 10, tzinfo=UTC)
    post = session_post("7", "Inactive").decode()
    headers = {"x-zendesk-webhook-signature": "c2ln", "X-Zendesk-Webhook-Signature-Timestamp": "2026-03-01T10:00:00Z"}
    lines = [
        ticket_event("7", at=at).decode(),
        "",
        json.dumps({"headers": headers, "body": post, "arrived_at": "2026-03-01T10:00:01Z"}),
        post,
        "{",
        json.dumps({"headers": headers, "body": post, "arrived_at": "today"}),
    ]
    saved = tmp_path / "saved.jsonl"
    saved.write_text("\r\n".join(lines) + "\r\n", "utf-8")
    done = CliRunner().invoke(
        app, ["ingest", "--replay", str(saved), "--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix]
    )
    assert done.exit_code == 1
    assert done.stdout == "1 session, 1 ticket\n"
    told = done.stderr.splitlines()
    assert told[0].startswith(f"{saved}:4: a session post needs the headers X-Zendesk-Webhook-Signature and")
    assert told[1].startswith(f"{saved}:5: not JSON")
    assert told[2] == f"{saved}:6: arrived_at: not a time with an offset, as RFC 3339 has it"
    (session_record,) = asyncio.run(read_all(config, config.topic("session-states")))
    assert session_record.timestamp == int(datetime(2026, 3, 1, 10, 0, 1, tzinfo=UTC).timestamp() * 1000)
    assert json.loads(session_record.value)["event_id"] == "c2ln"


async def test_a_stop_answers_what_is_in_flight_and_does_not_wait_for_brokers_that_are_away(
    kafka: Broker, tmp_path: Path, topic_prefix: str
) -> None:
    await topics(config_for(kafka, topic_prefix), 1)
    with ingesting(kafka, topic_prefix, tmp_path) as process:
        kafka.pause()
        try:
            async with sender(process) as zendesk:
                in_flight = asyncio.create_task(zendesk._post(session_post("1", "Active")))
                await asyncio.sleep(0.5)
                began = time.monotonic()
                assert await asyncio.to_thread(process.stop) == 0
                assert time.monotonic() - began < 20, "less than the 30 s that Kubernetes gives"
                assert (await in_flight)[0] == 409
        finally:
            kafka.resume()


async def test_a_record_that_does_not_fit_into_its_topic_is_a_dead_letter(
    kafka: Broker, tmp_path: Path, topic_prefix: str
) -> None:
    config = config_for(kafka, topic_prefix)
    await kit.create(kafka.bootstrap, list(config.inputs), 1, {"max.message.bytes": "500000"})
    await topics(config, 1)
    many = {"tags": [f"tag-{number:060}" for number in range(12_000)]}
    with ingesting(kafka, topic_prefix, tmp_path, compression="none") as process:
        async with sender(process) as zendesk:
            sent = await zendesk.send(ticket_event("1", at=datetime.now(UTC), **many))
    assert sent.statuses == [200]
    assert len(sent.body) < 1 << 20
    assert await read_all(config, config.topic("ticket-updates")) == []
    (letter,) = await read_all(config, config.topic("dead-letters"))
    assert dict(letter.headers)["lapse.error.code"] == b"too_large"
