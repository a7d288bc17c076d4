"""Requests and responses of a transactional producer. Each request is retried until it is answered or times out.

A request without a response may still be in flight and take effect whenever it arrives. `unanswered` records that.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import (
    BrokerResponseError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
)

from streams.core.errors import CommitFailed, Failed, Fenced
from streams.kafka.answers import Verdict, described, name_of, verdict

logger = logging.getLogger(__name__)

_FIRST_BACKOFF = 0.001
_LAST_BACKOFF = 0.5
_LAST_BACKOFF_AT_FIRST = 0.05
_AT_FIRST = 2.0
"""Brokers answer *not yet* for milliseconds while they end a transaction. An unavailable broker takes longer."""

_METADATA_SECONDS = 2.0


class Coordinator(IntEnum):
    """The two coordinator types with Kafka's numbers."""

    GROUP = 0
    TRANSACTION = 1


class Patience:
    """How long and how often an operation is retried."""

    def __init__(self, what: str, seconds: float, too_late: type[Exception] = CommitFailed) -> None:
        """Start the timer. When `seconds` are over, `too_late` is raised with `what` and the last reason."""
        self.what = what
        self._too_late = too_late
        self._seconds = seconds
        self._began = time.monotonic()
        self._backoff = _FIRST_BACKOFF
        self._warned = False

    def renew(self) -> None:
        """Reset the backoff after progress."""
        self._backoff = _FIRST_BACKOFF

    async def again(self, why: str, cause: BaseException | None = None) -> None:
        """Wait a little longer than the last time; raise when the time is over."""
        passed = time.monotonic() - self._began
        if passed >= self._seconds:
            raise self._too_late(f"{self.what}: {why}; tried for {passed:.0f} s.") from cause
        if passed > _AT_FIRST and not self._warned:
            self._warned = True
            logger.warning("%s: %s; trying on", self.what, why, extra={"limit": self.what})
        await asyncio.sleep(min(self._backoff * random.uniform(0.75, 1.25), self._seconds - passed))  # noqa: S311
        self._backoff = min(self._backoff * 2, _LAST_BACKOFF_AT_FIRST if passed < _AT_FIRST else _LAST_BACKOFF)


class Exchange:
    """Request exchange of one producer with its coordinators and leaders."""

    def __init__(self, client: AIOKafkaClient, transactional_id: str, group: str) -> None:
        """Use a client that has been bootstrapped."""
        self.unanswered = False
        """Whether a transactional request was sent without receiving a response."""
        self._client = client
        self._keys = {Coordinator.GROUP: group, Coordinator.TRANSACTION: transactional_id}
        self._nodes: dict[Coordinator, int] = {}

    async def ask(
        self,
        coordinator: Coordinator,
        request: Any,
        code_of: Callable[[Any], int],
        patience: Patience,
        *,
        transactional: bool = True,
    ) -> Any:
        """Return a coordinator's response once it reports success.

        Raises `Fenced`, `CommitFailed` or `Failed` depending on the response, and whatever `patience` raises.
        """
        while True:
            answer = await self.ask_once(coordinator, request, patience, transactional=transactional)
            if answer is None:
                continue
            code = code_of(answer)
            if self.judge(code, patience.what) is Verdict.DONE:
                patience.renew()
                return answer
            self.forget(coordinator, code)
            await patience.again(name_of(code))

    async def ask_once(
        self, coordinator: Coordinator, request: Any, patience: Patience, *, transactional: bool = True
    ) -> Any:
        """Return a coordinator's response, whatever its error code; None, after a pause, when there was none."""
        try:
            node = await self._find(coordinator, patience)
            answer = await self.send(node, request, ConnectionGroup.COORDINATION, transactional=transactional)
        except (KafkaError, OSError, TimeoutError) as error:
            self._nodes.pop(coordinator, None)
            await patience.again(in_words(error), error)
            return None
        return answer

    def forget(self, coordinator: Coordinator, code: int) -> None:
        """Forget a coordinator's address when this error code requires a new lookup."""
        if verdict(code) is Verdict.MOVED:
            self._nodes.pop(coordinator, None)

    async def _find(self, coordinator: Coordinator, patience: Patience) -> int:
        node = self._nodes.get(coordinator)
        if node is None:
            if self._client.get_random_node() is None:
                raise NodeNotReadyError("no broker is known")
            try:
                node = int(await self._client.coordinator_lookup(int(coordinator), self._keys[coordinator]))
            except BrokerResponseError as error:
                if verdict(error.errno) is Verdict.REFUSED:
                    raise Failed(f"{patience.what}: {described(error.errno)}.") from error
                raise
            self._nodes[coordinator] = node
        return node

    async def send(self, node: int, request: Any, group: ConnectionGroup, *, transactional: bool = True) -> Any:
        """Send a request once and return its response; raises what the client raises."""
        try:
            return await self._client.send(node, request, group=group)
        except NodeNotReadyError:
            raise  # no connection: nothing was sent
        except BaseException as error:
            self.unanswered |= transactional
            if isinstance(error, KeyError):
                # aiokafka closes a connection that timed out, and fails when another request has already closed it.
                raise RequestTimedOutError from error
            raise

    async def refresh(self) -> None:
        """Refresh the partition leaders with a short timeout: the refresh is repeated anyway."""
        try:
            async with asyncio.timeout(_METADATA_SECONDS):
                await self._client.force_metadata_update()
        except TimeoutError:
            pass

    @staticmethod
    def judge(code: int, what: str) -> Verdict:
        """Return the verdict on an error code when work can continue, now or later; raise when it cannot."""
        found = verdict(code)
        if found is Verdict.OVER:
            raise Fenced(f"{what}: {name_of(code)}")
        if found is Verdict.UNDONE:
            raise CommitFailed(f"{what}: {name_of(code)}")
        if found is Verdict.REFUSED:
            raise Failed(f"{what}: {described(code)}.")
        return found


def in_words(error: BaseException) -> str:
    """Describe briefly why there was no response. aiokafka logs which address could not be reached."""
    if isinstance(error, NodeNotReadyError | KafkaConnectionError):
        return "the broker can't be reached"
    if isinstance(error, RequestTimedOutError | TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
