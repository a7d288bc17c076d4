"""A Lapse worker as a child process that a test starts, kills, stops, freezes and wakes, always by its own pid."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.kafka_kit.broker import die_with_parent, free_port
from tests.signals import wait_until_handled

ROOT = Path(__file__).parents[2]

SESSION_TIMEOUT = 6.0
"""Seconds after which the group gives up a worker that says nothing."""


def settings(bootstrap: str, prefix: str, triggers: Path, **others: str) -> dict[str, str]:
    """The environment that tells a worker where it is; `others` are settings by name."""
    chosen = {
        "brokers": bootstrap,
        "topic_prefix": prefix,
        "triggers": str(triggers),
        "act_from": "beginning",
        "session_timeout": f"{SESSION_TIMEOUT:g}s",
        **others,
    }
    return {f"LAPSE_{name.upper()}": value for name, value in chosen.items() if value}


def lapse(*arguments: str, env: Mapping[str, str], within: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


class Worker:
    """`lapse run` in a process of its own; what it says is kept in a file."""

    def __init__(self, name: str, env: Mapping[str, str], logs: Path) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "streams", "run"]
        self.log = logs / f"{name}.log"
        self.web_port = free_port()
        self._env = {**env, "LAPSE_WEB_PORT": str(self.web_port), "LAPSE_LOG_FORMAT": "json"}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; the worker must have been started."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (frozen counts)."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the latest process ended, None when it runs or never ran; minus the signal's number when by a signal."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process; returns at once."""
        assert not self.alive
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._env},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call between fork and exec
            )

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, within: float = 60) -> int:
        """SIGTERM, as soon as it handles that, and wait; returns the exit code.

        Kills when it takes longer than `within` seconds, and fails.
        """
        assert self._process is not None
        wait_until_handled(self._process.pid, signal.SIGTERM)
        self._process.terminate()
        return self.wait(within)

    def wait(self, within: float) -> int:
        """Wait for the end; returns the exit code."""
        assert self._process is not None
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end in {within:.0f} s. Its log ends:\n{self.tail()}") from None

    def freeze(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def tail(self, size: int = 4000) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def get(self, path: str) -> str | None:
        """Return a page of its own, or None while it does not answer with 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return None

    def tracebacks(self) -> list[str]:
        """Return the lines of its log that hold a traceback, cut short."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line[:2000] for line in lines if "Traceback (most recent call last)" in line]

    def cpu_seconds(self) -> float:
        """Processor time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Memory that is resident now."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024


class Supervisor:
    """What an orchestrator does: starts a worker again when it has ended, and remembers how those ended that failed."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self.failures: list[tuple[str, int]] = []

    def tend(self) -> None:
        """Start again every worker that has ended."""
        for worker in self.workers:
            if (code := worker.exit_code) is None:
                continue
            if code not in (0, -signal.SIGKILL):
                self.failures.append((worker.name, code))
            worker.start()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.kill()
