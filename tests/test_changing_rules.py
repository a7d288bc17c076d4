"""docs/changing-rules.md: its commands, in their order, against a real broker and a worker."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kafka_kit.broker import die_with_parent, free_port
from tests.worker.kit import config_for, read_all

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "changing-rules.md").read_text("utf-8")
COMMANDS = [
    line.removeprefix("./dev lapse ")
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    for line in block.splitlines()
]

SAYS = {
    "rules publish deploy/triggers/recipes.yaml": "published revision 1",
    "rules shadow deploy/triggers/patient.yaml": "as a shadow",
    "rules shadow --report": "No shadow differed",
    "rules publish deploy/triggers/patient.yaml": "published revision 4",
    "rules wait 4": "every partition has revision 4",
    "rules stop": "stopped everything",
    "rules rollback 1": "published revision 6",
    "rules diff 1 4": "changed  solve-abandoned",
    "backtest --events week.ndjson --as-it-was": "commands",
}
"""What a reader sees, by the beginning of the command."""


@pytest.mark.system
def test_the_commands_of_the_page_work_in_their_order(kafka: Any, topic_prefix: str, tmp_path: Path) -> None:
    assert set(SAYS) <= {next((start for start in SAYS if command.startswith(start)), "") for command in COMMANDS}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
    environment = {
        **clean,
        "LAPSE_BROKERS": kafka.bootstrap,
        "LAPSE_TOPIC_PREFIX": topic_prefix,
        "LAPSE_WEB_PORT": str(free_port()),
    }
    lapse = [sys.executable, "-m", "streams"]
    worker: subprocess.Popen[bytes] | None = None
    with (tmp_path / "worker.log").open("wb") as log:
        try:
            for command in COMMANDS:
                words = shlex.split(command.replace("week.ndjson", str(tmp_path / "week.ndjson")))
                if words[0] == "run":
                    worker = subprocess.Popen(
                        [*lapse, *words], env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                        stderr=subprocess.STDOUT, preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
                    )  # fmt: skip
                    continue
                done = subprocess.run(
                    [*lapse, *words],
                    env=environment,
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )
                assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
                for start, says in SAYS.items():
                    if command.startswith(start):
                        assert says in done.stdout, command
            assert worker is not None
            deadline = time.monotonic() + 30
            config = config_for(kafka, topic_prefix, rules="topic")
            while len(asyncio.run(read_all(config, config.topic("session-transitions")))) < 6:
                assert time.monotonic() < deadline, "the worker has not taken every entry up"
                time.sleep(0.5)
        finally:
            if worker is not None:
                worker.terminate()
                assert worker.wait(20) == 0, (tmp_path / "worker.log").read_text()
