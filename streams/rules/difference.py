"""What differs between two rulesets: triggers added, removed and changed, and settings at the head of the file."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.core.triggers import Ruleset, Trigger


class ChangedTrigger(msgspec.Struct, frozen=True):
    """A trigger that both have; `members` are the names of what differs."""

    id: str
    members: tuple[str, ...]


class RulesDifference(msgspec.Struct, frozen=True):
    """What the second ruleset has that the first has not, and the other way round."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[ChangedTrigger, ...]
    head: tuple[str, ...]
    """Settings at the head of the file that differ, such as `cycle`."""


def rules_difference(before: Ruleset, after: Ruleset) -> RulesDifference:
    """Compare by trigger id. The order of triggers counts where their positions are equal: then it is `order`."""
    old = {trigger.id: trigger for trigger in before.triggers}
    new = {trigger.id: trigger for trigger in after.triggers}
    common = [id for id in old if id in new]
    head = [name for name in _HEAD if getattr(before, name) != getattr(after, name)]
    if common != [id for id in new if id in old]:
        head.append("order")
    return RulesDifference(
        added=tuple(id for id in new if id not in old),
        removed=tuple(id for id in old if id not in new),
        changed=tuple(ChangedTrigger(id, members) for id in common if (members := _members(old[id], new[id]))),
        head=tuple(head),
    )


_HEAD = tuple(name for name in Ruleset.__struct_fields__ if name not in ("triggers", "digest"))


def _members(before: Trigger, after: Trigger) -> tuple[str, ...]:
    names: tuple[Any, ...] = Trigger.__struct_fields__
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))
