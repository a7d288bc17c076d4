"""A temporary Kafka broker for the demo: one small binary (noida-db, the extra `demo`), data in a temporary folder.

It is not Apache Kafka. It supports transactions, fencing and `read_committed` well enough for one worker. A commit
during a rebalance blocks its groups. It applies retention to record timestamps immediately, hence `TOPIC_CONFIG`.
"""

from __future__ import annotations

import importlib.resources
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.core.errors import LapseError
from streams.demo.processes import child_arguments

TOPIC_CONFIG = {"retention.ms": "-1"}
"""Configuration of every topic. Without it, records with old timestamps are deleted as soon as they are written."""

_READY_SECONDS = 20.0
_STOP_SECONDS = 5.0
_ADDRESS = re.compile(r"^\s*kafka\s+(\S+:\d+)\s*$", re.MULTILINE)


class BrokerFailed(LapseError):
    """The embedded broker is not installed or does not start. The message says what to do."""


class EmbeddedBroker:
    """One broker on a free loopback port. `start` returns when it is ready; `close` ends it and removes its data."""

    def __init__(self) -> None:
        """Create the object; nothing is started yet."""
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""
        """`host:port` for clients, available once started."""

    @property
    def folder(self) -> Path:
        """The data folder while the broker runs. Raises BrokerFailed when it does not run."""
        if self._folder is None:
            raise BrokerFailed("the embedded broker is not running")
        return self._folder

    @property
    def pid(self) -> int | None:
        """The process id while the broker runs, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> Self:
        """Start and wait until the broker is ready. Raises BrokerFailed, after removing process and data."""
        binary = _binary()
        self._folder = Path(tempfile.mkdtemp(prefix="lapse-demo-"))
        try:
            self._process = self._spawn(binary, self._folder)
            self.address = self._wait_for_address(self._folder / "broker.log")
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the process by its id and remove its data. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        """Start the broker."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the broker."""
        self.close()

    @staticmethod
    def _spawn(binary: Path, folder: Path) -> subprocess.Popen[bytes]:
        command = [str(binary), "start", "--only", "kafka", "--kafka-port", "0", "--data-dir", str(folder / "data")]
        with (folder / "broker.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - the binary of an installed package, no input of the user
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **child_arguments(),
            )

    def _wait_for_address(self, log: Path) -> str:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            said = log.read_text(errors="replace")
            if found := _ADDRESS.search(said):
                return found[1]
            if self.pid is None:
                raise BrokerFailed(f"the embedded broker ended at once; it said:\n{said.strip()}\n{_WAY_OUT}")
            time.sleep(0.02)
        raise BrokerFailed(f"the embedded broker did not start within {_READY_SECONDS:.0f} s. {_WAY_OUT}")


_WAY_OUT = "Name a broker of your own with --brokers HOST:PORT."


def _binary() -> Path:
    try:
        package = importlib.resources.files("noida_db")
    except ModuleNotFoundError:
        raise BrokerFailed(
            f"the embedded broker is an extra that is not installed: pip install 'lapse[demo]'. {_WAY_OUT}"
        ) from None
    binary = Path(str(package.joinpath("noida-db.exe" if os.name == "nt" else "noida-db")))
    if not binary.is_file():
        raise BrokerFailed(f"the package noida-db has no program for this platform ({binary}). {_WAY_OUT}")
    return binary
