"""What the README shows works: its commands are run in order, and its consumer is the file that it names."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from streams.cli.settings_page import page
from streams.settings.settings import Settings
from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
BROKERS = "export LAPSE_BROKERS="
EXAMPLE = ".venv/bin/python docs/examples/"
LAPSE = [line.removeprefix("./dev lapse ") for line in LINES if line.startswith("./dev lapse ")]
NEEDS_NO_BROKER = [
    line for line in LAPSE if line.split()[0] in {"check", "explain", "import"} or " --events deploy/samples/" in line
]
COMMAND = re.compile(r"5158 \[\{'field': 'status', 'value': 'solved'\}, \{'field': 'add_tags', .*\}\] [0-9a-f-]{36}\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a checkout to the commands, and may be written to."""
    for name in ("deploy", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def start(line: str, checkout: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
    words = line.removeprefix("./dev lapse ").removeprefix(".venv/bin/python ")
    module = [] if line.startswith(EXAMPLE) else ["-m", "streams"]
    return subprocess.Popen(
        [sys.executable, *module, *shlex.split(words)],
        cwd=checkout,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_every_command_is_one_that_is_tried():
    """`./dev demo` and `./dev test` are what tests/demo and .ci/run start."""
    others = [line for line in LINES if not line.startswith(("./dev lapse ", EXAMPLE))]
    assert others == ["./dev demo", "./dev test", f"{BROKERS}127.0.0.1:9092"]
    assert "./dev test" in (ROOT / ".ci" / "run").read_text()
    assert len(LAPSE) >= 6


@pytest.mark.parametrize("line", NEEDS_NO_BROKER)
def test_commands_without_a_broker_work_as_they_stand(line, checkout):
    process = start(line, checkout, {})
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said


# --- with a broker ---------------------------------------------------------------------------------------------------


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A broker without a topic, like the reader's: the commands use the default names."""
    require_java()
    with Broker() as broker:
        yield broker


@pytest.mark.system
@pytest.mark.timeout(400)
def test_the_five_steps_and_all_that_follows_work_as_they_stand_one_after_the_other(own_broker, checkout):
    """Only the address of the broker is another one, and the port of the page."""
    environment = {"LAPSE_WEB_PORT": "0", "LAPSE_LOG_FORMAT": "text"}
    worker: subprocess.Popen[str] | None = None
    for line in LINES[2:]:
        if line.startswith(BROKERS):
            environment["LAPSE_BROKERS"] = own_broker.bootstrap
        elif line.removeprefix("./dev lapse ") in NEEDS_NO_BROKER:
            continue
        elif line.startswith("./dev lapse run "):
            worker = start(line, checkout, environment)
            _until(worker, re.compile("restored"))
        elif "watch.py" in line:
            watching = start(line, checkout, environment)
            _until(watching, COMMAND)
            watching.kill()
            watching.communicate()
        else:
            process = start(line, checkout, environment)
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0, f"{line}\n{said}"
    assert worker is not None
    worker.send_signal(signal.SIGTERM)
    said, _ = worker.communicate(timeout=100)
    assert worker.returncode == 0, said


def _until(process: subprocess.Popen[str], pattern: re.Pattern[str]) -> None:
    assert process.stdout is not None
    said = ""
    deadline = time.monotonic() + 60
    while pattern.search(said) is None:
        assert time.monotonic() < deadline, said
        line = process.stdout.readline()
        assert line, f"ended without {pattern.pattern}:\n{said}"
        said += line


# --- what it quotes --------------------------------------------------------------------------------------------------


def test_the_consumer_is_the_one_in_the_file():
    (block,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert block == (ROOT / "docs" / "examples" / "watch.py").read_text()


def test_every_page_of_the_docs_is_linked():
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    linked = set(re.findall(r"\]\(([^)#]+)", README))
    assert pages <= linked, f"not linked: {sorted(pages - linked)}"


def test_the_page_of_settings_is_the_one_made_from_the_settings():
    assert (ROOT / "docs" / "settings.md").read_text() == page(), (
        "run `python -m streams.cli.settings_page > docs/settings.md`"
    )
    assert all(f"| `{name}` |" in page() for name in Settings.model_fields)
