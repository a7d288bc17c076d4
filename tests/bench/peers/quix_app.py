"""The same work with Quix Streams, exactly once: both topics as one data frame in the order of time, state in RocksDB.

Its orders come by environment: BENCH_BROKERS, BENCH_PREFIX, BENCH_GROUP, BENCH_COMMANDS, BENCH_SCRATCH.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from quixstreams import Application, State

sys.path.insert(0, str(Path(__file__).parent))
from recipes import merged, take_session

PREFIX, GROUP = os.environ["BENCH_PREFIX"], os.environ["BENCH_GROUP"]


def join(event: dict[str, Any], state: State) -> dict[str, Any] | None:
    """Keep both sides of a ticket, and return the command when it was a lapse that asks for one."""
    if "ticket" in event:
        state.set("ticket", merged(state.get("ticket"), event["ticket"]))
        return None
    row, command = take_session(event["ticket_id"], state.get("session"), event, state.get("ticket"))
    state.set("session", row)
    return command


def main() -> None:
    """Run until SIGTERM."""
    app = Application(
        broker_address=os.environ["BENCH_BROKERS"],
        consumer_group=GROUP,
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        commit_interval=0.5,
        state_dir=Path(os.environ["BENCH_SCRATCH"], f"{GROUP}-quix"),
        loglevel="WARNING",
    )
    tickets = app.dataframe(app.topic(f"{PREFIX}ticket-updates", value_deserializer="json"))
    sessions = app.dataframe(app.topic(f"{PREFIX}session-states", value_deserializer="json"))
    commands = tickets.concat(sessions).apply(join, stateful=True).filter(lambda command: command is not None)
    commands.to_topic(app.topic(os.environ["BENCH_COMMANDS"], value_serializer="json"))
    app.run()


if __name__ == "__main__":
    main()
