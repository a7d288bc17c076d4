"""`lapse backtest --as-it-was`: the same inputs and activations give the same records, byte for byte."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streams.cli import app
from streams.core.cycle import Rules
from streams.core.model import MILLISECOND
from streams.core.names import Output
from streams.core.revisions import Entry, EntryKind, Rulebook
from streams.core.triggers import Ruleset
from streams.offline.captures import CaptureError, Captures
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


def test_a_capture_without_activations_or_with_the_first_one_missing_is_refused(tmp_path: Path) -> None:
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
    assert "needs a capture from the first record" in refused([line for line in lines if line != activations[0]])
    without = [line for line in lines if not line.startswith(b'{"topic":"rules","partition":0,"offset":1')]
    assert "took entry 2 up, which the capture does not have" in refused(without)


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
