"""A worker as a process of its own: `python -m tests.runtime.worker_process BROKER PREFIX [field=micros ...]`."""

from __future__ import annotations

import logging
import sys

from streams.runtime.config import RuntimeConfig
from streams.runtime.observer import Silent
from streams.runtime.service import Worker, run_until_stopped
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from tests.runtime.kit import engine


def main() -> int:
    broker, prefix, *changes = sys.argv[1:]
    logging.basicConfig(level="ERROR")
    numbers = {name: int(value) for name, _, value in (change.partition("=") for change in changes)}
    config = RuntimeConfig(brokers=(broker,), topic_prefix=prefix, **numbers)
    return run_until_stopped(lambda: Worker(config, engine(), decode=decode, rows=MsgpackRows(), observer=Silent()))


if __name__ == "__main__":
    sys.exit(main())
