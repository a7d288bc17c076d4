"""What the README shows works: its commands are run, its settings are the settings."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.cli.setting_flags import default_text
from streams.settings.settings import Settings
from tests.kafka_kit.broker import Broker

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
LAPSE = [line.removeprefix("./dev lapse ") for line in LINES if line.startswith("./dev lapse ")]
NEEDS_NO_BROKER = [
    line for line in LAPSE if line.split()[0] in {"check", "explain", "import"} or " --events deploy/samples/" in line
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a checkout to the commands, and may be written to."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    return tmp_path


def start(line: str, checkout: Path, **environment: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "streams", *shlex.split(line)],
        cwd=checkout,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_every_command_is_one_that_is_tried():
    """`./dev demo` and `./dev test` are what tests/demo and .ci/run start."""
    others = [line for line in LINES if not line.startswith("./dev lapse ")]
    assert others == ["./dev demo", "./dev test"]
    assert "./dev test" in (ROOT / ".ci" / "run").read_text()
    assert len(LAPSE) >= 6


@pytest.mark.parametrize("line", NEEDS_NO_BROKER)
def test_commands_work_as_they_stand(line, checkout):
    process = start(line, checkout)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said


@pytest.mark.system
def test_commands_on_a_broker_work_as_they_stand_one_after_the_other(kafka: Broker, topic_prefix, checkout):
    where = {"LAPSE_BROKERS": kafka.bootstrap, "LAPSE_TOPIC_PREFIX": topic_prefix, "LAPSE_WEB_PORT": "0"}
    for line in LAPSE:
        if line in NEEDS_NO_BROKER:
            continue
        process = start(line, checkout, **where)
        if line.startswith("run "):
            said = _until(process, "restored")
            process.send_signal(signal.SIGTERM)
        else:
            said = ""
        rest, _ = process.communicate(timeout=60)
        # Nothing was ever written there, so that there is no such ticket.
        expected = 1 if line.startswith("state ") else 0
        assert process.returncode == expected, f"{line}\n{said}{rest}"


def _until(process: subprocess.Popen[str], word: str) -> str:
    said = ""
    deadline = time.monotonic() + 60
    while word not in said and time.monotonic() < deadline:
        line = process.stdout.readline()
        if not line:
            break
        said += line
    return said


def test_the_table_of_settings_is_whole_and_true():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    shown = {name: (default, text) for name, default, text in rows}
    assert shown == {
        name: (f"`{text}`" if (text := default_text(field)) else "", field.description)
        for name, field in Settings.model_fields.items()
    }
