"""Captures written event by event, and verbs run over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from streams.cli import app

START = 1_772_359_200_000
"""2026-03-01T10:00:00Z, in milliseconds."""


class Capture:
    """A capture of one partition; times are seconds after 10 o'clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []

    def tell(self, topic: str, at: int, ticket_id: str, **members: Any) -> Capture:
        instant = f"2026-03-01T{10 + at // 3600:02}:{at % 3600 // 60:02}:{at % 60:02}Z"
        event_id = f"e-{len(self.lines)}"
        value = {"event_id": event_id, "ticket_id": ticket_id, "occurred_at": instant, **members}
        self.lines.append(
            json.dumps(
                {
                    "topic": topic,
                    "partition": 0,
                    "offset": len(self.lines),
                    "timestamp": START + at * 1000,
                    "key": ticket_id,
                    "value": value,
                }
            )
        )
        return self

    def ticket(self, at: int, ticket_id: str, **ticket: Any) -> Capture:
        return self.tell("ticket-updates", at, ticket_id, ticket=ticket)

    def session(self, at: int, ticket_id: str, state: str, reason: str | None = None) -> Capture:
        return self.tell("session-states", at, ticket_id, state=state, **({"reason": reason} if reason else {}))

    def leaves(self, at: int, ticket_id: str, back_after: int | None = None) -> Capture:
        """A customer leaves, and maybe comes back."""
        self.session(at, ticket_id, "inactive", "user_inactive_or_offline")
        return self if back_after is None else self.session(at + back_after, ticket_id, "active")

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def backtest(self, triggers: str, *more: str) -> Result:
        capture = self.write("capture.jsonl", "\n".join(self.lines) + "\n")
        file = self.write("triggers.yaml", triggers)
        return CliRunner().invoke(app, ["backtest", "--events", str(capture), "--triggers", str(file), *more])

    def json(self, triggers: str, *more: str) -> dict[str, Any]:
        done = self.backtest(triggers, *more, "--json")
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found
