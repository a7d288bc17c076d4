"""Static membership and the session timeout, on a real broker."""

from __future__ import annotations

import time
from typing import Any

import pytest

from streams.core.errors import Refused
from streams.core.model import SECOND
from tests.worker.kit import config_for, running, send, topics
from tests.worker.test_service import Start, start  # noqa: F401 a fixture
from tests.worker.test_worker import commanded, lapses, once

SESSION = 120 * SECOND


async def test_a_killed_static_member_gets_its_partitions_back_at_once_and_without_a_rebalance(
    kafka: Any,
    topic_prefix: str,
    start: Start,  # noqa: F811
) -> None:
    """Without it, the group would wait for the killed member's session, two minutes here."""
    config = await topics(config_for(kafka, topic_prefix, session_timeout=SESSION, group_instance_id="b"), 2)
    of_a = {"session_timeout": SESSION, "heartbeat_interval": SECOND // 4, "act_from_is_set": 1}
    async with running(config) as b:
        await b.until(lambda: b.held == {0, 1})
        a = await start(config, **of_a, group_instance_id="a")
        await b.until(lambda: len(b.held) == 1, within=60)
        await send(config, lapses(0, 20), 2)
        await eventually_commanded(config, 20)
        before = b.notes.rebalances
        a.kill()
        await a.wait()
        await send(config, lapses(20, 20), 2)
        killed = time.monotonic()
        await start(config, **of_a, group_instance_id="a")
        await eventually_commanded(config, 40)
        assert time.monotonic() - killed < SESSION / SECOND / 2
        assert b.notes.rebalances == before
        assert await commanded(config) == once(0, 40)


async def eventually_commanded(config: Any, count: int) -> None:
    deadline = time.monotonic() + 60
    while sum((await commanded(config)).values()) < count:
        assert time.monotonic() < deadline


async def test_a_session_timeout_that_the_brokers_do_not_accept_is_refused_by_name(
    kafka: Any, topic_prefix: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix, session_timeout=SECOND // 2))
    with pytest.raises(Refused, match=r"the brokers do not accept session_timeout=0.5s"):
        async with running(config) as worker:
            await worker.until(lambda: worker.held, within=60)
