"""The schemas of today against those that were released last: nobody who relies on these trips over the new ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.wire import contracts
from tests.wire.compatibility import Direction, breaks

RELEASED = Path(__file__).parents[2] / "schemas" / "released" / contracts.VERSION
DIRECTIONS: dict[str, Direction] = {
    "ticket-update": "in",
    "session-state": "in",
    "capture-line": "in",
    "action-command": "out",
    "transition": "out",
    "evaluation": "out",
    "dead-letter-headers": "out",
}


def released(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RELEASED / f"{name}.schema.json").read_text())
    return found


@pytest.mark.parametrize("name", sorted(path.name.removesuffix(".schema.json") for path in RELEASED.iterdir()))
def test_a_released_schema_is_not_broken(name: str):
    assert breaks(released(name), contracts.schema(name), DIRECTIONS[name]) == []


def test_released_schemas_are_named_by_their_version():
    names = {path.name.removesuffix(".schema.json") for path in RELEASED.iterdir()}
    assert names == DIRECTIONS.keys()
    for name in names:
        assert released(name)["$id"] == f"urn:lapse:{name}:v{contracts.VERSION}"


def _require(schema: Any) -> None:
    schema["required"].append("channel")


def _narrow(schema: Any) -> None:
    schema["properties"]["reason"] = {"type": "string"}


def _close(schema: Any) -> None:
    schema["properties"]["state"]["enum"] = ["active", "inactive"]


def _limit(schema: Any) -> None:
    schema["properties"]["state"]["maxLength"] = 10


def _forget(schema: Any) -> None:
    del schema["properties"]["channel"]


@pytest.mark.parametrize("change", [_require, _narrow, _close, _limit, _forget])
def test_an_input_that_takes_less_is_found(change: Callable[[Any], None]):
    changed = copy.deepcopy(released("session-state"))
    change(changed)
    assert len(breaks(released("session-state"), changed, "in")) == 1


def test_an_input_may_take_more():
    changed = copy.deepcopy(released("session-state"))
    changed["properties"]["device"] = {"type": "string"}
    changed["properties"]["channel"] = {}
    changed["required"].remove("occurred_at")
    assert breaks(released("session-state"), changed, "in") == []


def _drop(schema: Any) -> None:
    del schema["properties"]["ruleset"]
    schema["required"].remove("ruleset")


def _optional(schema: Any) -> None:
    schema["required"].remove("expected")


def _retype(schema: Any) -> None:
    schema["properties"]["wait_ms"]["type"] = "string"


def _inside(schema: Any) -> None:
    schema["$defs"]["TransitionOfCommand"]["properties"]["event_id"] = {"type": ["string", "null"]}


def _pattern(schema: Any) -> None:
    schema["properties"]["command_id"]["pattern"] = ".*"


@pytest.mark.parametrize("change", [_drop, _optional, _retype, _inside, _pattern])
def test_an_output_that_old_readers_trip_over_is_found(change: Callable[[Any], None]):
    changed = copy.deepcopy(released("action-command"))
    change(changed)
    assert breaks(released("action-command"), changed, "out") != []


def test_an_output_may_say_more():
    changed = copy.deepcopy(released("action-command"))
    changed["properties"]["revision"] = {"type": "integer"}
    changed["required"].append("revision")
    evaluation = copy.deepcopy(released("evaluation"))
    evaluation["properties"]["outcome"]["enum"].append("held")
    assert breaks(released("action-command"), changed, "out") == []
    assert breaks(released("evaluation"), evaluation, "out") == []
