"""Bugs that the simulator must find: small patches of the real code, each a mistake that somebody could make.

Every bug is planted by itself, with `planted(PLANTED[name])`. `python -m tests.simulator --planted` prints how many
seeds it takes to find each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.protocol.transaction import TxnOffsetCommitRequest

import streams.worker.supervisor
from streams.core.errors import CommitFailed
from streams.core.partition import Partition
from streams.core.tables import Tables
from streams.host.inbox import Fetch, Inbox
from streams.kafka.exchange import Exchange
from streams.kafka.producer import PartitionProducer
from streams.worker.processor import PartitionProcessor
from streams.worker.supervisor import Supervisor

Patch = tuple[Any, str, Callable[[Any], Any]]
"""An object, the name of its member, and what makes the wrong one from the right one."""


@dataclass(frozen=True)
class Bug:
    """One bug; `text` says what is wrong, `patches` make it so."""

    text: str
    patches: tuple[Patch, ...]
    needs_old_age: bool = False
    """Whether only a run in which rows expire can show it."""


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Have a bug in the code, for as long as the context lasts."""
    before = [(where, name, getattr(where, name)) for where, name, _ in bug.patches]
    for (where, name, make), (_, _, right) in zip(bug.patches, before, strict=True):
        setattr(where, name, make(right))
    try:
        yield
    finally:
        for where, name, right in before:
            setattr(where, name, right)


# --- the transaction


def _offsets_first(commit: Any) -> Any:
    async def wrong(self: Any, writes: Any, offsets: Any, stream_time: int, now: int) -> None:
        await commit(self, {}, offsets, stream_time, now)
        await commit(self, writes, {}, stream_time, now)

    return wrong


def _epoch_kept(take_next_epoch: Any) -> Any:
    async def wrong(self: Any, patience: Any) -> None:
        self._open().unanswered = False

    return wrong


def _late_offsets_overlooked(send: Any) -> Any:
    async def wrong(self: Any, node: int, request: Any, group: Any, *, transactional: bool = True) -> Any:
        is_offsets = isinstance(request, TxnOffsetCommitRequest)
        return await send(self, node, request, group, transactional=transactional and not is_offsets)

    return wrong


def _settled_after_failure(commit: Any) -> Any:
    async def wrong(self: Any) -> None:
        try:
            await commit(self)
        except CommitFailed:
            self._offsets |= self._pipeline.under_way[0].next_offsets
            self._pipeline.settle()
            await self._producer.start()

    return wrong


def _written_again(commit: Any) -> Any:
    async def wrong(self: Any, *what: Any) -> None:
        try:
            await commit(self, *what)
        except CommitFailed:
            await self.start()
            await commit(self, *what)

    return wrong


# --- opening


_KEPT: dict[tuple[Any, int], Tables] = {}


def _tables_kept(reopen: Any) -> Any:
    async def wrong(self: Any, processor: Any) -> None:
        _KEPT[self, processor.number] = processor.partition.tables
        await reopen(self, processor)

    return wrong


def _tables_taken_back(restored: Any) -> Any:
    async def wrong(self: Any, producer: Any, generation: int) -> Any:
        processor, rows = await restored(self, producer, generation)
        kept = _KEPT.pop((self, producer.partition), None)
        if kept is not None:
            kept.settle()
            kept.hand_over()
            kept.settle()
            processor.partition.tables.tickets.update(kept.tickets)
            processor.partition.tables.sessions.update(kept.sessions)
        return processor, rows

    return wrong


_EARLY: dict[tuple[str, int], list[tuple[str, list[Any]]]] = {}


def _read_before_fencing(opened: Any) -> Any:
    async def wrong(self: Any, producer: Any, generation: int) -> Any:
        rows: list[tuple[str, list[Any]]] = []

        def take(table: str, some: Any) -> int:
            rows.append((table, list(some)))
            return 0

        async def no_end(changelog: str) -> None:
            """Nothing can be written yet."""

        await _RESTORE(self._briefly, producer.partition, take, no_end)
        _EARLY[self._config.app_id, producer.partition] = rows
        return await opened(self, producer, generation)

    return wrong


def _early_rows(restore: Any) -> Any:
    async def wrong(config: Any, partition: int, take: Any, write_end: Any, remaining: Any = None) -> int:
        return sum(take(table, rows) for table, rows in _EARLY.pop((config.app_id, partition), ()))

    return wrong


_RESTORE = streams.worker.supervisor.restore


def _tombstones_ignored(restore: Any) -> Any:
    def wrong(self: Any, table: Any, ticket_id: str, row: bytes | None) -> None:
        if row is not None:
            restore(self, table, ticket_id, row)

    return wrong


def _timers_forgotten(start: Any) -> Any:
    def wrong(self: Any) -> None:
        start(self)
        self._timers.clear()

    return wrong


# --- the inbox


def _any_generation(put: Any) -> Any:
    def wrong(self: Any, fetch: Fetch) -> None:
        put(self, fetch._replace(generation=self.generation))

    return wrong


def _forgotten_when_paused(put: Any) -> Any:
    def wrong(self: Any, fetch: Fetch) -> None:
        put(self, fetch)
        if self.paused and self._fetches:
            records, _ = self._fetches.pop()
            self.queued -= len(records)

    return wrong


def _ends_are_now(ends: Any) -> Any:
    def wrong(self: Any) -> Any:
        return dict.fromkeys(self.inboxes, self._clock())

    return wrong


def _ends_stay(ends: Any) -> Any:
    def wrong(self: Any) -> Any:
        return {topic: None if end is None else self._clock() for topic, end in ends(self).items()}

    return wrong


def _without_grace(make: Any) -> Any:
    def wrong(self: Any, *what: Any, **more: Any) -> None:
        make(self, *what, **(more | {"clock_grace": 0}))

    return wrong


def _gap_skipped(enter: Any) -> Any:
    def wrong(self: Any, generation: int, limit: int) -> None:
        enter(self, generation, limit)
        self._fetches.clear()
        self.queued = 0

    return wrong


PLANTED: Mapping[str, Bug] = {
    "offsets-before-commands": Bug(
        "The offsets are committed in a transaction of their own, before the commands.",
        ((PartitionProducer, "commit", _offsets_first),),
    ),
    "epoch-reused-after-doubt": Bug(
        "An epoch is used again although a request of it was not answered.",
        ((PartitionProducer, "_take_next_epoch", _epoch_kept),),
    ),
    "late-offsets-overlooked": Bug(
        "An offset commit without an answer does not count as a request that may arrive late.",
        ((Exchange, "send", _late_offsets_overlooked),),
    ),
    "settled-after-a-failure": Bug(
        "When a commit fails, its rows are settled, and the next batch goes on after it.",
        ((PartitionProcessor, "_commit", _settled_after_failure),),
    ),
    "written-again-in-doubt": Bug(
        "When the outcome of a commit is unknown, the same batch is written once more.",
        ((PartitionProducer, "commit", _written_again),),
    ),
    "tables-kept-without-the-epoch": Bug(
        "A partition that is opened again keeps the rows of a batch that was not committed.",
        ((Supervisor, "_reopen", _tables_kept), (Supervisor, "_restored", _tables_taken_back)),
    ),
    "read-before-fencing": Bug(
        "The changelogs are read before the previous producer is fenced.",
        (
            (Supervisor, "_opened", _read_before_fencing),
            (streams.worker.supervisor, "restore", _early_rows),
        ),
    ),
    "tombstones-ignored": Bug(
        "A restore keeps rows that were deleted.",
        ((Tables, "restore", _tombstones_ignored),),
        needs_old_age=True,
    ),
    "timers-forgotten": Bug(
        "A restore does not rebuild the timers of the rounds that wait.",
        ((Partition, "start", _timers_forgotten),),
    ),
    "any-generation": Bug(
        "An inbox takes fetches of an older generation.",
        ((Inbox, "put", _any_generation),),
    ),
    "forgotten-when-paused": Bug(
        "A fetch that arrives while its inbox is paused is counted and dropped.",
        ((Inbox, "put", _forgotten_when_paused),),
    ),
    "inbox-emptied-by-a-rebalance": Bug(
        "A rebalance empties the inboxes of partitions that stay, and does not read their records again.",
        ((Inbox, "enter", _gap_skipped),),
    ),
    "timers-on-wall-time": Bug(
        "Stream time follows the clock although records are still to be read.",
        ((PartitionProcessor, "_ends", _ends_are_now),),
    ),
    "ends-stay": Bug(
        "An input that was at its end once is taken to be there for ever.",
        ((PartitionProcessor, "_ends", _ends_stay),),
    ),
    "no-grace": Bug(
        "Stream time follows the worker's clock without staying behind it.",
        ((Partition, "__init__", _without_grace),),
    ),
}
