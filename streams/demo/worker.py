"""The processes of Lapse in the demo, each separate as in production: `lapse run`, and others by their verb."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from streams.core.errors import LapseError
from streams.demo.processes import child_arguments

_STOP_SECONDS = 30.0
_LOG_TAIL = 15
_WARNING = re.compile(r"\S+ \[warning *\] (.*?) *\[[\w.]+\]")
"""A warning in the log; its message is the group."""


class WorkerFailed(LapseError):
    """A process ended unexpectedly or with an error. The message contains the end of its log."""


class Worker:
    """One `lapse run`, or another verb, with its settings in a file and its log beside that file."""

    def __init__(self, process: Process, log: Path, verb: str) -> None:
        """Wrap a process that `start` has started."""
        self._process = process
        self._log = log
        self._read = 0
        self._name = "the worker" if verb == "run" else f"lapse {verb}"

    @classmethod
    async def start(cls, folder: Path, settings: Mapping[str, Any], verb: str = "run") -> Self:
        """Start the process in `folder` with only the given settings; `LAPSE_` variables are not passed on."""
        config, log = folder / f"{verb}.yaml", folder / f"{verb}.log"
        config.write_text(json.dumps(settings, indent=2))  # JSON is YAML
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "streams", verb, "--config", str(config)),
                cwd=folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                **child_arguments(),
            )
        return cls(process, log, verb)

    async def ended(self) -> None:
        """Wait while it runs; raise WorkerFailed if it ends without being asked to."""
        code = await self._process.wait()
        raise WorkerFailed(f"{self._name} ended with exit code {code}; its log ends with:\n{self._tail()}")

    async def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait. Raises WorkerFailed if it does not end cleanly."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise WorkerFailed(f"{self._name} did not end within {_STOP_SECONDS:.0f} s of SIGTERM") from None
        if code != 0:
            raise WorkerFailed(f"{self._name} ended with exit code {code}; its log ends with:\n{self._tail()}")

    def warnings(self) -> list[str]:
        """Return the warnings that have come into its log since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = whole.decode(errors="replace").splitlines()
        return [found[1] for line in lines if (found := _WARNING.match(line))]

    def kill(self) -> None:
        """Kill it at once, as a last resort."""
        if self._process.returncode is None:
            self._process.kill()

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").rstrip().splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LOG_TAIL:]) or "  (nothing)"


async def until_ready(page: str) -> None:
    """Return once the worker's `/readyz` reports that every partition is restored."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{page}readyz", timeout=2) as answer:  # noqa: S310 - our own loopback page
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    while True:
        if await asyncio.to_thread(ready):
            return
        await asyncio.sleep(0.1)
