"""The twelve hex digits that identify a ruleset (SPEC section 5): equal rules, however written, give equal digits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from streams.core.model import MILLISECOND
from streams.core.triggers import WITHOUT_VALUE, Action, Condition, Cycle, Holdout, Limit, Trigger
from streams.rules.canonical import canonical_json


def ruleset_digest(
    triggers: Iterable[Trigger], cycle: Cycle, holdout: Holdout | None = None, limit: Limit | None = None
) -> str:
    """Return the first 12 hex digits of SHA-256 over the canonical JSON of `{cycle, triggers}`.

    `holdout` and `limit`, at the head or on a trigger, are part of it only where they are set.

    Aliases, defaults and durations are resolved by the time a `Trigger` exists, so comments, the order of keys and
    the spelling of operators don't count. The order of triggers does: it decides between equal positions.
    """
    content: dict[str, Any] = {"cycle": cycle, "triggers": [_trigger(trigger) for trigger in triggers]}
    if holdout is not None:
        content["holdout"] = {"share_ppm": holdout.share_ppm, "salt": holdout.salt}
    if limit is not None:
        content["limit"] = _limit(limit)
    return hashlib.sha256(canonical_json(content)).hexdigest()[:12]


def _trigger(trigger: Trigger) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": trigger.id,
        "title": trigger.title,
        "active": trigger.active,
        "category_position": trigger.category_position,
        "position": trigger.position,
        "wait_ms": trigger.wait // MILLISECOND,
        "conditions": {
            "all": [_condition(condition) for condition in trigger.all],
            "any": [_condition(condition) for condition in trigger.any],
        },
        "actions": [_action(action) for action in trigger.actions],
    }
    if trigger.limit is not None:
        content["limit"] = _limit(trigger.limit)
    return content


def _limit(limit: Limit) -> dict[str, Any]:
    return {"count": limit.count, "per_ms": limit.per // MILLISECOND}


def _condition(condition: Condition) -> dict[str, Any]:
    if condition.operator in WITHOUT_VALUE:
        return {"field": condition.field, "operator": condition.operator.value}
    return {"field": condition.field, "operator": condition.operator.value, "value": condition.value}


def _action(action: Action) -> dict[str, Any]:
    return {"field": action.field, "value": action.value}
