"""A real Prometheus that scrapes real workers under traffic: `lapse demo` on a real Kafka, and a second worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from streams.demo.demo import FALSE_WINDOW, TRIGGERS
from streams.testing.webhooks import WebhookSender, session_post, ticket_event
from tests.deploy_monitoring.tools import require
from tests.kafka_kit.broker import die_with_parent, free_port
from tests.system.worker import ROOT, Worker, settings
from tests.zendesk.ingesting import SECRET, Apply, Ingest

RULES = ROOT / "deploy" / "prometheus"


class Process:
    """A child process whose output goes to a file; ended by its own pid."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self.log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env={**clean, "PYTHONPATH": str(ROOT), **environment},
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call between fork and exec
            )

    def said(self, pattern: str, within: float) -> str:
        """Wait until it says something; return the first group."""

        def look() -> str | None:
            assert self._process.poll() is None, f"ended with {self._process.returncode}:\n{self.tail()}"
            found = re.search(pattern, self.log.read_text(errors="replace"))
            return found and found[1]

        return until(look, within, self.tail)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Prometheus:
    """Prometheus on a free port of the loopback interface, its data in `folder`."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), "utf-8")
        self.process = Process(
            [
                require("prometheus"),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            folder / "prometheus.log",
        )
        until(lambda: _answers(f"{self.url}/-/ready"), 60, self.process.tail)

    @classmethod
    def scraping(cls, folder: Path, targets: list[str], ingest: str, apply: str) -> Prometheus:
        """Scrape workers, `lapse ingest` and `lapse apply` every second, with our rules loaded."""
        config = yaml.safe_load((RULES / "prometheus.yaml").read_text("utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "2s"}
        for name in config["rule_files"]:
            text = (RULES / name).read_text("utf-8")
            (folder / name).write_text(text.replace("    interval: 1m\n", ""), "utf-8")  # no minute to wait for
        config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
        config["scrape_configs"][1]["static_configs"] = [{"targets": [ingest]}]
        config["scrape_configs"][2]["static_configs"] = [{"targets": [apply]}]
        del config["scrape_configs"][3:]
        return cls(folder, config)

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of the API."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def values(self, query: str, **at: str) -> list[float]:
        """Return what a query gives now, or at another `time`, without what is no number."""
        result = self.ask("query", query=query, **at)["result"]
        return [value for found in result if not math.isnan(value := float(found["value"][1]))]


@contextlib.contextmanager
def traffic(bootstrap: str, folder: Path, *, rate: int) -> Iterator[tuple[str, Worker, str]]:
    """`lapse demo`; yields where its worker serves its metrics, a second worker that is not started yet, the prefix.

    When that one starts, the first sees a rebalance, and partitions are restored from changelogs that have rows.
    """
    command = [sys.executable, "-m", "streams", "demo", "--brokers", bootstrap, "--rate", str(rate), "--seconds", "300"]
    demo = Process(command, folder / "demo.log", TMPDIR=str(folder))
    second: Worker | None = None
    try:
        first = demo.said(r"live page: http://([0-9.:]+)/", 40)
        prefix = demo.said(r"topics (\S+-)\*", 1)
        others = {"false_abandonment_window": f"{FALSE_WINDOW:.0f}s", "log_level": "warning"}
        second = Worker("second", settings(bootstrap, prefix, TRIGGERS, **others), folder)
        yield first, second, prefix
    finally:
        if second is not None and second.alive:
            second.stop()
        demo.stop(signal.SIGINT)


@contextlib.contextmanager
def webhooks(bootstrap: str, prefix: str, folder: Path) -> Iterator[str]:
    """`lapse ingest`, which gets a few requests a second; yields where it serves its metrics."""
    process = Ingest(bootstrap, prefix, folder).until_ready()
    stop = threading.Event()

    async def post() -> None:
        async with WebhookSender(process.url, SECRET) as zendesk, WebhookSender(process.url, "x") as stranger:
            number = 0
            while not stop.is_set():
                number += 1
                await zendesk.send(ticket_event(f"z{number}", at=datetime.now(UTC)))
                await zendesk.send(session_post(f"z{number}", "Active"))
                if number % 20 == 0:
                    await stranger.send(b"{}")
                await asyncio.sleep(0.2)

    thread = threading.Thread(target=lambda: asyncio.run(post()))
    thread.start()
    try:
        yield f"127.0.0.1:{process.port}"
    finally:
        stop.set()
        thread.join(20)
        process.stop()


@contextlib.contextmanager
def account(bootstrap: str, prefix: str, folder: Path) -> Iterator[str]:
    """`lapse apply` at a stand-in for Zendesk that has none of the tickets; yields where it serves its metrics."""
    # Quotas that let nothing wait: a rate needs something in every window.
    quotas = ["--requests-per-minute", "1000000", "--updates-per-minute", "1000000"]
    command = [sys.executable, "-m", "streams.testing.zendesk", "--tickets", "0", *quotas]
    zendesk = Process(command, folder / "zendesk.log")
    try:
        process = Apply(bootstrap, prefix, folder, zendesk.said(r"API and page: (http://[0-9.:]+)/", 60))
        try:
            process.until_ready()
            yield f"127.0.0.1:{process.port}"
        finally:
            process.stop()
    finally:
        zendesk.stop(signal.SIGTERM)


def until(look: Callable[[], Any], within: float, what: Callable[[], str]) -> Any:
    """Return what `look` gives as soon as it is true; fail with `what` when that takes too long."""
    deadline = time.monotonic() + within
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:.0f} s:\n{what()}")
        time.sleep(0.3)
    return found


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
