"""Verbs that read or write the records of a broker."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
import errno
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from streams.cli.root import UsageError, app
from streams.cli.setting_flags import BROKER, takes_settings
from streams.cli.shared import PATIENCE, counting, opened
from streams.core.errors import Failed
from streams.core.escaping import json_text
from streams.settings.settings import Settings

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""Errors from writing a file. Connection errors have already been converted to other exceptions."""


@app.command()
@takes_settings(*BROKER)
def capture(
    settings: Settings,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File to write; - is standard output.", show_default=False)
    ],
) -> None:
    """Write all records of both inputs to a capture file."""
    from streams.assembly import runtime_config
    from streams.operate.capture import capture as run_capture

    try:
        with opened(output, "wb") as file, counting("captured") as progress:
            write = for_terminal(file.write) if file.isatty() else file.write
            count = asyncio.run(run_capture(runtime_config(settings, patience=PATIENCE), write, progress))
            file.flush()
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise Failed(
            f"{output}: {error.strerror}. The file is incomplete: it ends in the middle of the capture."
        ) from None
    typer.echo(f"{count} records captured", err=True)


def for_terminal(write: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Return `write` for lines of a capture that a person looks at: the same JSON, without raw control characters."""
    return lambda line: write(json_text(line.decode()).encode())


@app.command()
@takes_settings(*BROKER)
def feed(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="Capture to read (.gz too); - is standard input.", show_default=False)],
) -> None:
    """Write a capture file, packed with gzip or not, to the inputs, each record to the partition it came from."""
    from streams.assembly import runtime_config
    from streams.operate.capture import feed as run_feed

    name = "<stdin>" if file == Path("-") else str(file)
    config = runtime_config(settings, patience=PATIENCE)
    with opened(file, "rb") as packed, counting("fed") as progress:
        count = asyncio.run(run_feed(config, _lines(packed, name), progress, name=name))
    typer.echo(f"{count} records fed", err=True)


def _lines(packed: IO[bytes], name: str) -> Iterator[bytes]:
    from streams.offline.captures import unpacked

    try:
        yield from unpacked(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{name}: cannot read the capture: {error}") from None
