"""The command line as a user meets it: a process, its exit code, what it says."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import typer.main

from streams.cli import app
from streams.cli.setting_flags import APPLY, BROKER, FILE, INGEST, takes_settings
from streams.core.names import Topic
from streams.core.partitioning import partition_of
from streams.demo.demo import TRIGGERS
from streams.settings.settings import Settings
from streams.testing.traffic import Profile, generate
from streams.wire import capture
from streams.wire.capture import CapturedRecord
from tests.kafka_kit.broker import Broker
from tests.signals import wait_until_handled
from tests.worker.kit import config_for, producing, topics

RECIPES = Path(__file__).parent.parent / "deploy" / "triggers" / "recipes.yaml"
COMMANDS = typer.main.get_command(app).commands


def lapse(*arguments: object, cwd: Path | None = None, given: bytes = b"", **environment: str):
    """Run the command line to its end, within a minute."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
    return subprocess.run(
        [sys.executable, "-m", "streams", *map(str, arguments)],
        cwd=cwd,
        input=given,
        env={**clean, "COLUMNS": "100", "PYTHONPATH": str(Path(__file__).parent.parent), **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


def write_capture(path: Path, *, tickets: int = 100, partitions: int = 4) -> int:
    """Write generated traffic as a capture; return its number of lines."""
    offsets: dict[tuple[Topic, int], int] = {}
    with path.open("wb") as file:
        for record in generate(Profile(tickets=tickets)):
            number = partition_of(record.key, partitions) if record.key else 0
            offset = offsets[record.topic, number] = offsets.get((record.topic, number), -1) + 1
            captured = CapturedRecord(offset, record.timestamp, record.key, record.value)
            file.write(capture.line(record.topic, number, captured))
    return sum(offset + 1 for offset in offsets.values())


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [[], *([name] for name in COMMANDS), ["topics", "create"], ["topics", "check"]])
def test_every_verb_explains_itself(verb):
    done = lapse(*verb, "--help")
    assert done.returncode == 0
    assert b"Usage:" in done.stdout
    assert done.stderr == b""


@pytest.mark.parametrize(
    "wrong", [["nonsense"], ["check"], ["check", "--nonsense"], ["demo", "--rate", "0"], ["demo", "--triggers", "none"]]
)
def test_wrong_usage_ends_with_2_and_no_traceback(wrong):
    done = lapse(*wrong)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert done.stderr != b""


def test_the_light_verbs_do_not_load_the_heavy_packages():
    program = (
        "import sys; sys.argv = ['lapse', 'check', sys.argv[1]]; from streams.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'faust', 'aiokafka', 'rich', 'prometheus_client', 'aiohttp'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(TRIGGERS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# --- settings --------------------------------------------------------------------------------------------------------


def test_every_setting_is_a_flag_of_the_process_that_it_is_for():
    of = {verb: {parameter.name for parameter in COMMANDS[verb].params} for verb in ("run", "ingest", "apply")}
    assert of["run"] & set(Settings.model_fields) == set(Settings.model_fields) - {*INGEST, *APPLY, *FILE}
    assert of["ingest"] >= {*INGEST, *BROKER}
    assert of["apply"] >= {*APPLY, *BROKER}
    assert not (of["ingest"] | of["apply"]) & {"web_port", "triggers", "join_wait"}
    assert FILE == ("silence",), "a table: `--silence` is the name of a role"


def test_a_flag_wins_over_environment_and_file_and_the_rest_stays(tmp_path, monkeypatch):
    seen: list[Settings] = []
    probe = typer.Typer()

    @probe.command()
    @takes_settings("join_wait", "dry_run", "brokers", app_id="mine")
    def verb(settings: Settings) -> None:
        seen.append(settings)

    config = tmp_path / "lapse.yaml"
    config.write_text("join_wait: 7s\ndry_run: true\nclock_grace: 3s\napp_id: file\n")
    monkeypatch.setenv("LAPSE_JOIN_WAIT", "8s")
    probe(["--config", str(config), "--brokers", "a:1,b:2", "--no-dry-run"], standalone_mode=False)
    probe(["--config", str(config), "--join-wait", "9s", "--app-id", "flag"], standalone_mode=False)
    assert [(s.join_wait, s.dry_run, s.clock_grace, s.brokers, s.app_id) for s in seen] == [
        (8_000_000, False, 3_000_000, ("a:1", "b:2"), "file"),
        (9_000_000, True, 3_000_000, ("127.0.0.1:9092",), "flag"),
    ]
    config.write_text("join_wait: 7s\n")
    probe(["--config", str(config)], standalone_mode=False)
    assert seen[-1].app_id == "mine", "the verb's own default is below all other sources"


def test_act_from_of_the_environment_holds_for_a_backtest_too_which_says_so(tmp_path):
    """The default `beginning` is a default: it is below flag, environment and file."""
    write_capture(tmp_path / "c.jsonl", tickets=1)
    call = ("backtest", "--events", tmp_path / "c.jsonl", "--triggers", TRIGGERS, "--json")
    late = "2100-01-01T00:00:00Z"
    acted = json.loads(lapse(*call).stdout)["rounds"]
    assert acted["historic"] == 0
    done = lapse(*call, LAPSE_ACT_FROM=late)
    assert json.loads(done.stdout)["rounds"]["historic"] == sum(acted.values()) > 0
    assert b"act_from" in done.stderr
    assert b"--act-from beginning" in done.stderr
    done = lapse(*call, "--act-from", "beginning", LAPSE_ACT_FROM=late)
    assert (json.loads(done.stdout)["rounds"], done.stderr) == (acted, b"")


def test_all_wrong_settings_are_named_at_once(tmp_path):
    (tmp_path / "lapse.yaml").write_text("join_wiat: 3s\n")
    done = lapse("run", "--clock-grace", "5", cwd=tmp_path, LAPSE_WEB_PORT="http")
    assert done.returncode == 2
    for named in (b"join_wiat", b"clock_grace (--clock-grace)", b"LAPSE_WEB_PORT"):
        assert named in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "call",
    [
        {"LAPSE_WEB_PORT": "http"},
        {"LAPSE_TRIGGERS": "nowhere.yaml"},
        {"LAPSE_TRIGGERS": "nowhere.yaml", "LAPSE_JOIN_WIAT": "3s"},
        {},
    ],
)
def test_a_worker_that_does_not_start_says_so_in_the_format_of_its_log(call, tmp_path):
    """Standard error is no terminal here, which means JSON."""
    for given in (call, {**call, "LAPSE_LOG_FORMAT": "json"}):
        done = lapse("run", cwd=tmp_path, **given)
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        assert done.returncode == 2
        assert lines[-1]["level"] == "error"
        assert len(lines) == 1 + ("LAPSE_JOIN_WIAT" in call)
    (tmp_path / "lapse.yaml").write_text("log_format: text\n")
    done = lapse("run", cwd=tmp_path, **call)
    assert done.stderr.startswith(b"lapse: ")
    assert b'"event"' not in done.stderr


@pytest.mark.parametrize("delay", [0, 0.1, 0.3, 0.6])
def test_sigterm_while_a_worker_is_being_loaded_ends_it_with_0(delay, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", "run", "--brokers", "127.0.0.1:1", "--triggers", str(TRIGGERS)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    assert wait_until_handled(process.pid, signal.SIGTERM)
    time.sleep(delay)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Traceback" not in errors


def test_a_misspelt_variable_is_warned_about(tmp_path):
    write_capture(tmp_path / "c.jsonl", tickets=1)
    done = lapse("backtest", "--events", tmp_path / "c.jsonl", "--triggers", TRIGGERS, LAPSE_JOIN_WIAT="3s")
    assert done.returncode == 0
    assert b"LAPSE_JOIN_WIAT" in done.stderr


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_of_sound_triggers_ends_with_0():
    done = lapse("check", TRIGGERS)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"4 tests run: 0 errors" in done.stdout


def test_check_names_the_place_of_an_error_and_ends_with_1(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text(TRIGGERS.read_text().replace("operator: less_than,", "operator: lessthan,"))
    done = lapse("check", broken)
    assert done.returncode == 1
    assert b"broken.yaml:29:37: unknown_operator: " in done.stdout


def test_check_runs_the_tests_in_the_file(tmp_path):
    failing = tmp_path / "failing.yaml"
    failing.write_text(TRIGGERS.read_text().replace("fired: [solve-abandoned]", "fired: [tag-abandoned]"))
    done = lapse("check", failing)
    assert done.returncode == 1
    assert b"failed_test" in done.stdout


def test_check_of_a_missing_file_is_an_error_and_no_traceback():
    done = lapse("check", "none.yaml", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"][0]["code"] == "not_found"
    assert done.stderr == b""


def test_strict_counts_warnings():
    assert b"0 errors, 1 warning" in (done := lapse("check", RECIPES)).stdout
    assert done.returncode == 0
    assert lapse("check", "--strict", RECIPES).returncode == 1


# --- backtest --------------------------------------------------------------------------------------------------------


def test_backtest_counts_and_writes_what_it_decided(tmp_path):
    lines = write_capture(tmp_path / "c.jsonl")
    done = lapse(
        *("backtest", "--events", tmp_path / "c.jsonl", "--triggers", TRIGGERS, "--json"),
        *("--commands", tmp_path / "commands", "--transitions", tmp_path / "transitions"),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    report = json.loads(done.stdout)
    assert report["records"] == lines
    assert report["commands"] == len((tmp_path / "commands").read_bytes().splitlines()) > 20
    told = [json.loads(line) for line in (tmp_path / "transitions").read_bytes().splitlines()]
    assert sum(report["transitions"].values()) == sum(record["type"] == "transition" for record in told) > 100


def test_backtest_takes_several_captures_after_one_flag_and_standard_input(tmp_path):
    first, second = write_capture(tmp_path / "1", tickets=3), write_capture(tmp_path / "2", tickets=5, partitions=1)
    arguments = ("--triggers", TRIGGERS, "--json", "--events")
    several = lapse("backtest", *arguments, tmp_path / "1", tmp_path / "2")
    assert json.loads(several.stdout)["records"] == first + second
    piped = lapse("backtest", *arguments, "-", given=(tmp_path / "1").read_bytes())
    assert json.loads(piped.stdout)["records"] == first


def test_backtest_acts_from_the_beginning_unless_told(tmp_path):
    write_capture(tmp_path / "c.jsonl", tickets=30)
    arguments = ("backtest", "--events", tmp_path / "c.jsonl", "--triggers", TRIGGERS, "--json")
    untold = json.loads(lapse(*arguments).stdout)
    by_flag = json.loads(lapse(*arguments, "--act-from", "2030-01-01T00:00:00Z").stdout)
    assert (untold["rounds"]["historic"], untold["commands"] > 0) == (0, True)
    assert (by_flag["rounds"]["historic"] > 0, by_flag["commands"]) == (True, 0)


def test_backtest_judges_timestamps_by_now(tmp_path):
    write_capture(tmp_path / "c.jsonl", tickets=3)
    arguments = ("backtest", "--events", tmp_path / "c.jsonl", "--triggers", TRIGGERS, "--json")
    early = json.loads(lapse(*arguments, "--now", "2026-02-01T00:00:00Z").stdout)
    assert early["dead_letters"]["bad_timestamp"] == early["records"]
    assert lapse(*arguments, "--now", "yesterday").returncode == 2
    assert lapse(*arguments, "--now", "2026-02-01T00:00:00").returncode == 2


@pytest.mark.parametrize("wrong", ["events", "triggers", "commands"])
def test_backtest_names_the_file_it_cannot_use(tmp_path, wrong):
    write_capture(tmp_path / "c.jsonl", tickets=1)
    files = {"events": tmp_path / "c.jsonl", "triggers": TRIGGERS, "commands": tmp_path / "out"}
    files[wrong] = tmp_path / "none" / "such"
    done = lapse("backtest", *(part for name, path in files.items() for part in (f"--{name}", path)))
    assert done.returncode in {1, 2}
    assert b"none/such" in done.stderr
    assert b"Traceback" not in done.stderr


# --- brokers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [["topics", "check"], ["capture", "-o", "-"]])
def test_a_broker_out_of_reach_is_named_with_its_setting(verb):
    done = lapse(*verb, "--brokers", "127.0.0.1:1")
    assert done.returncode == 1
    assert b"127.0.0.1:1" in done.stderr
    assert b"LAPSE_BROKERS" in done.stderr
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_feed_names_the_file_it_cannot_read():
    done = lapse("feed", "none.jsonl")
    assert (done.returncode, done.stderr) == (2, b"lapse: none.jsonl: No such file or directory\n")


@pytest.mark.system
def test_topics_are_made_checked_fed_and_captured(kafka: Broker, topic_prefix: str, tmp_path: Path):
    where = {"LAPSE_BROKERS": kafka.bootstrap, "LAPSE_TOPIC_PREFIX": topic_prefix}
    before = lapse("topics", "check", **where)
    assert before.returncode == 1
    assert f"{topic_prefix}ticket-updates does not exist".encode() in before.stdout

    made = lapse("topics", "create", "--partitions", 3, **where)
    assert (made.returncode, len(made.stdout.splitlines())) == (0, 10)
    assert lapse("topics", "create", **where).stdout == b"every topic exists\n"
    checked = lapse("topics", "check", **where)
    assert (checked.returncode, checked.stdout) == (0, b"10 topics of 3 partitions: all is well\n")
    refused = lapse("topics", "create", "--partitions", 4, **where)
    assert (refused.returncode, b"Traceback" in refused.stderr) == (2, False)

    lines = write_capture(tmp_path / "in", tickets=50, partitions=3)
    (tmp_path / "in.gz").write_bytes(gzip.compress((tmp_path / "in").read_bytes()))
    (tmp_path / "half.gz").write_bytes((tmp_path / "in.gz").read_bytes()[:60])
    broken = lapse("feed", tmp_path / "half.gz", **where)
    assert (broken.returncode, len(broken.stderr.splitlines())) == (2, 1)
    assert f"{tmp_path / 'half.gz'}: cannot read the capture: ".encode() in broken.stderr
    fed = lapse("feed", tmp_path / "in.gz", **where)
    assert (fed.returncode, fed.stderr) == (0, f"{lines} records fed\n".encode())
    captured = lapse("capture", "-o", tmp_path / "out", **where)
    assert captured.returncode == 0
    assert sorted((tmp_path / "out").read_bytes().splitlines()) == sorted((tmp_path / "in").read_bytes().splitlines())


def test_the_version_is_told():
    done = lapse("--version")
    assert (done.returncode, done.stdout.decode()) == (0, f"lapse {version('lapse')}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.system
def test_a_capture_on_a_full_disk_ends_in_one_line_that_names_the_file(kafka, topic_prefix):
    async def prepare() -> None:
        config = await topics(config_for(kafka, topic_prefix))
        async with producing(config) as producer:
            await producer.send_and_wait(config.topic("ticket-updates"), b"{}", b"7", partition=0)

    asyncio.run(prepare())
    done = lapse("capture", "-o", "/dev/full", "--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix)
    assert (done.returncode, done.stderr.decode()) == (
        1,
        "lapse: /dev/full: No space left on device. The file is incomplete: it ends in the middle of the capture.\n",
    )
