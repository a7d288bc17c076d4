"""A worker as a process of its own: `python -m tests.worker.worker_process BROKER PREFIX [field=value ...]`."""

from __future__ import annotations

import logging
import sys
from typing import Any

from streams.kafka.config import KafkaConfig
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.worker.observer import Silent
from streams.worker.service import Worker, run_until_stopped
from tests.worker.kit import engine


def main() -> int:
    broker, prefix, *changes = sys.argv[1:]
    logging.basicConfig(level="ERROR")
    given: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        given[name] = int(value) if value.isdecimal() else value
    config = KafkaConfig(brokers=(broker,), topic_prefix=prefix, **given)
    return run_until_stopped(lambda: Worker(config, engine(), decode=decode, rows=MsgpackRows(), observer=Silent()))


if __name__ == "__main__":
    sys.exit(main())
