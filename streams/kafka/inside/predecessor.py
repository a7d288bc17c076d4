"""How the last transaction of a partition's previous owner ended, and saying that once more to whoever missed it.

The end of a transaction is decided by the coordinator and then told to every partition it touched, by markers. A broker
that restarts in between can take partitions whose leader it does not know yet for deleted ones, and skip their markers
(seen with Kafka 4.3.1: "while trying to send transaction markers"). The coordinator holds the transaction for complete;
its records stay undecided on those partitions, and so does all behind them. A producer id has one transaction at a time
on a partition, so that the end of any later one decides it, with whatever the later one ended with. Hence a new owner
asks how the last transaction ended, before it fences, and begins with an empty one that ends likewise.

The coordinator knows that only until the next producer starts; what it does not say is left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.producer.sender import AddOffsetsToTxnHandler, InitPIDHandler
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

logger = logging.getLogger(__name__)

_COORDINATOR_KEY = 1
_ENDED = {"CompleteCommit": True, "CompleteAbort": False}
_POLL_SECONDS = 0.002


class _DescribeTransactionsResponse(Response):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", CompactString("utf-8")),
                ("state", CompactString("utf-8")),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeTransactionsRequestV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(CompactString("utf-8"))), ("tags", TaggedFields))


class DescribeTransactionsRequest(Request[_DescribeTransactionsRequestV0]):  # type: ignore[misc]
    """Kafka's DescribeTransactions, version 0, which aiokafka lacks."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        """Ask about one."""
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[_DescribeTransactionsRequestV0]) -> _DescribeTransactionsRequestV0:
        """Return what goes over the wire."""
        return request_struct_class([self._transactional_id], {})


class LastTransaction(InitPIDHandler):  # type: ignore[misc]
    """Starts a producer's epoch as aiokafka does, but first asks how the transaction before has ended.

    A transaction that is still open is ended by the start itself, which is then told to come again: the second asking
    sees how.
    """

    committed: bool | None = None
    """None when nobody knows, or there was none."""

    async def do(self, node_id: int) -> bool:
        """Ask, then start; False when it has to be tried again."""
        try:
            state = await self._state(node_id)
        except IncompatibleBrokerVersion:
            state = None
        except KafkaError as error:
            logger.debug("can't ask how the last transaction ended: %r", error)
            self.handle_error()
            await asyncio.sleep(self._default_backoff)
            return False
        if state in _ENDED:
            self.committed = _ENDED[state]
        elif state not in {None, "Empty"}:
            self.committed = None
        started: bool = await super().do(node_id)
        return started

    async def _state(self, node_id: int) -> str | None:
        request = DescribeTransactionsRequest(self._sender._txn_manager.transactional_id)
        answer = await self._sender.client.send(node_id, request, group=self.group)
        ((error_code, _, state, *_),) = answer.transactions
        return None if error_code else str(state)


async def say_again(kafka: AIOKafkaProducer, committed: bool, tps: Iterable[TopicPartition], group: str) -> None:
    """End an empty transaction that covers these topic-partitions and the group's offsets, with that outcome.

    Call it with the producer just started. Raises what a transaction raises.
    """
    sender, manager = kafka._sender, kafka._txn_manager
    await kafka.begin_transaction()
    for tp in tps:
        manager.maybe_add_partition_to_txn(tp)
    while manager.partitions_to_add() and manager.is_in_transaction():  # noqa: ASYNC110 the sender tells nobody
        await asyncio.sleep(_POLL_SECONDS)
    while manager.is_in_transaction():
        node_id = await sender._find_coordinator(_COORDINATOR_KEY, manager.transactional_id)
        if await AddOffsetsToTxnHandler(sender, group).do(node_id):
            break
    await (kafka.commit_transaction() if committed else kafka.abort_transaction())


def follow(kafka: AIOKafkaProducer) -> LastTransaction:
    """Make a producer that is not started yet ask how the last transaction ended, as it starts; see its `committed`."""
    last = LastTransaction(kafka._sender)
    kafka._sender._do_init_pid = last.do
    return last
