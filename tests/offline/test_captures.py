"""Captures on disk: read in offset order whatever order the lines have, with every line that is none named."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from streams.core.names import Topic
from streams.offline.captures import CaptureError, Captures
from streams.wire import capture
from streams.wire.capture import CapturedRecord

ROOT = Path(__file__).parents[2]


def line(offset: int, *, topic: Topic = Topic.TICKETS, partition: int = 0, at: int = 1000) -> bytes:
    value = b'{"ticket_id":"1","occurred_at":"2026-03-01T10:00:00Z","ticket":{"status":"open"}}'
    return capture.line(topic, partition, CapturedRecord(offset, at, b"1", value))


def backtest(*arguments: object) -> subprocess.CompletedProcess[str]:
    triggers = ROOT / "deploy/triggers/recipes.yaml"
    return subprocess.run(
        [sys.executable, "-m", "streams", "backtest", "--triggers", triggers, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_records_come_in_offset_order_over_all_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(line(5) + line(1) + line(2, partition=3))
    (tmp_path / "b").write_bytes(line(3) + line(0, topic=Topic.SESSIONS) + line(0))
    with Captures([tmp_path / "a", tmp_path / "b"]) as captures:
        assert captures.partitions == [0, 3]
        assert (captures.records, captures.count(0), captures.count(3)) == (6, 5, 1)
        assert [record.offset for record in captures.read(0, Topic.TICKETS)] == [0, 1, 3, 5]
        assert [record.offset for record in captures.read(0, Topic.SESSIONS)] == [0]
        assert list(captures.read(3, Topic.SESSIONS)) == []


def test_of_equal_offsets_the_line_read_first_comes_first(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(line(2, at=1) + line(1, at=2) + line(2, at=3))
    with Captures([tmp_path / "a"]) as captures:
        assert [(one.offset, one.timestamp) for one in captures.read(0, Topic.TICKETS)] == [(1, 2), (2, 1), (2, 3)]


def test_the_latest_record_is_the_latest_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(line(0, at=10) + line(1, at=30) + line(2, at=20) + line(0, partition=1, at=5))
    with Captures([tmp_path / "a"]) as captures:
        assert captures.latest(lambda partition, topic, record: True) == 30
        assert captures.latest(lambda partition, topic, record: record.offset != 1) == 20
        assert captures.latest(lambda partition, topic, record: False) is None


def test_lines_that_hold_no_record_are_named_and_blank_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(line(0) + b"\n  \n{broken\n" + line(1) + b'{"topic":"elsewhere"}\n' + line(2).rstrip())
    with Captures([tmp_path / "a"]) as captures:
        assert captures.records == 3
        assert [(broken.file, broken.line) for broken in captures.broken] == [
            (str(tmp_path / "a"), 4),
            (str(tmp_path / "a"), 6),
        ]
        assert all(broken.reason for broken in captures.broken)


def test_a_line_in_a_windows_encoding_is_named_with_what_to_do(tmp_path: Path) -> None:
    umlaut = line(1).replace(b"open", "öffen".encode("cp1252"))
    (tmp_path / "a").write_bytes(line(0) + umlaut + line(2).replace(b"open", "öffen".encode()))
    with Captures([tmp_path / "a"]) as captures:
        assert [record.offset for record in captures.read(0, Topic.TICKETS)] == [0, 2]
        (broken,) = captures.broken
        assert (broken.line, "not UTF-8; save the file as UTF-8" in broken.reason) == (2, True)


def test_a_broken_line_ends_a_strict_backtest_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(line(0) + b"{broken\n")
    lenient = backtest("--events", tmp_path / "a")
    assert (lenient.returncode, lenient.stdout.splitlines()[0]) == (0, "1 record: 1 applied, 0 stale, 0 duplicate")
    assert lenient.stderr.startswith(f"{tmp_path / 'a'}:2: ")
    strict = backtest("--events", tmp_path / "a", "--strict")
    assert (strict.returncode, strict.stdout) == (1, "")
    assert "Traceback" not in strict.stderr


def test_a_packed_capture_reads_as_the_plain_one_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(line(0) + line(1)))
    with Captures([tmp_path / "packed.jsonl"]) as captures:
        assert [record.offset for record in captures.read(0, Topic.TICKETS)] == [0, 1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(line(0) * 50)[:60], "cannot read the capture"),
        ("\ufeff{}".encode("utf-16-le"), "UTF-16"),
        (line(0).decode().encode("utf-16-be"), "UTF-16"),
        (line(0).decode().encode("utf-16-le"), "UTF-16"),
    ],
)
def test_a_file_that_is_no_capture_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CaptureError, match=says) as caught:
        Captures([tmp_path / "a"])
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: ")
    assert "\n" not in str(caught.value)


def test_an_empty_capture_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with Captures([tmp_path / "a"]) as captures:
        assert (captures.records, captures.partitions, captures.broken) == (0, [], [])
        assert captures.latest(lambda partition, topic, record: True) is None
