"""What verbs share: files that may be `-`, a count of records on a terminal, patience with brokers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from streams.cli.root import UsageError
from streams.core.model import SECOND

PATIENCE = 5 * SECOND
"""How long a verb that somebody waits for tries to reach a broker; a worker has more patience."""


@contextlib.contextmanager
def opened(path: Path, mode: str) -> Iterator[IO[bytes]]:
    """Give a file, or standard input or output for `-`. Ends the command when it can't be opened."""
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
    """Give a function that shows how many records are done, on a terminal."""
    from rich.console import Console  # noqa: PLC0415 - takes longer to import than most verbs to run

    console = Console(stderr=True)
    with console.status("") if console.is_terminal else contextlib.nullcontext() as status:
        yield lambda done: status.update(f"{done:,} records {word}") if status is not None else None
