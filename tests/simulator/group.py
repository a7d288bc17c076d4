"""The group coordinator: members, generations, rebalances, sessions that expire, and members that keep their place."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulator.errors import Code
from tests.simulator.loop import VirtualLoop
from tests.simulator.network import Trace

_LOOK_SECONDS = 0.25


@dataclass
class Member:
    """A member as the coordinator knows it."""

    member_id: str
    instance: str | None
    seen: float
    waiting: asyncio.Future[tuple[int, frozenset[int]]] | None = None
    partitions: frozenset[int] = frozenset()


class GroupCoordinator:
    """One group. Every rebalance stops all members, as with Faust's assignor."""

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        trace: Trace,
        partitions: int,
        *,
        session_timeout: float,
        rebalance_timeout: float,
    ) -> None:
        self.generation = 0
        self.members: dict[str, Member] = {}
        self._loop, self._rng, self._trace = loop, rng, trace
        self._partitions = partitions
        self._session_timeout, self._rebalance_timeout = session_timeout, rebalance_timeout
        self._rebalancing_until: float | None = None
        self._ids = 0

    def start(self, later: Callable[[float, Callable[[], None]], None]) -> None:
        """Begin to look for members whose session is over."""
        self._later = later
        later(_LOOK_SECONDS, self._look)

    def join(
        self, member_id: str | None, instance: str | None
    ) -> tuple[str, asyncio.Future[tuple[int, frozenset[int]]]]:
        """Take a member in; its future gets generation and partitions when all have joined."""
        now = self._loop.time()
        member = self.members.get(member_id or "")
        if member is None:
            self._ids += 1
            member = Member(f"member-{self._ids}", instance, now)
            before = next((m for m in self.members.values() if instance is not None and m.instance == instance), None)
            if before is not None:
                del self.members[before.member_id]
                if before.waiting is not None and not before.waiting.done():
                    before.waiting.cancel()
                if self._rebalancing_until is None:
                    # A static member that comes back gets what it had, without a rebalance.
                    member.partitions = before.partitions
                    self.members[member.member_id] = member
                    done = self._loop.create_future()
                    done.set_result((self.generation, member.partitions))
                    return member.member_id, done
            self.members[member.member_id] = member
        member.seen = now
        if member.waiting is None or member.waiting.done():
            member.waiting = self._loop.create_future()
        self._begin()
        self._end_when_all_joined()
        return member.member_id, member.waiting

    def heartbeat(self, member_id: str | None, generation: int) -> Code:
        """Take a sign of life."""
        member = self.members.get(member_id or "")
        if member is None:
            return Code.UNKNOWN_MEMBER_ID
        member.seen = self._loop.time()
        if self._rebalancing_until is not None or generation != self.generation:
            return Code.REBALANCE_IN_PROGRESS
        return Code.NONE

    def leave(self, member_id: str | None) -> None:
        """Let a member go."""
        if self.members.pop(member_id or "", None) is not None:
            self._begin()
            self._end_when_all_joined()

    def _begin(self) -> None:
        if self._rebalancing_until is None:
            self._rebalancing_until = self._loop.time() + self._rebalance_timeout

    def _look(self) -> None:
        now = self._loop.time()
        for member in list(self.members.values()):
            if member.waiting is not None and not member.waiting.done():
                continue
            if now - member.seen > self._session_timeout:
                self._trace("group", f"{member.member_id} is gone")
                del self.members[member.member_id]
                self._begin()
        if self._rebalancing_until is not None and now >= self._rebalancing_until:
            for member in list(self.members.values()):
                if member.waiting is None or member.waiting.done():
                    self._trace("group", f"{member.member_id} did not join in time")
                    del self.members[member.member_id]
        self._end_when_all_joined()
        self._later(_LOOK_SECONDS, self._look)

    def _end_when_all_joined(self) -> None:
        if self._rebalancing_until is None:
            return
        members = list(self.members.values())
        if any(member.waiting is None or member.waiting.done() for member in members):
            return
        self._rebalancing_until = None
        self.generation += 1
        self._rng.shuffle(members)
        for place, member in enumerate(members):
            member.partitions = frozenset(range(place, self._partitions, len(members)))
            member.seen = self._loop.time()
            self._trace("group", f"generation {self.generation}: {member.member_id} has {sorted(member.partitions)}")
            assert member.waiting is not None
            member.waiting.set_result((self.generation, member.partitions))
