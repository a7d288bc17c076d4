"""A file's text, or in plain words why there is none."""

from __future__ import annotations

from pathlib import Path

from streams.config.problems import Findings
from streams.config.yaml_nodes import At

MAX_BYTES = 10_000_000
"""7,000 triggers, the most that Zendesk lets be active, take about 5 MB when each is written out at length."""

_TOP = At(1, 1)
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path, findings: Findings) -> str | None:
    """Return the text of a UTF-8 file, with or without byte order mark; None when `findings` say why not."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        findings.add(_TOP, "not_found", "no such file")
    except IsADirectoryError:
        findings.add(_TOP, "is_directory", "this is a directory; name the file in it")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else None
        findings.add(_TOP, "unreadable", f"can't be read: {reason or error}")
    else:
        if len(data) > MAX_BYTES:
            findings.add(_TOP, "too_large", f"larger than {MAX_BYTES // 1_000_000} MB: is this the right file?")
            return None
        return decode(data, findings)
    return None


def decode(data: bytes, findings: Findings) -> str | None:
    """Return `data` as text; None, and a finding at the first byte that is not UTF-8, when it is something else."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if data.startswith(_UTF16_MARKS):
            findings.add(_TOP, "not_utf8", "written as UTF-16 (Windows calls it Unicode); save it as UTF-8")
            return None
        before = data[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        guess = data[error.start : error.start + 1].decode("cp1252", "replace")
        why = f"byte 0x{data[error.start]:02X} is not UTF-8: the file looks Windows-encoded (`{guess}` there)"
        message = f"{why}; save it as UTF-8"
        findings.add(At(before.count(b"\n") + 1, column), "not_utf8", message)
        return None
