"""`lapse ingest` and `lapse apply` as processes, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from streams.testing.zendesk.server import CLIENT
from tests.kafka_kit.broker import die_with_parent, free_port

ROOT = Path(__file__).parent.parent.parent
SECRET = "dGhlIHNlY3JldA=="


class Process:
    """A process of one verb; ended by its own pid."""

    def __init__(self, verb: str, folder: Path, port: int, settings: Mapping[str, str], *arguments: str) -> None:
        self.port = port
        self._log = folder / f"{verb}-{time.monotonic_ns()}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams", verb, *arguments],
                env={**clean, "PYTHONPATH": str(ROOT), **{f"LAPSE_{k.upper()}": v for k, v in settings.items()}},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call between fork and exec
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text; 0 when nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def until_ready(self, within: float = 180) -> Self:
        deadline = time.monotonic() + within
        while self.get("/readyz")[0] != 200:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(20)

    def ended(self, within: float = 60) -> int:
        """Wait for the end; return the exit code."""
        return self._process.wait(within)


class Ingest(Process):
    """`lapse ingest`."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, port: int | None = None, **settings: str) -> None:
        port = free_port() if port is None else port
        given = {
            "brokers": bootstrap,
            "topic_prefix": prefix,
            "ingest_port": str(port),
            "ingest_secrets": SECRET,
            "log_format": "json",
            **settings,
        }
        super().__init__("ingest", folder, port, given)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/zendesk"


class Apply(Process):
    """`lapse apply` against a stand-in for Zendesk."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, zendesk: str, **settings: str) -> None:
        port = free_port()
        given = {
            "brokers": bootstrap,
            "topic_prefix": prefix,
            "apply_port": str(port),
            "zendesk_url": zendesk,
            "zendesk_client_id": CLIENT.client_id,
            "zendesk_client_secret": CLIENT.secret,
            "session_timeout": "6s",
            "log_format": "json",
            **settings,
        }
        super().__init__("apply", folder, port, given)


class Silence(Process):
    """`lapse ingest --silence`."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path, **settings: str) -> None:
        port = free_port()
        given = {
            "brokers": bootstrap,
            "topic_prefix": prefix,
            "silence_port": str(port),
            "log_format": "json",
            **settings,
        }
        super().__init__("ingest", folder, port, given, "--silence")


def counted(metrics: str, name: str, **labels: str) -> float:
    """Return a sample of an exposition; 0 when it is not there.

    >>> counted('lapse_apply_total{result="gone"} 3.0', "lapse_apply_total", result="gone")
    3.0
    """
    said = ",".join(f'{label}="{value}"' for label, value in labels.items())
    sample = f"{name}{{{said}}} " if labels else f"{name} "
    found = (line.removeprefix(sample) for line in metrics.splitlines() if line.startswith(sample))
    return float(next(found, 0.0))
