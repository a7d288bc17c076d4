"""A deterministic event loop in virtual time, and the hosts that run on it.

Callbacks run in the order in which they became ready. Time moves only when nothing is ready, or by a few microseconds
a round, so a whole day takes no time and two runs with the same seed are the same, callback by callback.

A `Host` is a process of its own: everything that was started in its context stops when it is frozen, and never runs
again when it is killed, as after SIGSTOP and kill -9. What it had sent is still under way.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from typing import Any

_ROUND_SECONDS = 2e-6
"""What one round of callbacks takes. Without it, a loop that only yields would stop time."""

HOST: ContextVar[Host | None] = ContextVar("host", default=None)


class Host:
    """A process: its callbacks can be held back or dropped."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.parked: list[asyncio.Handle] = []
        self.context = Context()
        self.context.run(HOST.set, self)


class StuckError(Exception):
    """Nothing is left to run, and somebody still waits."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The event loop. `begin` is its first `time()`."""

    def __init__(self, begin: float = 1_000.0) -> None:
        super().__init__()
        self._now = begin
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = 0
        self.unseen: list[str] = []
        """Errors that nobody took."""
        self._tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._take_error)

    def time(self) -> float:
        return self._now

    def _make_task(self, loop: Any, coro: Any, **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **more)
        # Kept until the end: a task of a killed host must not be finalized, which would run its `finally` blocks.
        self._tasks.append(task)
        return task

    def _take_error(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.unseen.append(f"{context.get('message')}: {error!r}")

    def spawn(self, host: Host, coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task in a host's context."""
        return self.create_task(coro, name=name, context=host.context)

    def thaw(self, host: Host) -> None:
        """Let a frozen host go on with what became due meanwhile."""
        host.frozen = False
        self._ready.extend(host.parked)
        host.parked = []

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, handle))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def jump(self, seconds: float) -> None:
        """Let time pass in which nothing runs anywhere, as when a machine is suspended."""
        self._now += seconds

    def _run_once(self) -> None:
        timers, ready = self._timers, self._ready
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        self._now += _ROUND_SECONDS
        if not ready and not self._stopping:
            if not timers:
                raise StuckError("nothing is left to run")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            host = handle._context.get(HOST)
            if host is not None:
                if not host.alive:
                    continue
                if host.frozen:
                    host.parked.append(handle)
                    continue
            handle._run()

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, events: Any) -> None:
        pass

    def dispose(self) -> None:
        """Close what is left of all hosts."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            if not task.done():
                task._log_destroy_pending = False
                with suppress(BaseException):
                    task.get_coro().close()
        self._ready.clear()
        self._timers.clear()
        self.close()


@contextmanager
def virtual_time(loop: VirtualLoop, seed: int) -> Iterator[None]:
    """Let `time` and `random` follow the loop and the seed; everything is as before afterwards."""
    state = random.getstate()
    names = ("monotonic", "perf_counter", "time")
    before: dict[str, Callable[[], float]] = {name: getattr(time, name) for name in names}
    random.seed(seed)
    for name in names:
        setattr(time, name, loop.time)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(time, name, function)
        random.setstate(state)
