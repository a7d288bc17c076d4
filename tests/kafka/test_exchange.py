"""Asking until there is an answer, with a client that answers from a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError

from streams.core.errors import CommitFailed, Failed, Fenced
from streams.kafka.exchange import Coordinator, Exchange, Patience


class Script:
    """A client whose answers, and errors, come in this order."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[int, Any]] = []
        self.lookups = 0

    def get_random_node(self) -> int:
        return 1

    async def coordinator_lookup(self, kind: int, key: str) -> int:
        self.lookups += 1
        return self.lookups

    async def send(self, node: int, request: Any, group: Any) -> Any:
        self.sent.append((node, request))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return SimpleNamespace(error_code=answer)


async def asked(script: Script, seconds: float = 5.0, **more: Any) -> Exchange:
    exchange = Exchange(script, "id", "group")
    await exchange.ask(
        Coordinator.TRANSACTION, "request", lambda answer: answer.error_code, Patience("Can't", seconds), **more
    )
    return exchange


@pytest.mark.parametrize(
    ("answers", "nodes"),
    [
        ([0], [1]),
        ([51, 51, 0], [1, 1, 1]),
        ([16, 0], [1, 2]),
        ([NodeNotReadyError(), 0], [1, 2]),
        ([KafkaConnectionError(), 14, 0], [1, 2, 2]),
    ],
)
async def test_it_asks_until_it_is_done_and_looks_up_who_moved(answers: Iterable[Any], nodes: list[int]) -> None:
    script = Script(*answers)
    await asked(script)
    assert [node for node, _ in script.sent] == nodes


@pytest.mark.parametrize(
    ("answers", "unanswered"),
    [
        ([51, 0], False),
        ([NodeNotReadyError(), 0], False),
        ([KafkaConnectionError(), 0], True),
        ([RequestTimedOutError(), 0], True),
        ([KeyError((1, 1)), 0], True),
        ([OSError(), 0], True),
    ],
)
async def test_a_request_that_was_sent_and_not_answered_is_remembered(answers: Iterable[Any], unanswered: bool) -> None:
    assert (await asked(Script(*answers))).unanswered is unanswered


async def test_one_that_is_cancelled_is_remembered_too() -> None:
    exchange = Exchange(Script(asyncio.CancelledError()), "id", "group")
    with pytest.raises(asyncio.CancelledError):
        await exchange.send(1, "request", 0)
    assert exchange.unanswered


async def test_one_that_belongs_to_no_transaction_is_not() -> None:
    assert not (await asked(Script(KafkaConnectionError(), 0), transactional=False)).unanswered


@pytest.mark.parametrize(("code", "error"), [(47, Fenced), (48, CommitFailed), (53, Failed)])
async def test_some_answers_end_it(code: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="Can't: "):
        await asked(Script(code))


async def test_it_gives_up_when_time_is_over_and_does_not_hammer() -> None:
    script = Script(*[51] * 1_000)
    began = time.monotonic()
    with pytest.raises(CommitFailed, match="Can't: CONCURRENT_TRANSACTIONS; tried for"):
        await asked(script, 0.3)
    assert 0.2 < time.monotonic() - began < 30
    assert len(script.sent) < 30
