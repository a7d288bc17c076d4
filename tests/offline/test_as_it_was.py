"""`lapse backtest --as-it-was`: the same inputs and activations give the same records, byte for byte."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streams.cli import app
from streams.core.cycle import Rules
from streams.core.model import MILLISECOND
from streams.core.names import Output
from streams.core.revisions import Entry, EntryKind, InUse, Rulebook, Stops
from streams.core.triggers import Ruleset
from streams.offline.captures import CaptureError, Captures
from streams.operate.capture import in_force_lines
from streams.rules.source import compile_source
from streams.testing.driver import Driver
from tests.offline.revised import SOURCES, START_MS, captured, leaves, live


def replayed(file: Path, folder: Path) -> tuple[list[Any], list[Any]]:
    commands, transitions = folder / "commands", folder / "transitions"
    done = CliRunner().invoke(
        app,
        [
            "backtest", "--events", str(file), "--as-it-was", "--commands", str(commands),
            "--transitions", str(transitions), "--join-wait", "10s", "--now", "2030-01-01T00:00:00Z", "--json",
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return commands.read_bytes().splitlines(), transitions.read_bytes().splitlines()


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("leave"), st.integers(0, 4)),
        st.tuples(st.just("publish"), st.sampled_from(sorted(SOURCES))),
        st.tuples(st.just("plan"), st.sampled_from(sorted(SOURCES))),
        st.tuples(st.just("stop"), st.sampled_from(["tag", "solve", "all"])),
        st.tuples(st.just("resume"), st.sampled_from(["tag", "solve", "all"])),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(_steps)
def test_a_replay_gives_the_same_bytes(steps: list[tuple[str, Any]]) -> None:
    book = Rulebook(compile_source)
    book.add(live(1, "tag"))
    driver = Driver(Rules(Ruleset(())), None, book=book, now_ms=START_MS, batch_records=3)
    for place, (what, which) in enumerate(steps, 1):
        number, at = book.last + 1, 4_000 * place
        if what == "leave":
            leaves(driver, f"{which}-{place}", at)
        elif what in ("publish", "plan"):
            driver.run()
            book.add(live(number, which, 0 if what == "publish" else at + 4_000))
        else:
            driver.run()
            kind = EntryKind.STOP if what == "stop" else EntryKind.RESUME
            triggers = which if which == "all" else (which,)
            book.add(Entry(number=number, kind=kind, published_at=START_MS * MILLISECOND, triggers=triggers))
        driver.run()
    leaves(driver, "last", 100_000)
    driver.run()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "capture.ndjson"
        captured(driver, book, file)
        commands, transitions = replayed(file, Path(folder))
    assert commands == [write.value for write in driver.broker.outputs[Output.COMMANDS]]
    told, written = ([json.loads(line) for line in lines] for lines in (
        transitions, [write.value or b"" for write in driver.broker.outputs[Output.TRANSITIONS]]
    ))  # fmt: skip
    for one in (*told, *written):
        one.pop("partitions", None)  # a driver has one partition and no count
    assert told == written


def test_a_capture_that_does_not_say_which_rules_were_in_use_is_refused(tmp_path: Path) -> None:
    book = Rulebook(compile_source)
    book.add(live(1, "tag"))
    driver = Driver(Rules(Ruleset(())), None, book=book, now_ms=START_MS)
    leaves(driver, "1", 1_000)
    driver.run()
    book.add(live(2, "solve"))
    leaves(driver, "2", 2_000)
    driver.run()
    file = tmp_path / "capture.ndjson"
    captured(driver, book, file)
    lines = file.read_bytes().splitlines(keepends=True)

    def refused(kept: list[bytes]) -> str:
        file.write_bytes(b"".join(kept))
        done = CliRunner().invoke(app, ["backtest", "--events", str(file), "--as-it-was"])
        assert done.exit_code != 0
        return str(done.exception)

    activations = [line for line in lines if b'"topic":"session-transitions"' in line]
    assert len(activations) == 2
    assert "no activations" in refused([line for line in lines if line not in activations])
    without = [line for line in lines if not line.startswith(b'{"topic":"rules","partition":0,"offset":1')]
    assert "took entry 2 up, which the capture does not have" in refused(without)


def _changed_once(folder: Path, second: Entry) -> tuple[Path, list[bytes], Driver]:
    """A capture in which ticket 1 leaves under revision 1 (`tag`), and ticket 2 after a second entry."""
    book = Rulebook(compile_source)
    book.add(live(1, "tag"))
    driver = Driver(Rules(Ruleset(())), None, book=book, now_ms=START_MS)
    leaves(driver, "1", 1_000)
    driver.learn(second)
    leaves(driver, "2", 2_000)
    driver.run()
    captured(driver, book, folder / "capture.ndjson")
    lines = (folder / "capture.ndjson").read_bytes().splitlines(keepends=True)
    return folder / "capture.ndjson", lines, driver


def _is_activation(line: bytes) -> bool:
    return b'"topic":"session-transitions"' in line


STOP_ALL = Entry(number=2, kind=EntryKind.STOP, published_at=0, triggers="all")


@pytest.mark.parametrize("second", [live(2, "solve"), STOP_ALL], ids=["live", "stop"])
def test_what_was_in_force_before_the_first_activation_that_is_left_follows_from_it(
    second: Entry, tmp_path: Path
) -> None:
    file, lines, driver = _changed_once(tmp_path, second)
    first = next(line for line in lines if _is_activation(line))
    file.write_bytes(b"".join(line for line in lines if line != first))
    commands, transitions = replayed(file, tmp_path)
    assert commands == [write.value for write in driver.broker.outputs[Output.COMMANDS]]
    assert len(transitions) == len(driver.broker.outputs[Output.TRANSITIONS]) - 1, "the removed activation is not made"


def test_a_row_says_what_was_in_force_at_the_beginning(tmp_path: Path) -> None:
    file, lines, driver = _changed_once(tmp_path, live(2, "solve"))
    row = InUse(1, live(1, "tag").ruleset or "", 0, Stops(), 1, 0)
    kept = [line for line in lines if not _is_activation(line) and b'"key":"2"' not in line]
    file.write_bytes(b"".join([*kept, *in_force_lines(0, 1, row)]))
    done = CliRunner().invoke(app, ["backtest", "--events", str(file), "--as-it-was", "--json"])
    assert json.loads(done.stdout)["triggers"] == {"tag": 1}
    assert "partition 0: revision 1 was in force at the beginning" in done.stderr
    assert driver.commands()[0]["revision"] == 1
    row = msgspec.structs.replace(row, since=(START_MS + 60_000) * MILLISECOND, stops=Stops(everything=True))
    file.write_bytes(b"".join([*kept, *in_force_lines(0, 1, row)]))
    done = CliRunner().invoke(app, ["backtest", "--events", str(file), "--as-it-was", "--json"])
    assert json.loads(done.stdout)["rounds"]["dry_run"] == 1, "stops are in the row too"
    assert "what came before was decided by older rules" in done.stderr


def test_rules_lines_are_no_broken_lines_and_an_ordinary_backtest_ignores_them(tmp_path: Path) -> None:
    book = Rulebook(compile_source)
    book.add(live(1, "tag"))
    driver = Driver(Rules(Ruleset(())), None, book=book, now_ms=START_MS)
    leaves(driver, "1", 1_000)
    driver.run()
    file = tmp_path / "capture.ndjson"
    captured(driver, book, file)
    with Captures([file]) as captures:
        assert captures.broken == []
        assert (captures.records, len(captures.rules)) == (2, 2)
    triggers = tmp_path / "triggers.yaml"
    triggers.write_text(SOURCES["solve"], "utf-8")
    done = CliRunner().invoke(app, ["backtest", "--events", str(file), "--triggers", str(triggers), "--json"])
    assert json.loads(done.stdout)["triggers"] == {"solve": 1}


@pytest.mark.parametrize("flags", [[], ["--as-it-was", "--triggers", "x.yaml"]])
def test_one_source_of_rules_must_be_named(flags: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["backtest", "--events", str(tmp_path / "none"), *flags])
    assert "Say which rules to use" in str(done.exception)
    assert not isinstance(done.exception, CaptureError)
