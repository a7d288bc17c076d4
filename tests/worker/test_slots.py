"""How many partitions of a worker commit at once."""

from __future__ import annotations

import asyncio

import pytest

from streams.worker import slots
from streams.worker.slots import CommitLimit, CommitSlots

COMMITS = 21_000
"""Ten windows and a half."""


class Broker:
    """Ends so many transactions at once in so long; more take their turns."""

    def __init__(self, at_once: int, seconds: float) -> None:
        self._at_once, self._seconds = at_once, seconds

    def commit(self, under_way: int) -> float:
        return self._seconds * max(1.0, under_way / self._at_once)


def settled(broker: Broker) -> int:
    """The limit that many commits lead to, with all partitions always waiting."""
    limit = CommitLimit()
    for _ in range(COMMITS):
        limit.took(broker.commit(limit.value), others_wait=True)
    return limit.value


@pytest.mark.parametrize("at_once", [1, 4, 8, 16])
def test_the_limit_settles_a_little_above_what_the_broker_does_at_once(at_once):
    assert max(4, at_once) <= settled(Broker(at_once, 0.004)) <= 2.5 * max(4, at_once)


def test_the_limit_does_not_depend_on_how_far_away_the_broker_is():
    assert settled(Broker(8, 0.001)) == settled(Broker(8, 0.100))


def test_a_broker_that_is_never_busy_is_not_held_back():
    assert settled(Broker(10_000, 0.030)) > 100


def test_the_limit_shrinks_when_the_broker_gets_busy_and_grows_again_when_it_is_not():
    limit = CommitLimit()
    grown = []
    for at_once in (32, 4, 32):
        for _ in range(COMMITS):
            limit.took(Broker(at_once, 0.004).commit(limit.value), others_wait=True)
        grown.append(limit.value)
    assert grown[1] < grown[0] / 2
    assert grown[2] > 2 * grown[1]


def test_the_limit_does_not_grow_while_nobody_waits():
    limit = CommitLimit()
    for _ in range(10_000):
        limit.took(0.004, others_wait=False)
    assert limit.value == 4


async def test_turns_come_in_the_order_in_which_they_were_asked_for_and_never_too_many_at_once():
    turns, order, under_way, most = CommitSlots(CommitLimit(least=2, most=2)), [], 0, 0

    async def commit(number: int) -> None:
        nonlocal under_way, most
        async with turns.turn():
            order.append(number)
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(commit(number) for number in range(50)))
    assert order == list(range(50))
    assert most == 2


async def test_a_commit_that_is_overdue_gives_its_turn_away_once(monkeypatch):
    monkeypatch.setattr(slots, "_OVERDUE_SECONDS", 0.01)
    turns = CommitSlots(CommitLimit(least=1, most=1))
    release, done = asyncio.Event(), []

    async def hangs() -> None:
        async with turns.turn():
            await release.wait()

    async def commits(number: int) -> None:
        async with turns.turn():
            done.append(number)

    hanging = asyncio.create_task(hangs())
    await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(commits(1), commits(2)), 30)
    assert done == [1, 2]
    release.set()
    await hanging
    held = turns.turn()
    async with held:
        waiting = asyncio.create_task(commits(3))
        await asyncio.sleep(0)
        assert done == [1, 2], "the overdue turn was given back only once"
    await waiting


async def test_turns_are_given_back_by_whoever_fails_or_stops_waiting():
    turns = CommitSlots(CommitLimit(least=1, most=1))
    with pytest.raises(OSError, match="broken"):
        async with turns.turn():
            raise OSError("broken")
    async with turns.turn():
        waiting = [asyncio.create_task(turns.take()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    await waiting[1]
    waiting[2].cancel()
    turns.give_back()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.wait_for(turns.take(), 30)
