"""Actions on a working copy of the ticket, and their net effect: SPEC section 4 *Actions*, section 5."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from streams.core import normal
from streams.core.conditions import Fields, same
from streams.core.model import FieldValue, Value
from streams.core.triggers import PASSED_ON, PASSED_ON_PREFIXES, TAG_ACTIONS, Action

TAGS = "tags"


@lru_cache(maxsize=1024)
def is_passed_on(field: str) -> bool:
    """Whether an action is passed to the consumer unchanged, without effect on the working copy.

    >>> is_passed_on("notification_user"), is_passed_on("end_messaging_session"), is_passed_on("status")
    (True, True, False)
    """
    return field in PASSED_ON or field.startswith(PASSED_ON_PREFIXES)


class WorkingCopy:
    """The ticket as changed by the triggers of one round; the original row is not modified."""

    def __init__(self, row: Fields) -> None:
        """Start from `row`, the ticket's fields before the round."""
        self.row = row
        self.now: dict[str, Value] = dict(row)
        self._set_order: dict[str, None] = {}
        self._passed_on: list[FieldValue] = []
        self._tags_replaced = False

    def apply(self, actions: tuple[Action, ...]) -> bool:
        """Apply one trigger's actions in order; return whether the working copy changed."""
        changed = False
        for action in actions:
            if action.field in TAG_ACTIONS:
                changed |= self._apply_tags(action.field, action.value)
            elif is_passed_on(action.field):
                self._passed_on.append(FieldValue(action.field, action.value))
            else:
                self._set_order.setdefault(action.field)
                if not same(self.now.get(action.field), action.value):
                    self.now[action.field] = action.value
                    changed = True
        return changed

    def _apply_tags(self, kind: str, value: Any) -> bool:
        named = normal.words(value)
        before = normal.words(self.now.get(TAGS))
        if kind == "set_tags":
            self._tags_replaced = True
            after = named
        elif kind == "add_tags":
            after = list(dict.fromkeys([*before, *named]))
        else:
            after = [tag for tag in before if tag not in set(named)]
        self.now[TAGS] = list[Any](after)
        return set(before) != set(after)

    def net(self) -> tuple[FieldValue, ...]:
        """Return the actions of one command: changed fields, then changed tags, then actions that are passed on."""
        actions = [
            FieldValue(field, self.now.get(field))
            for field in self._set_order
            if not same(self.row.get(field), self.now.get(field))
        ]
        before, after = set(normal.words(self.row.get(TAGS))), set(normal.words(self.now.get(TAGS)))
        if before != after:
            if self._tags_replaced:
                actions.append(FieldValue("set_tags", sorted(after)))
            else:
                if added := sorted(after - before):
                    actions.append(FieldValue("add_tags", added))
                if removed := sorted(before - after):
                    actions.append(FieldValue("remove_tags", removed))
        actions.extend(self._passed_on)
        return tuple(actions)

    def expected(self, actions: tuple[FieldValue, ...]) -> dict[str, Value]:
        """Return the row's values that a safe update downstream compares before it writes `actions`.

        The ticket's `updated_at` always belongs to them; the caller adds it.
        """
        expected: dict[str, Value] = {}
        for action in actions:
            if action.field == "set_tags":
                expected[TAGS] = sorted(normal.words(self.row.get(TAGS)))
            elif action.field not in TAG_ACTIONS and not is_passed_on(action.field):
                expected[action.field] = self.row.get(action.field)
        return expected
