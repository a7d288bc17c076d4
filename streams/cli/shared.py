"""Helpers shared by verbs: files that may be `-`, a record counter on a terminal, the patience with brokers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from streams.cli.root import UsageError
from streams.core.model import SECOND

PATIENCE = 5 * SECOND
"""How long an interactive verb tries to reach a broker; a worker tries longer."""


@contextlib.contextmanager
def opened(path: Path, mode: str) -> Iterator[IO[bytes]]:
    """Yield an open file; `-` is standard input or output. Ends the command if the file can't be opened."""
    if path == Path("-"):
        yield sys.stdin.buffer if mode == "rb" else sys.stdout.buffer
        return
    try:
        file = path.open(mode)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    with file:
        yield file


@contextlib.contextmanager
def counting(word: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows the number of records done, on a terminal."""
    from rich.console import Console  # noqa: PLC0415 - takes longer to import than most verbs to run

    console = Console(stderr=True)
    with console.status("") if console.is_terminal else contextlib.nullcontext() as status:
        yield lambda done: status.update(f"{done:,} records {word}") if status is not None else None
