"""The rate guard: how often triggers fired lately, and when the next firing is held (SPEC section 10, *Rate guard*).

The firings of each limited trigger are kept in rows of the partition, so that restarts and other rules do not forget
them. A history is one head row, `limit/<trigger id>`, and at most about forty full blocks, with the keys
`limit-block/<number>/<trigger id>`. The head has the newest instants, and the first and last of each block, so that a
firing rewrites the head alone: at most 3 KiB, with 10,000 firings in the span too. A block is read only where the
beginning of the span falls into it. Instants are stream time, which never goes back, so every history is sorted.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping

import msgspec

from streams.core.model import Micros
from streams.core.tables import OWN, OwnRows, Tables
from streams.core.triggers import HIGHEST_COUNT, Limit

HEADS = OWN + b"limit/"
BLOCKS = OWN + b"limit-block/"

BLOCK = 256
"""Instants in a full block, at eight bytes each."""


class _Block(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """A full block, as the head knows it."""

    number: int
    first: Micros
    last: Micros


class _Head(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The head row of a history."""

    blocks: list[_Block]
    """Oldest first."""
    next_number: int
    newest: bytes
    """The instants after those of the blocks, oldest first, at most `BLOCK`."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Head).decode


def read_head(row: bytes) -> None:
    """Raise `msgspec.DecodeError` when the head row of a history can't be read."""
    _decode(row)


def allowed(limit: Limit, partitions: int) -> int:
    """Return how many firings in the span one of `partitions` partitions lets pass.

    >>> allowed(Limit(200, 600_000_000), 3)
    67
    """
    return -(-limit.count // partitions)


class Guard:
    """The histories of limited triggers, as one step reads and extends them. What has changed is in `rows`."""

    def __init__(self, tables: Tables, limits: Mapping[str, Limit], now: Micros) -> None:
        """Read histories from `tables`, which this never changes; `now` is stream time."""
        self.rows: OwnRows = {}
        self._tables = tables
        self._limits = limits
        self._now = now

    def judge(self, fired: Iterable[str]) -> tuple[str, ...]:
        """Count a firing of these triggers; return those of them whose limit it would pass, in the same order."""
        return tuple([trigger for trigger in fired if trigger in self._limits and self._is_over(trigger)])

    def _is_over(self, trigger: str) -> bool:
        """Add a firing to a trigger's history; return whether as many as are allowed lay in the span before."""
        limit = self._limits[trigger]
        name = trigger.encode()
        data = self._row(HEADS + name)
        head = _Head([], 0, b"") if data is None else _decode(data)
        begin = self._now - limit.per
        self._forget(head, name, begin)
        newest = array("q", head.newest)
        count = len(newest) - bisect_right(newest, begin)
        for block in head.blocks:
            # Blocks that ended before the span are forgotten by now.
            count += BLOCK if block.first > begin else BLOCK - bisect_right(self._block(name, block), begin)
        if len(newest) == BLOCK:
            head.blocks.append(_Block(head.next_number, newest[0], newest[-1]))
            self.rows[_key(name, head.next_number)] = head.newest
            head.next_number += 1
            newest = array("q")
        newest.append(self._now)
        head.newest = newest.tobytes()
        self.rows[HEADS + name] = _encode(head)
        return count >= allowed(limit, self._tables.partitions)

    def _forget(self, head: _Head, name: bytes, begin: Micros) -> None:
        """Drop the blocks that ended before the span, and those beyond the most that a limit can count."""
        while head.blocks and (head.blocks[0].last <= begin or (len(head.blocks) - 1) * BLOCK >= HIGHEST_COUNT):
            self.rows[_key(name, head.blocks.pop(0).number)] = None

    def _block(self, name: bytes, block: _Block) -> array[int]:
        data = self._row(_key(name, block.number))
        assert data is not None  # noqa: S101 -- it is written with the head that names it
        return array("q", data)

    def _row(self, key: bytes) -> bytes | None:
        return self.rows[key] if key in self.rows else self._tables.own_row(key)


def _key(name: bytes, number: int) -> bytes:
    return b"%s%d/%s" % (BLOCKS, number, name)
