"""How a worker process ends: its exit code, and what it says to people."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from streams.core.model import SECOND
from streams.kafka.config import KafkaConfig
from streams.testing.builders import session_state
from tests.worker.kit import committed_offsets, config_for, send, topics
from tests.worker.test_worker import commanded, lapses, once

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start workers as processes; none outlives its test."""
    processes: list[asyncio.subprocess.Process] = []

    async def start(config: KafkaConfig, **changes: int) -> asyncio.subprocess.Process:
        arguments = [f"{name}={value}" for name, value in changes.items()]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.worker.worker_process", config.brokers[0], config.topic_prefix, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, errors.decode()


async def begun(config: KafkaConfig) -> None:
    """Wait until the group has begun: offsets are committed when a partition is first opened."""
    async with asyncio.timeout(30):
        while not await committed_offsets(config):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def all_commanded(config: KafkaConfig, count: int) -> None:
    async with asyncio.timeout(40):
        while sum((await commanded(config)).values()) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_sigterm_commits_what_is_in_flight_and_ends_with_0(kafka: Any, topic_prefix: str, start: Start) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    process = await start(config, act_from_is_set=1)
    await begun(config)
    await send(config, lapses(0, 200), 2)
    process.send_signal(signal.SIGTERM)
    code, errors = await ended(process)
    assert (code, errors) == (0, "")
    # The first process may have committed everything while it stopped. Only new lapses show that the second has begun.
    process = await start(config)
    await send(config, lapses(200, 20), 2)
    await all_commanded(config, 220)
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] == 0
    assert await commanded(config) == once(0, 220)


async def test_topics_that_will_not_do_end_it_with_2_and_one_message(
    kafka: Any, topic_prefix: str, start: Start
) -> None:
    code, errors = await ended(await start(config_for(kafka, topic_prefix)))
    assert code == 2
    assert errors.startswith(f"lapse: The topics at {kafka.bootstrap} will not do:")
    assert errors.count("does not exist") == 7
    assert "Traceback" not in errors


async def test_a_first_start_that_could_act_on_old_lapses_ends_with_2(
    kafka: Any, topic_prefix: str, start: Start
) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    await send(config, [session_state()], 1)
    code, errors = await ended(await start(config))
    assert code == 2
    assert "Set act_from" in errors


async def test_no_broker_ends_it_with_1_and_the_reason(topic_prefix: str, start: Start) -> None:
    config = KafkaConfig(brokers=("127.0.0.1:1",), topic_prefix=topic_prefix)
    code, errors = await ended(await start(config, broker_patience=SECOND))
    assert code == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("lapse: Can't connect: 127.0.0.1:1: nothing listens on that port.")
    assert "Traceback" not in errors


async def test_a_stop_while_no_broker_answers_is_prompt(topic_prefix: str, start: Start) -> None:
    config = KafkaConfig(brokers=("127.0.0.1:1",), topic_prefix=topic_prefix)
    process = await start(config)
    assert process.stderr is not None
    assert b"connect" in await asyncio.wait_for(process.stderr.readline(), 30), "it has begun to look for a broker"
    process.send_signal(signal.SIGTERM)
    code, _ = await asyncio.wait_for(ended(process), 5)
    assert code == 0
