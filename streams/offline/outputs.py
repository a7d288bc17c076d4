"""Where a backtest writes what it decides: one file, or one a partition until its turn comes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from streams.core.batch import Batch
from streams.wire.writes import command_writes, lines, transition_writes


class Outputs:
    """Where a backtest writes what it decides, one JSON object a line; None for nowhere."""

    def __init__(self, app_id: str, commands: IO[bytes] | None = None, transitions: IO[bytes] | None = None) -> None:
        """Write commands and transition records to these files."""
        self.app_id = app_id
        self.commands = commands
        self.transitions = transitions

    @contextmanager
    def apart(self) -> Iterator[Parts]:
        """Give each partition files of its own for a while."""
        with tempfile.TemporaryDirectory(prefix="lapse-") as folder:
            yield Parts(self, Path(folder))

    def write(self, batch: Batch) -> None:
        """Write the commands and records of one batch, in the order in which they arose."""
        if self.commands is not None and batch.commands:
            self.commands.write(lines(command_writes(batch, self.app_id)))
        if self.transitions is not None and batch.records:
            self.transitions.write(lines(transition_writes(batch)))


class Parts:
    """The outputs of partitions that run at the same time, each in files of its own until its turn comes."""

    def __init__(self, outputs: Outputs, folder: Path) -> None:
        """Keep the files in `folder`."""
        self._outputs = outputs
        self._folder = folder

    def of(self, number: int) -> Outputs:
        """Return where a partition writes; called in the process that runs it."""
        whole = self._outputs
        commands, transitions = (
            None if file is None else (self._folder / f"{name}-{number}").open("wb", buffering=0)
            for name, file in (("commands", whole.commands), ("transitions", whole.transitions))
        )
        return Outputs(whole.app_id, commands, transitions)

    def take(self, number: int) -> None:
        """Append what a partition has written."""
        for name, file in (("commands", self._outputs.commands), ("transitions", self._outputs.transitions)):
            if file is not None:
                part = self._folder / f"{name}-{number}"
                with part.open("rb") as written:
                    shutil.copyfileobj(written, file)
                part.unlink()
