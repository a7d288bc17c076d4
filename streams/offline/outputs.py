"""Output files of a backtest: one file, or one per partition until that partition's turn to be appended."""

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
    """Output files for commands and transition records, one JSON object per line; None means not written."""

    def __init__(self, app_id: str, commands: IO[bytes] | None = None, transitions: IO[bytes] | None = None) -> None:
        """Write commands and transition records to the given files."""
        self.app_id = app_id
        self.commands = commands
        self.transitions = transitions

    @contextmanager
    def apart(self) -> Iterator[Parts]:
        """Give each partition its own files while the context is open."""
        with tempfile.TemporaryDirectory(prefix="lapse-") as folder:
            yield Parts(self, Path(folder))

    def write(self, batch: Batch) -> None:
        """Write the commands and records of one batch, in the order in which they were produced."""
        if self.commands is not None and batch.commands:
            self.commands.write(lines(command_writes(batch, self.app_id)))
        if self.transitions is not None and batch.records:
            self.transitions.write(lines(transition_writes(batch)))


class Parts:
    """The outputs of partitions that run in parallel, each in its own files until they are appended in order."""

    def __init__(self, outputs: Outputs, folder: Path) -> None:
        """Store the files in `folder`."""
        self._outputs = outputs
        self._folder = folder

    def of(self, number: int) -> Outputs:
        """Return the outputs of a partition. Called in the process that runs the partition."""
        whole = self._outputs
        commands, transitions = (
            None if file is None else (self._folder / f"{name}-{number}").open("wb", buffering=0)
            for name, file in (("commands", whole.commands), ("transitions", whole.transitions))
        )
        return Outputs(whole.app_id, commands, transitions)

    def take(self, number: int) -> None:
        """Append the output of a partition."""
        for name, file in (("commands", self._outputs.commands), ("transitions", self._outputs.transitions)):
            if file is not None:
                part = self._folder / f"{name}-{number}"
                with part.open("rb") as written:
                    shutil.copyfileobj(written, file)
                part.unlink()
