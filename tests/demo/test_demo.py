"""The demo as a whole, as a user starts it: a process that shows things, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streams.demo.demo import too_late
from streams.rules.triggers import parse_triggers
from tests.kafka_kit.broker import Broker

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "streams", "demo"]


@contextlib.contextmanager
def home_in(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose temporary folder is ours; afterwards nothing may be left in it, and no process of ours."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
    yield {**environment, "TMPDIR": str(folder), "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    assert list(folder.iterdir()) == []
    assert [child.cmdline() for child in psutil.Process().children(recursive=True) if "noida-db" in child.name()] == []


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    with home_in(tmp_path) as environment:
        yield environment


def run(home: dict[str, str], *arguments: str, within: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=home,
        cwd=home["TMPDIR"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def figures(output: str) -> dict[str, int]:
    """Return the figures of the summary by name."""
    found = re.findall(r"^ (\w[\w ]+?) +([\d,]+)  ", output[output.index("Lapse demo, ") :], re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in found}


def assert_a_good_run(output: str) -> None:
    seen = figures(output)
    assert seen["records fed"] > 1_000
    assert seen["transitions"] > 100
    assert seen["rounds"] > 100
    assert seen["commands"] > 20
    assert seen["abandonments"] > 20
    assert seen["dead letters"] > 0
    assert "each exactly once" in output


def started(home: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start a demo and return once it shows the first command."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=home,
        cwd=home["TMPDIR"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if "  command  " in line:
            return process
    raise AssertionError(f"no command was shown; exit code {process.wait(10)}")


def test_it_ends_by_itself_with_a_summary_and_leaves_nothing(home):
    began = time.monotonic()
    done = run(home, "--seconds", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert_a_good_run(done.stdout)
    assert "live page: http://127.0.0.1:" in done.stdout
    for what in ("left", "came back", "command", "cancelled"):
        assert f"  {what} " in done.stdout
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_a_summary_too(home, number):
    process = started(home)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=100)
    assert process.returncode == 0, rest
    assert figures(rest)["commands"] > 0


def on_a_terminal(home: dict[str, str], *arguments: str) -> tuple[int, int]:
    """Start a demo on a terminal of its own; return its process id and our end of the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(home["TMPDIR"])
        os.execve(sys.executable, [*COMMAND, *arguments], {**home, "TERM": "xterm-256color", "LINES": "30"})
    return pid, terminal


def read_terminal(terminal: int, until: bytes | None = None) -> bytes:
    """Return what is shown up to `until`, or to the end."""
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and select.select([terminal], [], [], 30)[0]:
        try:
            shown += os.read(terminal, 65_536)
        except OSError:  # the terminal is closed once its last user has gone
            break
        if until is not None and until in shown:
            break
    return shown


def test_it_plays_on_a_terminal_and_gives_the_terminal_back(home):
    pid, terminal = on_a_terminal(home, "--seconds", "3")
    shown = read_terminal(terminal)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    entered, left = shown.index(b"\x1b[?1049h"), shown.index(b"\x1b[?1049l")
    assert b"what happens" in shown[entered:left]
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown[left:]).decode().replace("\r", "")
    assert_a_good_run(plain)


def test_a_closed_terminal_ends_it_and_nothing_is_left(home):
    pid, terminal = on_a_terminal(home)
    assert b"command" in read_terminal(terminal, b"command")
    os.close(terminal)
    deadline = time.monotonic() + 40
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline, "the demo goes on without its terminal"
        time.sleep(0.05)


def test_a_worker_that_dies_ends_the_demo_with_the_end_of_its_log(home):
    process = started(home)
    (worker,) = [child for child in psutil.Process(process.pid).children() if "streams" in child.cmdline()]
    worker.kill()
    rest, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "lapse: the worker ended with exit code -9; its log ends with:" in rest
    assert "Traceback" not in rest


def test_triggers_with_errors_are_named_before_anything_starts(home, tmp_path):
    triggers = tmp_path / "broken.yaml"
    triggers.write_text("triggers:\n  - id: a\n")
    done = run(home, "--triggers", str(triggers))
    assert done.returncode == 1
    assert f"{triggers}:2:5: no_condition" in done.stderr
    assert done.stdout == ""


def test_a_trigger_that_runs_away_is_held_by_its_limit(home):
    done = run(home, "--runaway", "--rate", "300", "--seconds", "3", within=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert_a_good_run(done.stdout)
    assert "revision 2 by demo: solve-spam with a condition less" in done.stdout
    assert re.search(r"^\S+ +\d+  held +by the limit of solve-spam$", done.stdout, re.M)
    assert "the worker warns: partition " in done.stdout
    assert re.search(r"`lapse held list --brokers 127\.0\.0\.1:\d+`", done.stdout)
    seen = figures(done.stdout)
    assert seen["held"] > 0
    assert seen["fired"] >= seen["commands"] + seen["held"]
    fired, held = done.stdout.index(" fired "), done.stdout.index(" held  ", done.stdout.index(" fired "))
    assert "solve-spam" in done.stdout[fired:held]


def test_runaway_and_triggers_of_ones_own_exclude_each_other(home, tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    done = run(home, "--runaway", "--triggers", str(tmp_path / "mine.yaml"))
    assert done.returncode == 2
    assert "--runaway has triggers of its own" in done.stderr


def test_own_triggers_are_used(home, tmp_path):
    triggers = tmp_path / "mine.yaml"
    triggers.write_text(
        "triggers:\n"
        "  - id: mine\n"
        "    conditions: {all: [{field: messaging_session_state, operator: changed_to, value: inactive}]}\n"
        "    actions: [{field: add_tags, value: seen}]\n"
    )
    done = run(home, "--seconds", "1", "--triggers", str(triggers))
    assert done.returncode == 0
    assert "add tags seen  (mine)" in done.stdout


def test_a_broker_out_of_reach_is_named(home):
    done = run(home, "--brokers", "127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.system
async def test_on_a_broker_of_ones_own_it_keeps_apart_and_cleans_up(home, kafka: Broker):
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    before = set(await admin.list_topics())
    done = run(home, "--brokers", kafka.bootstrap, "--seconds", "3")
    after = set(await admin.list_topics())
    await admin.close()
    assert (done.returncode, done.stderr) == (0, "")
    assert_a_good_run(done.stdout)
    assert {name for name in after - before if not name.startswith("__")} == set()


def test_triggers_that_wait_longer_than_the_demo_has_traffic_are_named():
    ruleset = parse_triggers(
        """
triggers:
  - {id: soon, title: Soon, wait: 30s, conditions: &left {all: [{field: messaging_session_state, operator: changed}]},
     actions: &solve [{field: status, value: solved}]}
  - {id: later, title: Later, wait: 10m, conditions: *left, actions: *solve}
  - {id: never, title: Never, wait: 1d, active: false, conditions: *left, actions: *solve}
"""
    ).ruleset
    assert ruleset is not None
    assert too_late(ruleset, None) is None
    assert too_late(ruleset, 510) is None
    assert too_late(ruleset, 30) == (
        "This demo has 120 s of traffic, 90 s of it before the start. These triggers wait longer and will not fire: "
        "later (wait 10m). Give --seconds 510 or more, or leave --seconds out."
    )
