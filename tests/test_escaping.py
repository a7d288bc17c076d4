"""No control or bidirectional character of a record or a file reaches a terminal or a log, whatever the verb."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.cli.operations import _as_json, _json, _line, _outline
from streams.cli.records import for_terminal
from streams.core.escaping import has_control, one_line
from streams.core.model import OrderKey, SessionRow, TicketRow
from streams.operate.dead_letters import Letter, State
from streams.telemetry.logs import logging_config
from streams.wire.state import session_state, ticket_state

CANARY = "\x1b[2J\x1b]0;owned\x07\r\nforged line\u202e\u2066\x85\u2028\x7fend"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
AT = 1_772_359_200_000_000


def assert_safe(text: str) -> None:
    assert "end" in text, "the canary is not shown at all"
    assert RAW.search(text) is None, repr(text)
    assert not any(line.startswith("forged") for line in text.splitlines())


def capture(folder: Path) -> Path:
    value: dict[str, Any] = {"ticket_id": CANARY, "occurred_at": "2026-03-01T10:00:00Z", "event_id": CANARY}
    ticket = value | {"ticket": {"status": "open", "subject": CANARY, "custom_fields": {"11": CANARY}}}
    session = value | {"state": "inactive", "reason": "left", "session_id": CANARY, "event_id": f"s-{CANARY}"}
    lines = [
        {"topic": topic, "partition": 0, "offset": offset, "timestamp": AT // 1000, "key": CANARY, "value": body}
        for topic, offset, body in (
            ("ticket-updates", 0, ticket),
            ("ticket-updates", 1, f"no json {CANARY}"),
            ("session-states", 0, session),
        )
    ]
    lines.append(lines[0] | {"topic": CANARY})
    path = folder / "capture.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def trigger_file(folder: Path, *, extra: str = "") -> Path:
    title = json.dumps(f"Title {CANARY}")
    path = folder / "t.yaml"
    path.write_text(
        f"triggers:\n  - id: {json.dumps(CANARY)}\n    title: {title}\n    conditions:\n      all:\n"
        "        - {field: messaging_session_state, operator: changed_to, value: inactive}\n"
        f"        - {{field: custom_fields_11, operator: is_not, value: {title}}}\n{extra}"
        f"    actions:\n      - {{field: custom_fields_12, value: {title}}}\n"
    )
    return path


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
@pytest.mark.parametrize("verb", ["explain", "backtest", "against"])
def test_trials_show_records_and_rules_escaped(verb: str, json_flag: list[str], tmp_path: Path) -> None:
    events, triggers = str(capture(tmp_path)), str(trigger_file(tmp_path))
    arguments = ["--events", events, "--triggers", triggers, *json_flag]
    if verb == "against":
        none = tmp_path / "none.yaml"
        none.write_text(trigger_file(tmp_path).read_text().replace("is_not", "is"))
        arguments += ["--against", str(none)]
    if verb == "explain":
        arguments += ["--ticket", CANARY]
    done = CliRunner().invoke(app, ["explain" if verb == "explain" else "backtest", *arguments])
    assert done.exit_code == 0, done.output
    assert_safe(done.stdout)
    if not json_flag:
        assert_safe(done.stderr)


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github"])
def test_check_shows_files_escaped(form: str, tmp_path: Path) -> None:
    bad = f"        - {{field: status, operator: {json.dumps(CANARY)}, value: x}}\n"
    done = CliRunner().invoke(app, ["check", "--format", form, str(trigger_file(tmp_path, extra=bad))])
    assert done.exit_code == 1
    assert_safe(done.stdout.replace("%0A", ""))


def test_import_and_export_show_exports_escaped(tmp_path: Path) -> None:
    condition = {"field": CANARY, "operator": CANARY, "value": CANARY}
    sent = {
        "id": 1,
        "title": CANARY,
        "conditions": {"all": [condition]},
        "actions": [{"field": "status", "value": CANARY}],
    }
    source, file = tmp_path / "z.json", tmp_path / "t.yaml"
    source.write_text(json.dumps({"trigger": sent}))
    imported = CliRunner().invoke(app, ["import", str(source)])
    assert imported.exit_code == 0, imported.output
    assert_safe(imported.stdout)
    assert_safe(imported.stderr)
    file.write_text(imported.stdout)
    exported = CliRunner().invoke(app, ["export", str(file)])
    assert exported.exit_code == 0, exported.output
    assert_safe(exported.stdout)
    assert json.loads(exported.stdout)["triggers"][0]["title"] == sent["title"]


@pytest.mark.parametrize("values", [True, False])
def test_dead_letters_are_shown_escaped(values: bool) -> None:
    data = CANARY.encode()
    letter = Letter(
        partition=0, offset=1, at=AT, code=CANARY, path=CANARY, message=CANARY, source_topic=CANARY,
        source_partition=0, source_offset=0, source_timestamp=0, replayed_from=None, without_value=False,
        key=data, value=data,
        headers=(("trace", data), ("empty", None)),
    )  # fmt: skip
    assert_safe(_line(letter, State.WAITING, values))
    assert_safe(_json(_as_json(letter, State.WAITING, values)))
    assert json.loads(_json(_as_json(letter, State.WAITING, values)))["headers"]["empty"] is None


def test_state_is_shown_escaped() -> None:
    order = OrderKey(AT, (CANARY,))
    ticket = ticket_state(TicketRow({"subject": CANARY, "tags": [CANARY]}, order, AT))
    session = session_state(SessionRow(CANARY, CANARY, AT, CANARY, CANARY, 1, order, AT))
    told = {"ticket_id": CANARY, "ticket": ticket, "session": session}
    assert_safe("\n".join(map(one_line, _outline(told))))
    assert_safe(_json(told))


@pytest.mark.parametrize("form", ["text", "json"])
def test_logs_are_written_escaped(form: Any) -> None:
    stream = io.StringIO()
    logging.config.dictConfig(logging_config("info", form, stream))
    logger = logging.getLogger("streams.canary")
    logger.info("event %s", CANARY, extra={"member": CANARY})
    try:
        raise ValueError(CANARY)
    except ValueError:
        logger.exception("failed")
    assert_safe(stream.getvalue())


def test_a_capture_on_a_terminal_shows_the_same_json_without_raw_characters():
    written: list[bytes] = []
    line = '{"key":"\u202e\x7f","value":{"a":"\u2066ü"}}\n'
    for_terminal(written.append)(line.encode())
    assert json.loads(written[0]) == json.loads(line)
    assert not has_control(written[0].decode().rstrip("\n"))
