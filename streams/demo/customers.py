"""Customers and agents of the demo with Zendesk: who does what, and when. The same seed gives the same plan."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from enum import StrEnum

import msgspec

Seconds = float

FIRST_TICKET = 5_001
LEAVE, RETURN, AGENT = 0.8, 0.25, 0.1
"""Shares: of customers who leave, and of those, who come back in time, and whom an agent sees to at that moment."""


class Act(StrEnum):
    """What somebody does."""

    ARRIVE = "arrive"
    """A customer opens a conversation: a ticket, and a session that is active."""
    LEAVE = "leave"
    """The customer closes the browser: the session becomes inactive."""
    RETURN = "return"
    """The customer is back before Lapse acts."""
    SOLVE = "solve"
    """An agent solves the ticket."""


class Happening(msgspec.Struct, frozen=True, order=True):
    """One act. `at` is in seconds after the beginning."""

    at: Seconds
    ticket_id: int
    act: Act


def plan(seed: int, customers_per_second: float, seconds: Seconds | None) -> Iterator[Happening]:
    """Yield what happens, in order. With `seconds`, nobody arrives after that; without, it never ends."""
    rng = random.Random(seed)  # noqa: S311 - sample data
    to_come: list[Happening] = []
    at, ticket_id = 0.0, FIRST_TICKET
    while True:
        at += rng.expovariate(customers_per_second)
        while to_come and to_come[0].at <= at:
            yield heapq.heappop(to_come)
        if seconds is not None and at > seconds:
            break
        yield Happening(at, ticket_id, Act.ARRIVE)
        for happening in _visit(rng, at, ticket_id):
            heapq.heappush(to_come, happening)
        ticket_id += 1
    while to_come:
        yield heapq.heappop(to_come)


def _visit(rng: random.Random, at: Seconds, ticket_id: int) -> Iterator[Happening]:
    """Yield what becomes of one conversation after its beginning."""
    left = at + rng.uniform(1.5, 4.0)
    if rng.random() >= LEAVE:
        yield Happening(left + rng.uniform(1.0, 3.0), ticket_id, Act.SOLVE)
        return
    yield Happening(left, ticket_id, Act.LEAVE)
    chance = rng.random()
    if chance < RETURN:
        back = left + rng.uniform(0.2, 0.7)
        yield Happening(back, ticket_id, Act.RETURN)
        yield Happening(back + rng.uniform(1.0, 3.0), ticket_id, Act.SOLVE)
    elif chance < RETURN + AGENT:
        yield Happening(left + rng.uniform(0.2, 2.5), ticket_id, Act.SOLVE)
