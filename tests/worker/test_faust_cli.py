"""`faust -A streams worker` is `lapse run` by another name."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.worker.kit import TRIGGERS, config_for, send, topics
from tests.worker.test_service import all_commanded, begun, ended
from tests.worker.test_worker import commanded, lapses, once

FAUST = (sys.executable, "-m", "faust", "-A", "streams", "worker", "--loglevel", "info")
ROOT = Path(__file__).parents[2]


def environment(**settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
    named = {f"LAPSE_{name.upper()}": value for name, value in settings.items()}
    return {**inherited, "PYTHONPATH": str(ROOT), **named}


async def test_faust_finds_the_app_and_runs_the_worker(kafka: Any, topic_prefix: str, tmp_path: Path) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    (tmp_path / "triggers.yaml").write_text(TRIGGERS)
    process = await asyncio.create_subprocess_exec(
        *FAUST,
        cwd=tmp_path,
        env=environment(
            brokers=kafka.bootstrap,
            topic_prefix=topic_prefix,
            triggers="triggers.yaml",
            act_from="beginning",
            web_port="0",
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await begun(config)
        await send(config, lapses(0, 20), 2)
        await all_commanded(config, 20)
        process.send_signal(signal.SIGTERM)
        code, errors = await ended(process)
    finally:
        if process.returncode is None:
            process.kill()
    assert code == 0, errors
    assert await commanded(config) == once(0, 20)
    assert os.listdir(tmp_path) == ["triggers.yaml"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"brokers": "no port"}, "brokers"), ({}, "No trigger file is set")],
)
def test_what_a_user_got_wrong_ends_in_one_message_and_2(
    settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        FAUST,
        cwd=tmp_path,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert message in json.loads(line)["event"]
