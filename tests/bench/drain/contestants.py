"""Runs one contestant over the backlog, in a process of its own, and says how long it took."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from tests.kafka_kit import topics
from tests.kafka_kit.broker import Broker, die_with_parent
from tests.system.worker import ROOT, Worker, lapse, settings

INPUTS = ("ticket-updates", "session-states")


@dataclass(frozen=True)
class Ground:
    """One broker with a backlog: where everybody works."""

    broker: Broker
    prefix: str
    partitions: int
    records: int
    triggers: Path


@dataclass(frozen=True)
class Run:
    """What one run took: records, seconds of wall clock and of processor, commands written."""

    records: int
    seconds: float
    cpu: float
    commands: int

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def cpu_micros(self) -> float:
        """Microseconds of processor time a record."""
        return self.cpu / self.records * 1e6


def lapse_worker(ground: Ground, name: str, logs: Path, **others: str) -> Worker:
    """A worker with a group and tables of its own, its changelogs made; not yet started."""
    env = settings(ground.broker.bootstrap, ground.prefix, ground.triggers, app_id=name, log_level="warning", **others)
    done = lapse("topics", "create", env=env)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    return Worker(name, env, logs, module="streams")


async def run_lapse(ground: Ground) -> Run:
    """`lapse run` until its group has committed everything; timed from its first commit seen to its last."""
    with tempfile.TemporaryDirectory() as logs:
        worker = await asyncio.to_thread(lapse_worker, ground, f"lapse-{uuid.uuid4().hex[:6]}", Path(logs))
        try:
            worker.start()
            run = await _watch(ground, worker)
        finally:
            worker.kill()
        after = await topics.read(ground.broker.bootstrap, ground.prefix + "action-commands", ground.partitions)
    sources = sum(dict(record.headers)["ce_source"] == worker.name.encode() for record in after)
    return Run(run.records, run.seconds, run.cpu, sources)


async def _watch(ground: Ground, worker: Worker, within: float = 900) -> Run:
    group = ground.prefix + worker.name
    deadline, started = time.perf_counter() + within, None
    admin = AIOKafkaAdminClient(bootstrap_servers=ground.broker.bootstrap)
    await admin.start()
    try:
        await topics.committed_offsets(ground.broker.bootstrap, group)  # waits for the coordinator to be there
        coordinator = await admin.find_coordinator(group)
        while time.perf_counter() < deadline:
            if worker.exit_code is not None:
                raise RuntimeError(f"The worker ended with {worker.exit_code}:\n{worker.tail()}")
            found = await admin.list_consumer_group_offsets(group, coordinator)
            now, cpu = time.perf_counter(), worker.cpu_seconds()
            done = sum(max(0, at.offset) for at in found.values())
            if started is None and done > 0:
                started = (done, now, cpu)
            if started is not None and done >= ground.records:
                return Run(done - started[0], now - started[1], cpu - started[2], 0)
            await asyncio.sleep(0.02)
    finally:
        await admin.close()
    raise RuntimeError(f"The worker was not done after {within:.0f} s:\n{worker.tail()}")


async def run_faust(ground: Ground, records: int) -> Run:
    """The idiomatic Faust app over the first `records` it gets."""
    command = ["-m", "faust", "-A", "tests.bench.drain.faust_app", "worker", "-l", "error", "--without-web"]
    return await asyncio.to_thread(_run_python, ground, command, records)


async def run_bare(ground: Ground) -> Run:
    """The bare aiokafka loop."""
    return await asyncio.to_thread(_run_python, ground, ["-m", "tests.bench.drain.bare"], ground.records)


def _run_python(ground: Ground, command: list[str], records: int, within: float = 900) -> Run:
    with tempfile.TemporaryDirectory() as scratch:
        env = {
            "DRAIN_BROKERS": ground.broker.bootstrap,
            "DRAIN_PREFIX": ground.prefix,
            "DRAIN_APP_ID": f"{ground.prefix}{uuid.uuid4().hex[:6]}",
            "DRAIN_PARTITIONS": str(ground.partitions),
            "DRAIN_RECORDS": str(records),
            "FAUST_DATADIR": scratch,
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, *command],
            env={**os.environ, **env},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
            preexec_fn=die_with_parent,
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return Run(**json.loads(lines[-1]))
