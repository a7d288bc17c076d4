"""Every answer to a fetch is noted, empty ones too."""

from __future__ import annotations

from typing import Any

from streams.core.names import Topic
from tests.contracts.test_fetch import fill
from tests.worker.kit import (
    config_for,
    eventually,
    hosting,
    open_inbox,
    topics,
)


async def test_an_answer_without_records_shows_the_end(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        before = app.clock()
        inbox = open_inbox(app, tickets, 0)
        since = await eventually(lambda: inbox.at_end_since)
        assert since >= before
        await eventually(lambda: inbox.at_end_since > since)
        await fill(config, tickets, 3)
        await eventually(lambda: inbox.queued == 3)
        arrived = inbox.take()[0][1]
        await eventually(lambda: inbox.at_end_since >= arrived)
