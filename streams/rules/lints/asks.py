"""What a trigger asks and does, in a form that allows comparing two triggers: does one ask less than the other?

Every positive answer here holds for every ticket and every lapse. In cases that can't be decided, the answer is the
safe one: `implies`, `keeps` and `breaks` all return False.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from streams.core import normal
from streams.core.actions import TAGS, is_passed_on
from streams.core.names import STATE_FIELD, UPDATE_FIELD
from streams.core.triggers import ORDERING, TAG_ACTIONS, Action, Condition, Operator, Trigger
from streams.rules.lints.demands import ANYTHING, Demand, Text, demand_now, text_of, values_of
from streams.rules.reference import condition_field

Key: TypeAlias = tuple[str, Operator, frozenset[Text]]
"""A condition, independent of the order of its values."""

_EXACT = frozenset({Operator.IS, Operator.IS_NOT, Operator.PRESENT, Operator.NOT_PRESENT})
_BEFORE_NO_LAPSE = frozenset({"inactive", "ended"})


def read_field(condition: Condition) -> str:
    """Return the field a condition looks at; tags go by the name that actions on them write."""
    return TAGS if condition.field in normal.TAG_FIELDS else condition.field


def always_holds(condition: Condition) -> bool:
    """Whether a condition holds in every round. A round begins when a session becomes inactive."""
    operator, values = condition.operator, values_of(condition)
    if condition.field == STATE_FIELD:
        if operator in (Operator.CHANGED, Operator.PRESENT):
            return True
        if operator in (Operator.IS, Operator.VALUE):
            return "inactive" in values
        if operator in (Operator.IS_NOT, Operator.NOT_VALUE):
            return "inactive" not in values
        return operator is Operator.NOT_VALUE_PREVIOUS and values <= _BEFORE_NO_LAPSE
    if condition.field == UPDATE_FIELD:
        if operator is Operator.IS:
            return "change" in values
        return operator is Operator.PRESENT or (operator is Operator.IS_NOT and "change" not in values)
    return False


class Asks:
    """The conditions of one trigger."""

    __slots__ = ("_vague", "exact", "fields", "necessary", "others", "some")

    def __init__(self, trigger: Trigger) -> None:
        """Sort the conditions of `trigger`; a single `any` condition is equivalent to an `all` condition."""
        every = [*trigger.all, *trigger.any] if len(trigger.any) == 1 else list(trigger.all)
        some = trigger.any if len(trigger.any) > 1 else ()
        if any(always_holds(condition) for condition in some):
            some = ()
        self.fields = frozenset(read_field(condition) for condition in (*every, *some))
        self.necessary: dict[str, Demand] = {}
        """By field, the demand on its current value. The conditions may ask more."""
        self.exact: dict[str, Demand] = {}
        """By field, the demand of the conditions that a demand describes completely."""
        others: set[Key] = set()
        for condition in every:
            if always_holds(condition):
                continue
            field, demand = read_field(condition), demand_now(condition)
            known = self.necessary.get(field)
            self.necessary[field] = demand if known is None else known & demand
            if _is_exact(condition):
                known = self.exact.get(field)
                self.exact[field] = demand if known is None else known & demand
            else:
                others.add(_key(condition))
        self.others = frozenset(others)
        self.some = frozenset(map(_key, some))
        self._vague = {field for field, *_ in (*self.others, *self.some)}

    def implies(self, weaker: Asks) -> bool:
        """Whether `weaker` holds wherever this holds."""
        return (
            all(_covers(demand, self.necessary.get(field, ANYTHING)) for field, demand in weaker.exact.items())
            and all(self._has(key) for key in weaker.others)
            and (not weaker.some or (bool(self.some) and self.some <= weaker.some) or any(map(self._has, weaker.some)))
        )

    def same(self, other: Asks) -> bool:
        """Whether both ask the same."""
        return self.exact == other.exact and self.others == other.others and self.some == other.some

    def keeps(self, field: str, value: Any) -> bool:
        """Whether conditions that hold still hold after `value` is written to `field`."""
        return field not in self.fields or (field not in self._vague and admits(self.exact.get(field), value))

    def breaks(self, field: str, value: Any) -> bool:
        """Whether the conditions can't hold while `field` has the value `value`."""
        return field in self.necessary and not admits(self.necessary[field], value)

    def _has(self, key: Key) -> bool:
        """Whether one condition holds wherever this holds."""
        if key in self.others:
            return True
        field, operator, values = key
        mine = [others for name, op, others in self.others if (name, op) == (field, operator)]
        if operator is Operator.INCLUDES:
            return any(others <= values for others in mine)
        if operator is Operator.NOT_INCLUDES:
            return values <= frozenset().union(*mine)
        if operator in _EXACT:
            demand = demand_now(Condition(field, operator, list(values)))
            return _covers(demand, self.necessary.get(field, ANYTHING))
        return False


class Does:
    """What the actions of one trigger write."""

    __slots__ = ("passes_on", "sets", "tags")

    def __init__(self, actions: Sequence[Action]) -> None:
        """Compute the result of all `actions` together."""
        self.sets: dict[str, Any] = {}
        self.tags: TagEffect | None = None
        self.passes_on = False
        for action in actions:
            if action.field in TAG_ACTIONS:
                self.tags = (self.tags or TagEffect()).then(action.field, normal.words(action.value))
            elif is_passed_on(action.field):
                self.passes_on = True
            else:
                self.sets[action.field] = action.value

    @property
    def writes(self) -> set[str]:
        """The fields written; all tag actions write `tags`."""
        return {*self.sets, TAGS} if self.tags else set(self.sets)


class TagEffect:
    """Which tags are present or absent after a trigger has fired; others stay, or are removed if `replaces`."""

    __slots__ = ("absent", "present", "replaces")

    def __init__(
        self, present: frozenset[str] = frozenset(), absent: frozenset[str] = frozenset(), *, replaces: bool = False
    ) -> None:
        """Start with the given effect."""
        self.present, self.absent, self.replaces = present, absent, replaces

    def then(self, kind: str, words: Sequence[str]) -> TagEffect:
        """Return the effect after one more action."""
        named = frozenset(words)
        if kind == "set_tags":
            return TagEffect(named, replaces=True)
        if kind == "add_tags":
            return TagEffect(self.present | named, self.absent - named, replaces=self.replaces)
        return TagEffect(self.present - named, self.absent | named, replaces=self.replaces)

    def undoes(self, other: TagEffect) -> bool:
        """Whether this may remove a tag that `other` added, or add a tag that `other` removed."""
        return (
            self.replaces
            or bool(self.present & other.absent)
            or bool(self.absent & other.present)
            or (other.replaces and bool(self.present - other.present))
        )

    def within(self, other: TagEffect) -> bool:
        """Whether this changes nothing after `other`."""
        if self.replaces:
            return other.replaces and self.present == other.present
        gone = not self.absent & other.present if other.replaces else self.absent <= other.absent
        return self.present <= other.present and gone

    def decided_by(self, other: TagEffect) -> bool:
        """Whether a later `other` completely replaces this effect."""
        touched = other.present | other.absent
        return other.replaces or (not self.replaces and self.present | self.absent <= touched)


def admits(demand: Demand | None, value: Any) -> bool:
    """Whether a written value satisfies a demand. A list is never one of the values in a demand."""
    if demand is None:
        return True
    if isinstance(value, list) and value:
        return demand.allowed is None
    return demand.admits(None if value == [] else text_of(value))


def _is_exact(condition: Condition) -> bool:
    order = condition_field(condition.field).order
    return condition.operator in _EXACT or (condition.operator in ORDERING and condition.value in order)


def _covers(weaker: Demand, stronger: Demand) -> bool:
    if stronger.allowed is not None:
        return all(weaker.admits(value) for value in stronger.allowed)
    return weaker.allowed is None and weaker.excluded <= stronger.excluded


def _key(condition: Condition) -> Key:
    return read_field(condition), condition.operator, values_of(condition)
