"""Containers without an engine: the same command and environment as processes of this machine.

Where the test runs as root they are confined as the files ask for: another user without rights, and a root file system
that can't be written to.
"""

from __future__ import annotations

import functools
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.deploy_files.tools import ROOT

USER = 10001
"""The user of the image."""

# A mount namespace of its own, whose root is read-only; then another user, who keeps the right to read files (this
# project may lie in root's home) and no other.
_CONFINE = f"""
mount -o remount,ro,bind / || exit 125
exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs \
    --bounding-set=-all,+dac_read_search --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search "$@"
"""


@functools.cache
def can_confine() -> bool:
    """Whether this machine lets us."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        return False
    check = [*confinement(), "sh", "-c", f'[ "$(id -u)" = {USER} ] && ! touch /var/tmp/lapse-root-is-not-read-only']
    return subprocess.run(check, capture_output=True, timeout=90, check=False).returncode == 0


def confinement() -> list[str]:
    """Return what goes before a command to run it without rights on a read-only root."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _CONFINE, "sh"]


class Native:
    """One container's process. Its output goes to a file; it is ended by its own pid."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], logs: Path, *, program: str = ""
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._command = [program] if program else [sys.executable, "-m", "streams"]
        self._command += arguments
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, confined: bool = True) -> None:
        """Start it; returns at once."""
        prefix = confinement() if confined and can_confine() else []
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*prefix, *self._command],
                env={**clean, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **self._environment},
                cwd="/tmp",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ends(self, within: float) -> int:
        """Wait for its end; return the exit code. Kills it and fails when that takes longer than `within` seconds."""
        assert self._process is not None
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {within:g} s:\n{self.tail()}") from None

    def stop(self, within: float) -> tuple[int, float]:
        """SIGTERM; return the exit code and how many seconds the end took."""
        assert self._process is not None
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return self.ends(within), time.monotonic() - started

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process id; it must have been started."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def tail(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


def ask(port: int, path: str, within: float) -> int:
    """Return the status of a GET, 0 when nobody answers within so many seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def until(look: Callable[[], Any], within: float, *processes: Native) -> Any:
    """Return what `look` gives as soon as it is true. Fails when that takes too long or one of the processes ends."""
    deadline = time.monotonic() + within
    while not (found := look()):
        for process in processes:
            assert process.alive, f"{process.name} ended:\n{process.tail()}"
        assert time.monotonic() < deadline, "\n".join([f"not within {within:g} s", *(one.tail() for one in processes)])
        time.sleep(0.2)
    return found


def seconds(text: str) -> float:
    """Return a duration of Docker's (`1m30s`) in seconds."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))
