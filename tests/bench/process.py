"""One contestant's process with its children: started, measured, and ended by its own id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.kafka_kit.broker import die_with_parent

ROOT = Path(__file__).parents[2]
_STOP_SECONDS = 10.0


class Process:
    """A running program. Leaving the `with` ends it, and its children, whatever happened."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """Prepare; what the program says goes to `log`."""
        self._command, self._env, self._log = list(command), env, log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it; from the main thread, since it dies with the thread that started it."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._env},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """SIGTERM, and SIGKILL to whatever is left of it after ten seconds."""
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            everyone = self._everyone()
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            for each in everyone:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        """The process id of the program itself."""
        assert self._process is not None
        return self._process.pid

    def check(self) -> None:
        """Raise when it has ended, with the end of what it said."""
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise RuntimeError(f"{' '.join(self._command)[:200]} ended with {code}:\n{self.tail()}")

    def tail(self, size: int = 3000) -> str:
        """Return the end of what it said."""
        return self._log.read_text(errors="replace")[-size:]

    def cpu(self) -> float:
        """Return seconds of processor time so far, user and system, children included."""
        total = 0.0
        for each in self._everyone():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system
        return total

    def resident(self) -> int:
        """Return bytes of memory that are resident now, children included."""
        total = 0
        for each in self._everyone():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
        return total

    def _everyone(self) -> list[psutil.Process]:
        own = psutil.Process(self.pid)
        return [own, *own.children(recursive=True)]
