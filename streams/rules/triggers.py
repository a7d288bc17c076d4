"""Trigger files: read, fully checked, and turned into a `Ruleset` (SPEC section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

from streams.core.triggers import Action, Condition, Cycle, Holdout, Limit, Ruleset, Trigger
from streams.documents.problems import Findings, Place, Problem, did_you_mean
from streams.documents.reading import read_stream, read_text
from streams.documents.shape import Members, Shape
from streams.documents.yaml_nodes import At, ListNode, MapNode, Node, ScalarNode, compose, cyclic_collector_paused, kind
from streams.rules.actions import ActionReader
from streams.rules.allowed import without_allowed
from streams.rules.conditions import ConditionReader
from streams.rules.digest import ruleset_digest
from streams.rules.holdout import read_holdout
from streams.rules.inline_tests import InlineTest, read_tests
from streams.rules.limit import read_limit
from streams.rules.lints.advice import advise

Part = TypeVar("Part")

CYCLES: tuple[Cycle, ...] = ("restart", "single_pass")
FILE_KEYS = ("cycle", "holdout", "limit", "triggers", "tests")
TRIGGER_KEYS = ("id", "title", "active", "position", "category", "wait", "limit", "conditions", "actions", "zendesk")
"""`zendesk` holds what `lapse import` keeps for `lapse export`: it is not read here, and is not part of the ruleset."""

CATEGORY_KEYS = ("position", "name")
CONDITIONS_KEYS = ("all", "any")

_TRIGGER_HINTS = {
    "all": "`all` stands under `conditions`",
    "any": "`any` stands under `conditions`",
    "name": "the name of a trigger stands under `title`",
    "enabled": "write `active`",
    "order": "write `position`",
    "delay": "write `wait`",
    "after": "write `wait`",
    "when": "write `conditions`",
    "if": "write `conditions`",
    "then": "write `actions`",
    "tags": "tags are written by an action, as in `{field: add_tags, value: abandoned}`",
    "rate": "write `limit`",
    "throttle": "write `limit`",
    "max": "write `limit: {count: ..., per: ...}`",
    "description": "write a comment (`# ...`) instead",
    "category_id": "write `category: {position: ..., name: ...}`",
}
_SIDE_HINTS = {
    "and": "write `all`",
    "or": "write `any`",
    "not": "ask the contrary by `is_not`, `not_includes`, `not_present`",
    "none": "ask the contrary by `is_not`, `not_includes`, `not_present`",
}
_EXPORT_KEYS = frozenset({"count", "next_page", "previous_page", "meta", "links", "trigger"})
_EXPORTED_KEYS = frozenset({"url", "raw_title", "default", "category_id", "created_at", "updated_at"})
"""Keys that a trigger has in Zendesk's responses but never in a trigger file."""


ConditionPlaces: TypeAlias = tuple[tuple[At, ...], tuple[At, ...]]
"""The positions of the `all` and the `any` conditions of a trigger."""


@dataclass(frozen=True, slots=True)
class TriggerFile:
    """The content of a trigger file, and its problems."""

    file: str
    ruleset: Ruleset | None
    """None when there is any error."""
    problems: list[Problem] = field(default_factory=list)
    """Errors and warnings, in the order of their position in the file."""
    tests: list[InlineTest] = field(default_factory=list)
    places: dict[str, At] = field(default_factory=dict)
    """The start position of each trigger, by its id."""
    condition_places: dict[str, ConditionPlaces] = field(default_factory=dict)
    """The positions of its conditions, by the trigger's id, in the order of `Trigger.all` and `Trigger.any`."""

    @property
    def errors(self) -> list[Problem]:
        """The problems that prevent the file from being used."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        """The problems that do not."""
        return [problem for problem in self.problems if problem.severity == "warning"]


def load_triggers(path: Path | str) -> TriggerFile:
    """Read a trigger file. Never raises for a bad or missing file: see `TriggerFile.problems`."""
    findings = Findings(str(path))
    text = read_text(Path(path), findings)
    if text is None:
        return TriggerFile(str(path), None, findings.sorted())
    return parse_triggers(text, str(path))


def read_triggers(stream: BinaryIO, file: str) -> TriggerFile:
    """Read a trigger file from a stream, in the same way as `load_triggers` reads a file."""
    findings = Findings(file)
    text = read_stream(stream, findings)
    return TriggerFile(file, None, findings.sorted()) if text is None else parse_triggers(text, file)


def parse_triggers(text: str, file: str = "<text>") -> TriggerFile:
    """Read the text of a trigger file; `file` is the file name that problems report."""
    with cyclic_collector_paused():
        return _parse(text, Findings(file))


def _parse(text: str, findings: Findings) -> TriggerFile:
    file = findings.file
    root = compose(text, findings)
    if root is None or _is_nothing(root):
        if not findings.sorted():
            findings.add(At(1, 1), "empty", "the file is empty; it needs a list `triggers`")
        return TriggerFile(file, None, findings.sorted())
    if isinstance(root, MapNode) and _is_export(root):
        message = "this is Zendesk's own export; turn it into a trigger file with `lapse import`"
        findings.add(root, "zendesk_export", message)
        return TriggerFile(file, None, findings.sorted())
    if isinstance(root, ListNode):
        message = "a trigger file is a mapping, and this is a list: write `triggers:` above it"
        findings.add(root, "wrong_type", message)
        return TriggerFile(file, None, findings.sorted())
    read = _Reader(findings).read(root)
    return replace(read, problems=without_allowed(text, read.problems, findings))


def _is_export(root: MapNode) -> bool:
    """Whether a file is a response of Zendesk's API, complete or only its list of triggers."""
    if _EXPORT_KEYS & root.entries.keys():
        return True
    triggers = root.entries["triggers"][1] if "triggers" in root.entries else None
    first = triggers.items[0] if isinstance(triggers, ListNode) and triggers.items else None
    return isinstance(first, MapNode) and len(_EXPORTED_KEYS & first.entries.keys()) >= 3


class _Reader:
    """Reads the tree of one file."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._shape = Shape(findings)
        self._conditions = ConditionReader(self._shape)
        self._actions = ActionReader(self._shape)
        self._condition_places: dict[str, ConditionPlaces] = {}
        self._doubtful: set[str] = set()
        """Ids of triggers that could only be read in part."""

    def read(self, root: Node) -> TriggerFile:
        file = self._findings.file
        members = self._shape.members(root, FILE_KEYS, "a trigger file")
        if members is None:
            return TriggerFile(file, None, self._findings.sorted())
        cycle = self._cycle(members.get("cycle"))
        holdout = self._holdout(members.get("holdout"))
        limit = self._limit(members.get("limit"))
        errors_outside = self._findings.errors
        if members.is_missing("triggers"):
            self._findings.add(root, "missing_key", "the file lacks its list `triggers`")
        places: dict[str, At] = {}
        triggers: list[Trigger] = []
        nodes = self._shape.items(members.get("triggers"), "`triggers`") or ()
        for position, node in enumerate(nodes, 1):
            errors = self._findings.errors
            trigger = self._trigger(node, position, places)
            if trigger is not None:
                triggers.append(trigger)
                if self._findings.errors > errors:
                    self._doubtful.add(trigger.id)
        tests = read_tests(members.get("tests"), self._shape, set(places))
        if "triggers" in members:
            understood = [trigger for trigger in triggers if trigger.id not in self._doubtful]
            whole = not errors_outside and len(understood) == len(nodes)
            advise(understood, cycle, places, members.place_of("triggers"), self._findings, whole=whole)
        problems = self._findings.sorted()
        ruleset = None
        if all(problem.severity == "warning" for problem in problems):
            digest = ruleset_digest(triggers, cycle, holdout, limit)
            ruleset = Ruleset(tuple(triggers), cycle, digest, holdout, limit)
        return TriggerFile(file, ruleset, problems, tests, places, self._condition_places)

    def _cycle(self, node: Node | None) -> Cycle:
        if node is None:
            return "restart"
        for cycle in CYCLES:
            if isinstance(node, ScalarNode) and node.value == cycle:
                return cycle
        shown = f"`{node.text[:40]}`" if isinstance(node, ScalarNode) else kind(node)
        advice = did_you_mean(node.text, CYCLES) if isinstance(node, ScalarNode) else ""
        self._findings.add(node, "bad_cycle", f"`cycle` is `restart` or `single_pass`, and this is {shown}{advice}")
        return "restart"

    def _holdout(self, node: Node | None) -> Holdout | None:
        return None if node is None else read_holdout(node, self._shape)

    def _limit(self, node: Node | None) -> Limit | None:
        return None if node is None else read_limit(node, self._shape)

    def _trigger(self, node: Node, position: int, places: dict[str, At]) -> Trigger | None:
        """Return one trigger; None when it has no usable id. All other problems are added to the findings."""
        members = self._shape.members(node, TRIGGER_KEYS, "a trigger", _TRIGGER_HINTS)
        if members is None:
            return None
        trigger_id = self._id(node, members, places)
        every, some = self._both(members, trigger_id)
        actions = self._all_actions(members, trigger_id)
        title = self._title(members.get("title"))
        active = _optional(members, "active", self._shape.boolean)
        given_position = _optional(members, "position", self._shape.number)
        wait = _optional(members, "wait", self._shape.duration)
        limit = self._limit(members.get("limit"))
        category_position = self._category(members.get("category"))
        if trigger_id is None:
            return None
        return Trigger(
            id=trigger_id,
            title=trigger_id if title is None else title,
            active=True if active is None else active,
            position=position if given_position is None else given_position,
            category_position=0 if category_position is None else category_position,
            wait=0 if wait is None else wait,
            actions=actions,
            limit=limit,
            all=every,
            any=some,
        )

    def _id(self, node: Node, members: Members, places: dict[str, At]) -> str | None:
        id_node = members.get("id")
        if id_node is None:
            if members.is_missing("id"):
                self._findings.add(node, "missing_key", "this trigger lacks its `id`")
            return None
        trigger_id = self._shape.text(id_node, "`id`")
        if trigger_id is None:
            return None
        if trigger_id in places:
            message = f"the trigger on line {places[trigger_id].line} has the id `{trigger_id[:60]}` already"
            self._findings.add(id_node, "duplicate_id", message)
            return None
        places[trigger_id] = At(node.line, node.column)
        return trigger_id

    def _title(self, node: Node | None) -> str | None:
        if node is None or _is_nothing(node):
            return None
        return self._shape.text(node, "`title`")

    def _category(self, node: Node | None) -> float | None:
        if node is None or _is_nothing(node):
            return None
        members = self._shape.members(node, CATEGORY_KEYS, "`category`")
        if members is None:
            return None
        name = members.get("name")
        if name is not None:
            self._shape.text(name, "the category's `name`")
        position = members.get("position")
        if position is None:
            if members.is_missing("position"):
                self._findings.add(node, "missing_key", "this category lacks its `position`, which sorts it")
            return None
        return self._shape.number(position, "the category's `position`")

    def _both(self, members: Members, trigger_id: str | None) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
        """Return the `all` and the `any` conditions."""
        conditions = members.get("conditions")
        if conditions is None or _is_nothing(conditions):
            if conditions is not None or members.is_missing("conditions"):
                self._no_condition(members.place_of("conditions"), trigger_id)
            return (), ()
        if isinstance(conditions, ListNode):
            message = "`conditions` is a mapping with `all`, `any`, and this is a list: write `all:` above it"
            self._findings.add(conditions, "wrong_type", message)
            return (), ()
        sides = self._shape.members(conditions, CONDITIONS_KEYS, "`conditions`", _SIDE_HINTS)
        if sides is None:
            return (), ()
        every = self._shape.items(sides.get("all"), "`all`")
        some = self._shape.items(sides.get("any"), "`any`")
        if every == [] and some == [] and not sides.has_unknown:
            self._no_condition(members.place_of("conditions"), trigger_id)
        (all_of, all_places), (any_of, any_places) = self._side(every), self._side(some)
        if trigger_id is not None:
            self._condition_places[trigger_id] = all_places, any_places
        return all_of, any_of

    def _side(self, nodes: list[Node] | None) -> tuple[tuple[Condition, ...], tuple[At, ...]]:
        """Return the conditions of a list that could be read, and their positions."""
        found = [
            (condition, At(node.line, node.column))
            for node in nodes or ()
            if (condition := self._conditions.read(node))
        ]
        return tuple(condition for condition, _ in found), tuple(place for _, place in found)

    def _no_condition(self, place: Place, trigger_id: str | None) -> None:
        message = f"{_whose(trigger_id)} has no condition and would fire on every lapse; say when it may"
        self._findings.add(place, "no_condition", message)

    def _all_actions(self, members: Members, trigger_id: str | None) -> tuple[Action, ...]:
        actions = members.get("actions")
        if actions is None and not members.is_missing("actions"):
            return ()
        nodes = self._shape.items(actions, "`actions`")
        if nodes == []:
            message = f"{_whose(trigger_id)} does nothing; say what it does, under `actions`"
            self._findings.add(members.place_of("actions"), "no_action", message)
        return self._actions.read_all(nodes or ())


def _is_nothing(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value is None


def _optional(members: Members, key: str, read: Callable[[Node, str], Part | None]) -> Part | None:
    node = members.get(key)
    return None if node is None else read(node, f"`{key}`")


def _whose(trigger_id: str | None) -> str:
    return f"the trigger `{trigger_id[:60]}`" if trigger_id else "this trigger"
