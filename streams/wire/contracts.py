"""JSON Schemas of every record, made from `shapes`: `python -m streams.wire.contracts` writes them to `schemas/`.

With `--check` nothing is written; the exit code is 1 when a file there is not what would be written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from streams.wire import shapes

FOLDER = Path("schemas")
VERSION = "1"
"""Of the contract; it changes when a reader of the last version could not read what is written."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"

RECORDS: dict[str, type] = {
    "ticket-update": shapes.TicketRecord,
    "session-state": shapes.SessionRecord,
    "action-command": shapes.CommandRecord,
    "transition": shapes.TransitionRecord,
    "evaluation": shapes.EvaluationRecord,
    "shadow": shapes.ShadowRecord,
    "held-command-marker": shapes.HeldMarker,
    "apply-result": shapes.ApplyResultRecord,
    "activation": shapes.ActivationRecord,
    "rule-entry": shapes.RuleEntry,
    "capture-line": shapes.CaptureRecord,
    "dead-letter-headers": shapes.DeadLetterHeaders,
    "apply-dead-letter-headers": shapes.ApplyDeadLetterHeaders,
}
"""Every record by the name of its schema file."""


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one record."""
    made = msgspec.json.schema(RECORDS[name], ref_template="#/$defs/{name}")
    definitions: dict[str, Any] = made["$defs"]
    own = definitions.pop(made["$ref"].removeprefix("#/$defs/"))
    own["title"] = name
    for definition in (own, *definitions.values()):
        _require_all_of_an_output(definition)
    rest = {"$defs": definitions} if definitions else {}
    return {"$schema": DIALECT, "$id": f"urn:lapse:{name}:v{VERSION}", **own, **rest}


def components(ref_template: str, names: Iterable[str]) -> dict[str, Any]:
    """Return the schemas of records and of all that they consist of, by type, for a document that holds them all."""
    definitions: dict[str, Any]
    _, definitions = msgspec.json.schema_components([RECORDS[name] for name in names], ref_template=ref_template)
    for definition in definitions.values():
        _require_all_of_an_output(definition)
    return definitions


def _require_all_of_an_output(definition: dict[str, Any]) -> None:
    """All members of an output are always there, but for those that may be unset.

    msgspec would leave out of `required` what has a default; it gives what may be unset no default.
    """
    if definition.get("additionalProperties") is False:
        always = definition.get("required", ())
        definition["required"] = [
            name for name, member in definition["properties"].items() if name in always or "default" in member
        ]


def rendered(name: str) -> str:
    """Return the text of one schema file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write all schema files, or compare them; return the exit code."""
    stale = []
    for name in RECORDS:
        path = FOLDER / f"{name}.schema.json"
        if "--check" not in arguments:
            path.write_text(rendered(name))
        elif not path.exists() or path.read_text() != rendered(name):
            stale.append(str(path))
    if stale:
        print(f"not as made from the types: {', '.join(stale)}; run python -m streams.wire.contracts", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
