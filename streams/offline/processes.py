"""Runs several partitions in parallel, each in a forked process that shares the data read so far."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from streams.core.errors import LapseError

T = TypeVar("T")

_LOOK_SECONDS = 0.2


class ProcessDied(LapseError):
    """A process ended without a result: it ran out of memory or was killed."""


def can_fork() -> bool:
    """Whether the platform can fork a process that shares this one's memory."""
    return "fork" in multiprocessing.get_all_start_methods()


def processors() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class InProcesses(Generic[T]):
    """Runs `work(number, tell)` for each number, at most `jobs` of them at a time.

    `work` calls `tell(done)` periodically and must return a picklable result. `progress` receives the total.
    """

    def __init__(
        self, work: Callable[[int, Callable[[int], None]], T], jobs: int, progress: Callable[[int], None] | None = None
    ) -> None:
        """Store the arguments; nothing is started yet."""
        self._work = work
        self._jobs = jobs
        self._progress = progress
        self._context: Any = multiprocessing.get_context("fork")

    def over(self, numbers: Sequence[int]) -> Iterator[T]:
        """Yield the results in the order of the numbers, each as soon as it and all earlier ones are ready.

        Raises the exception that `work` raised, or `ProcessDied`.
        """
        done = self._context.RawArray("Q", len(numbers))
        waiting = list(enumerate(numbers))
        running: dict[Connection, tuple[int, Any]] = {}
        results: dict[int, T] = {}
        following = 0
        try:
            while following < len(numbers):
                while waiting and len(running) < self._jobs:
                    place, number = waiting.pop(0)
                    receiver, process = self._start(number, done, place)
                    running[receiver] = (place, process)
                for ready in wait(list(running), _LOOK_SECONDS):
                    assert isinstance(ready, Connection)  # noqa: S101 -- we wait for nothing else
                    place, process = running.pop(ready)
                    results[place] = _received(ready, process)
                if self._progress is not None:
                    self._progress(sum(done))
                while following in results:
                    yield results.pop(following)
                    following += 1
        finally:
            for _, process in running.values():
                process.terminate()
                process.join()

    def _start(self, number: int, done: Any, place: int) -> tuple[Connection, Any]:
        receiver, sender = self._context.Pipe(duplex=False)

        def tell(count: int) -> None:
            done[place] = count

        def run() -> None:
            try:
                sender.send((True, self._work(number, tell)))
            except Exception as error:
                sender.send((False, error))

        process = self._context.Process(target=run, daemon=True)
        process.start()
        sender.close()
        return receiver, process


def _received(receiver: Connection, process: Any) -> Any:
    try:
        worked, result = receiver.recv()
    except EOFError:
        process.join()
        raise ProcessDied(
            f"A process that ran a partition ended with code {process.exitcode}; is there enough memory? --jobs 1 "
            "needs the least."
        ) from None
    process.join()
    if not worked:
        raise result
    return result
