"""Reads a file's text, or reports in plain words why it can't be read."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from streams.documents.problems import Findings
from streams.documents.yaml_nodes import At

MAX_BYTES = 20_000_000
"""7,000 triggers, the most that Zendesk allows to be active, take about 8 MB when each is written out in full."""

_TOP = At(1, 1)
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16 (Windows calls it Unicode)",
    b"\xfe\xff": "UTF-16 (Windows calls it Unicode)",
}
_MAGIC = {
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"PK\x03\x04": "a ZIP archive or an Office document: unpack it, or save its text",
    b"%PDF": "a PDF document: save its text",
}


def read_text(path: Path, findings: Findings) -> str | None:
    """Return the text of a UTF-8 file, with or without byte order mark; None when it can't be read, with a finding."""
    try:
        with path.open("rb") as file:
            return read_stream(file, findings)
    except FileNotFoundError:
        findings.add(_TOP, "not_found", "no such file")
    except IsADirectoryError:
        findings.add(_TOP, "is_directory", "this is a directory; name the file in it")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else None
        findings.add(_TOP, "unreadable", f"can't be read: {reason or error}")
    return None


def read_stream(stream: BinaryIO, findings: Findings) -> str | None:
    """Return the text of a stream; None when it can't be read, with a finding."""
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        findings.add(_TOP, "too_large", f"larger than {MAX_BYTES // 1_000_000} MB: is this the right file?")
        return None
    return decode(data, findings)


def decode(data: bytes, findings: Findings) -> str | None:
    """Return `data` as text; when it is not UTF-8, None, with a finding at the first invalid byte."""
    known = next((what for magic, what in _MAGIC.items() if data.startswith(magic)), None)
    if known is not None:
        findings.add(_TOP, "not_text", f"this is {known}")
        return None
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None) or _wide(data)
    if encoding is not None:
        findings.add(_TOP, "not_utf8", f"written as {encoding}; save it as UTF-8")
        return None
    nul = data.find(b"\0")
    if nul >= 0:
        message = "a NUL byte stands here, which no text holds: is this the right file, is it damaged?"
        findings.add(_place(data[:nul]), "not_text", message)
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        guess = data[error.start : error.start + 1].decode("cp1252", "replace")
        why = f"byte 0x{data[error.start]:02X} is not UTF-8: the file looks Windows-encoded (`{guess}` there)"
        findings.add(_place(data[: error.start]), "not_utf8", f"{why}; save it as UTF-8")
        return None


def _wide(data: bytes) -> str | None:
    """Return the encoding of a text in which every other byte is 0, as is the case for most trigger files in UTF-16."""
    head = data[:1_000]
    pairs = len(head) // 2
    if pairs >= 2 and max(head[::2].count(0), head[1::2].count(0)) * 2 > pairs and head.count(0) * 4 < len(head) * 3:
        return "UTF-16 (Windows calls it Unicode)"
    return None


def _place(before: bytes) -> At:
    """Return the position after the given bytes."""
    line = before[before.rfind(b"\n") + 1 :]
    return At(before.count(b"\n") + 1, len(line.decode("utf-8", "replace")) + 1)
