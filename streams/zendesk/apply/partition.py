"""The commands of one partition: read in order, carried out ticket by ticket, and ended in transactions.

Commands of different tickets end in any order. A transaction has the results of some of them, and commits the offset of
the first command that has not ended; which later ones have is in the offset's metadata. So a command that waits, for
its ticket's quota or because its trigger is stopped, keeps no other command from ending, and none ends twice.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

import msgspec
from aiokafka import ConsumerRecord

from streams.core.model import SECOND, Micros
from streams.core.names import Output
from streams.kafka.producer import PartitionProducer
from streams.telemetry.apply import ApplyMetrics
from streams.wire.writes import Write
from streams.zendesk.apply.config import ApplyConfig
from streams.zendesk.apply.plan import Command, NotACommandError, age_counts_from, decode_command
from streams.zendesk.apply.results import Ending, Result, Source, letter_writes, result_write
from streams.zendesk.apply.work import Work

logger = logging.getLogger(__name__)

WINDOW = 2_000
"""How far after the committed offset commands are begun. So many after it may have been sent by a process before."""
_LINGER_SECONDS = 0.02
_AT_ONCE = 500
_METADATA = "lapse-apply done="


class Carries(Protocol):
    """What carries a command out."""

    async def carry(self, work: Work) -> Ending:
        """Return how it ended."""
        ...


class _Item(msgspec.Struct):
    """A record of the partition that has not been committed as ended."""

    source: Source
    command: Command | None
    """None for what is no command."""
    why: str = ""
    """Why it is none."""
    ending: Ending | None = None


class Partition:
    """Works from `add` to `close`. `failed` is done, with the error, when it can't go on."""

    def __init__(
        self,
        config: ApplyConfig,
        producer: PartitionProducer,
        carrier: Carries,
        metrics: ApplyMetrics,
        *,
        committed: int,
        metadata: str,
    ) -> None:
        """Go on at an offset; `metadata` was committed with it."""
        self.number = producer.partition
        self.next = committed
        """Offset of the next record to be added."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._config = config
        self._producer = producer
        self._carrier = carrier
        self._metrics = metrics
        self._committed = committed
        self._began_at = committed
        self._done = done_ahead(metadata, committed)
        """Offsets of commands that have ended after the committed offset."""
        self._items: dict[int, _Item] = {}
        """What was begun and not committed, by offset, in offset order."""
        self._ended: list[int] = []
        self._lanes: dict[str, deque[int]] = {}
        """Offsets of each ticket's commands, in order; a ticket with a lane has a task."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._closing = False
        self._committing = asyncio.create_task(self._commit_on(), name=f"apply results {self.number}")

    @property
    def has_room(self) -> bool:
        """Whether more commands may be begun."""
        return self.next < self._committed + WINDOW

    @property
    def waiting(self) -> int:
        """How many commands were begun and have not ended."""
        return sum(item.ending is None and item.command is not None for item in self._items.values())

    @property
    def commands(self) -> Iterable[Command]:
        """Those that have not ended."""
        return (item.command for item in self._items.values() if item.ending is None and item.command is not None)

    def add(self, records: Iterable[ConsumerRecord]) -> None:
        """Begin the commands in these records, which follow those added before."""
        for record in records:
            if record.offset < self.next:
                continue
            self.next = record.offset + 1
            if record.offset not in self._done:
                self._begin(record)
        self._news.set()

    def _begin(self, record: ConsumerRecord) -> None:
        source = Source(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            tuple(record.headers or ()),
        )
        try:
            command = decode_command(record.value)
        except NotACommandError as error:
            logger.error("%s-%d, offset %d is no command: %s", record.topic, record.partition, record.offset, error)
            self._items[record.offset] = _Item(source, None, str(error))
            self._ended.append(record.offset)
            return
        self._items[record.offset] = _Item(source, command)
        lane = self._lanes.get(command.ticket_id)
        if lane is not None:
            lane.append(record.offset)
            return
        self._lanes[command.ticket_id] = deque([record.offset])
        task = asyncio.create_task(self._run_lane(command.ticket_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_lane(self, ticket_id: str) -> None:
        """Carry the commands of one ticket out, one after the other."""
        lane = self._lanes[ticket_id]
        try:
            while lane:
                await self._carry(lane[0])
                lane.popleft()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._fail(error)
        finally:
            self._lanes.pop(ticket_id, None)

    async def _carry(self, offset: int) -> None:
        item = self._items[offset]
        command = item.command
        assert command is not None  # noqa: S101 a lane has commands only
        counted_from = age_counts_from(command, item.source.headers)
        # A process before this one can have begun what lies within a window after what it had committed.
        work = Work(command=command, counted_from=counted_from, doubt=offset < self._began_at + WINDOW)
        item.ending = await self._carrier.carry(work)
        self._ended.append(offset)
        self._news.set()
        _log(command, item.ending)

    # --- results -----------------------------------------------------------------------------------------------------

    async def _commit_on(self) -> None:
        try:
            while True:
                await self._news.wait()
                await asyncio.sleep(_LINGER_SECONDS)
                self._news.clear()
                while self._ended:
                    await self._commit()
                if self._closing:
                    return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._fail(error)

    async def _commit(self) -> None:
        """Write results and the offset in one transaction, then count."""
        some, self._ended = self._ended[:_AT_ONCE], self._ended[_AT_ONCE:]
        now: Micros = time.time_ns() // 1_000
        results: list[Write] = []
        letters: list[Write] = []
        for offset in some:
            item = self._items[offset]
            if item.command is None:
                letters.append(self._letter(item.source, "invalid", item.why, None, ""))
            elif item.ending is not None:
                ending = item.ending
                command = item.command
                results.append(result_write(item.source.key, command.command_id, command.ticket_id, ending, now))
                if ending.result is Result.REFUSED:
                    letters.append(self._letter(item.source, "refused", ending.why, ending.status, ending.answer))
        done = self._done.union(some)
        open_ones = (offset for offset in self._items if offset not in done)
        reached = next(open_ones, self.next)
        config = self._config
        await self._producer.commit(
            {config.topic(Output.RESULTS): results, config.topic(Output.APPLY_DEAD_LETTERS): letters},
            {config.topic(Output.COMMANDS): reached},
            0,
            now,
            metadata=metadata_of(reached, done),
        )
        self._committed = reached
        self._done = {offset for offset in done if offset >= reached}
        for offset in some:
            item = self._items.pop(offset)
            if item.ending is not None and item.command is not None:
                counted_from = age_counts_from(item.command, item.source.headers)
                self._metrics.ended(
                    item.ending.result.value, max(0, now - counted_from) / SECOND, len(item.ending.not_done)
                )

    def _letter(self, source: Source, code: str, why: str, status: int | None, answer: str) -> Write:
        topic = self._config.topic(Output.APPLY_DEAD_LETTERS)
        *more, least = letter_writes(source, code, why, status, answer)
        return next((letter for letter in more if self._producer.fits(topic, letter)), least)

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def close(self, seconds: float) -> None:
        """End every lane; commit what has ended, within so many seconds, and leave the rest to whoever comes next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closing = True
        self._news.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wait({self._committing})
        self._committing.cancel()
        await asyncio.gather(self._committing, return_exceptions=True)
        if self.failed.done():
            self.failed.exception()  # retrieved, or asyncio would log it
        await self._producer.discard()


def metadata_of(committed: int, done: Iterable[int]) -> str:
    """Return the metadata of a committed offset: which of the records after it have ended.

    >>> done_ahead(metadata_of(10, [7, 12, 21]), 10) == {12, 21}
    True
    >>> metadata_of(10, [7])
    'lapse-apply done='
    """
    bits = 0
    for offset in done:
        if offset >= committed:
            bits |= 1 << (offset - committed)
    text = base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()
    return f"{_METADATA}{text}"


def done_ahead(metadata: str, committed: int) -> set[int]:
    """Read `metadata_of`: the offsets that have ended; none when the offset was committed by other means.

    >>> done_ahead("set by hand", 3), done_ahead("", 3)
    (set(), set())
    """
    if not metadata.startswith(_METADATA):
        return set()
    bits = int.from_bytes(base64.b64decode(metadata.removeprefix(_METADATA)), "little")
    return {committed + place for place in range(bits.bit_length()) if bits >> place & 1}


def _log(command: Command, ending: Ending) -> None:
    fields = {"ticket_id": command.ticket_id, "command_id": command.command_id}
    if ending.result is Result.REFUSED:
        logger.warning("refused: %s", ending.why, extra=fields | {"limit": "refused"})
    elif ending.not_done:
        logger.warning(
            "applied, but the API can't carry out %s", ", ".join(ending.not_done), extra=fields | {"limit": "not done"}
        )
    else:
        logger.debug("%s %s", ending.result.value, ending.why, extra=fields)
