"""Capture files on disk, read twice: once to index the lines, once in the order of each topic-partition.

A capture interleaves topics and partitions in the order they were written, but a partition must be merged by time. The
first pass therefore records where each line starts and which offset it holds. The second pass reads the lines of each
topic-partition in offset order. The index takes 38 bytes of memory per line; the lines are not kept in memory.
"""

from __future__ import annotations

import gzip
import mmap
import shutil
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from streams.core.errors import LapseError
from streams.core.names import Topic
from streams.wire.capture import CapturedRecord, CaptureLineError, Entry, RulesLine, entry, record_at, rules_line

STDIN = Path("-")
_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"{\x00", b"\x00{")
"""First bytes of a UTF-16 file: a byte order mark, or the opening brace of the first line."""
_FORGET_EVERY = 64 * 1024 * 1024
"""Bytes read between hints to the kernel that the pages already read are no longer needed."""

Progress = Callable[[int, int], None]
"""Called periodically with (bytes done, total bytes)."""


class CaptureError(LapseError):
    """A capture cannot be read. The message names the file and the reason."""


class BrokenLine(NamedTuple):
    """A line of a capture that is not a valid record."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        """Format as `file:line: reason`."""
        return f"{self.file}:{self.line}: {self.reason}"


class _Lines:
    """The positions of the records of one topic-partition, in offset order."""

    def __init__(self) -> None:
        self.files = array("H")
        self.starts = array("Q")
        self.lengths = array("I")
        self.values = array("I")
        self.keys = array("I")
        self.offsets = array("q")
        self.timestamps = array("q")
        self.last_offset = -1
        self.sorted = True

    def add(self, file: int, start: int, length: int, found: Entry) -> None:
        _, _, offset, timestamp, value_at, key_length = found
        if offset < self.last_offset:
            self.sorted = False
        self.last_offset = offset
        self.files.append(file)
        self.starts.append(start)
        self.lengths.append(length)
        self.values.append(value_at)
        self.keys.append(key_length)
        self.offsets.append(offset)
        self.timestamps.append(timestamp)

    def order(self) -> Sequence[int]:
        """Return line numbers in offset order; lines with equal offsets stay in the order read."""
        count = range(len(self.offsets))
        return count if self.sorted else sorted(count, key=self.offsets.__getitem__)

    def latest_first(self) -> Iterator[int]:
        """Yield line numbers by descending timestamp. The first is cheap, and usually the only one needed."""
        count = range(len(self.timestamps))
        yield max(count, key=self.timestamps.__getitem__)
        yield from sorted(count, key=self.timestamps.__getitem__, reverse=True)[1:]


class _File:
    """One memory-mapped capture. Compressed or piped input is first written to a temporary file, uncompressed."""

    def __init__(self, path: Path) -> None:
        self.name = "<stdin>" if path == STDIN else str(path)
        try:
            self._handle = _plain(path)
            self._handle.seek(0, 2)
            self.size = self._handle.tell()
            self.map = mmap.mmap(self._handle.fileno(), 0, access=mmap.ACCESS_READ) if self.size else None
        except (OSError, EOFError, gzip.BadGzipFile) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CaptureError(f"{self.name}: cannot read the capture: {reason}") from None
        self._read = 0
        if self.map is not None and self.map[:2] in _UTF_16:
            self.close()
            raise CaptureError(f"{self.name}: the capture is UTF-16 (Windows calls it Unicode); save it as UTF-8")

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (start, line) for every line."""
        if self.map is None:
            return
        start = 0
        while start < self.size:
            end = self.map.find(b"\n", start)
            end = self.size if end < 0 else end
            yield start, self.read(start, end - start)
            start = end + 1

    def read(self, start: int, length: int) -> bytes:
        assert self.map is not None  # noqa: S101 -- an empty file has no lines to read
        self._read += length
        if self._read > _FORGET_EVERY:
            self._read = 0
            self.map.madvise(mmap.MADV_DONTNEED)
        return self.map[start : start + length]

    def close(self) -> None:
        if self.map is not None:
            self.map.close()
        self._handle.close()


class Captures:
    """All records of one or more capture files, by topic and partition. Use as a context manager."""

    def __init__(self, paths: Sequence[Path], progress: Progress | None = None) -> None:
        """Index all lines of `paths` (`-` is standard input). Raises `CaptureError`."""
        self.broken: list[BrokenLine] = []
        self.rules: list[RulesLine] = []
        """Entries of the rules topic and activations, in the order read."""
        self.records = 0
        self._lines: dict[tuple[Topic, int], _Lines] = {}
        self._files: list[_File] = []
        try:
            for path in paths:
                self._files.append(_File(path))
            total, done = sum(file.size for file in self._files), 0
            for number, file in enumerate(self._files):
                for at in self._index(number, file):
                    if progress is not None:
                        progress(done + at, total)
                done += file.size
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Captures:
        """Return the open captures."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all files."""
        self.close()

    def close(self) -> None:
        """Close all files; temporary files are deleted."""
        for file in self._files:
            file.close()

    @property
    def partitions(self) -> list[int]:
        """Partitions that have at least one record, ascending."""
        return sorted({partition for _, partition in self._lines})

    @property
    def partition_count(self) -> int:
        """Number of partitions that the topics had, as far as the capture shows: up to its highest one."""
        return max(self.partitions, default=0) + 1

    def count(self, partition: int) -> int:
        """Return the number of records in a partition."""
        return sum(len(lines.offsets) for (_, number), lines in self._lines.items() if number == partition)

    def read(self, partition: int, topic: Topic) -> Iterator[CapturedRecord]:
        """Yield the records of a topic-partition in offset order."""
        lines = self._lines.get((topic, partition))
        if lines is None:
            return
        for at in lines.order():
            yield self._record(lines, at)

    def sample(self, most: int) -> Iterator[tuple[Topic, int, CapturedRecord]]:
        """Yield up to `most` records of each topic-partition, evenly spaced, in the order they were read."""
        for (topic, partition), lines in self._lines.items():
            count = len(lines.offsets)
            for at in range(0, count, max(1, -(-count // most))):
                yield topic, partition, self._record(lines, at)

    def latest(self, usable: Callable[[int, Topic, CapturedRecord], bool]) -> int | None:
        """Return the highest timestamp (ms) among records that are `usable`; None when there is none."""
        highest: int | None = None
        for (topic, partition), lines in self._lines.items():
            for at in lines.latest_first():
                if highest is not None and lines.timestamps[at] <= highest:
                    break
                if usable(partition, topic, self._record(lines, at)):
                    highest = lines.timestamps[at]
                    break
        return highest

    def _record(self, lines: _Lines, at: int) -> CapturedRecord:
        text = self._files[lines.files[at]].read(lines.starts[at], lines.lengths[at])
        return record_at(text, lines.offsets[at], lines.timestamps[at], lines.values[at], lines.keys[at])

    def _index(self, number: int, file: _File) -> Iterator[int]:
        """Index the position of every record in a file; periodically yield the number of bytes done."""
        by_partition = self._lines
        for line_number, (start, text) in enumerate(file.lines(), start=1):
            if not line_number % 20_000:
                yield start
            try:
                found = entry(text)
            except CaptureLineError as error:
                if (of_rules := rules_line(text)) is not None:
                    self.rules.append(of_rules)
                elif text.strip():
                    self.broken.append(BrokenLine(file.name, line_number, str(error)))
                continue
            lines = by_partition.get(found[:2])
            if lines is None:
                lines = by_partition[found[:2]] = _Lines()
            lines.add(number, start, len(text), found)
            self.records += 1
        yield file.size


def _plain(path: Path) -> IO[bytes]:
    """Open a capture as a plain, seekable file."""
    if path == STDIN:
        return _spilled(unpacked(sys.stdin.buffer))
    handle = path.open("rb")
    if handle.read(2) == _GZIP:
        handle.seek(0)
        with handle:
            return _spilled(gzip.open(handle))
    handle.seek(0)
    return handle


def unpacked(stream: IO[bytes]) -> IO[bytes]:
    """Return the stream, decompressed if its content is gzip, regardless of the file name."""
    head = stream.peek(2)[:2] if hasattr(stream, "peek") else b""
    return gzip.open(stream) if head == _GZIP else stream  # type: ignore[return-value]


def _spilled(stream: IO[bytes] | gzip.GzipFile) -> IO[bytes]:
    spill = tempfile.TemporaryFile(prefix="lapse-capture-")
    try:
        shutil.copyfileobj(stream, spill, 1024 * 1024)
    except BaseException:
        spill.close()
        raise
    spill.flush()
    return spill
