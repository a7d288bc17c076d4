"""Reads nodes as the expected types, and reports a finding where a node has another type."""

from __future__ import annotations

import re
from collections.abc import Iterable

from streams.core.model import Micros
from streams.documents import durations
from streams.documents.problems import Findings, Place, did_you_mean, listed, nearest
from streams.documents.yaml_nodes import ListNode, MapNode, Node, ScalarNode, kind, resolve


class Members:
    """A mapping whose keys have been checked; gives access to members by name."""

    def __init__(self, node: MapNode, members: dict[str, tuple[ScalarNode, Node]], misspelt: set[str]) -> None:
        """Store the known members, and the known keys that misspelt keys probably meant."""
        self.place: Place = node
        self.has_unknown = not members.keys() >= node.entries.keys()
        self._members = members
        self._misspelt = misspelt

    def __contains__(self, key: str) -> bool:
        """Whether the key is present, whatever its value."""
        return key in self._members

    def get(self, key: str) -> Node | None:
        """Return a member's value node; None when the key is missing."""
        member = self._members.get(key)
        return member[1] if member else None

    def place_of(self, key: str) -> Place:
        """Return the position of the key; the start of the mapping when the key is missing."""
        member = self._members.get(key)
        return member[0] if member else self.place

    def is_missing(self, key: str) -> bool:
        """Whether a key is missing and not merely misspelt (which has already been reported)."""
        return key not in self._members and key not in self._misspelt


class Shape:
    """Typed access to nodes; every mismatch becomes a finding and is read as None."""

    def __init__(self, findings: Findings) -> None:
        """Report problems to `findings`."""
        self.findings = findings

    def members(
        self, node: Node, known: Iterable[str], what: str, hints: dict[str, str] | None = None
    ) -> Members | None:
        """Return the members of a mapping; an unknown key is reported, and read as the nearest known key if any."""
        if not isinstance(node, MapNode):
            known = list(known)
            self.findings.add(node, "wrong_type", f"{what} is a mapping with {listed(known)}, and this is {kind(node)}")
            return None
        known = tuple(known)
        members: dict[str, tuple[ScalarNode, Node]] = {}
        misspelt: set[str] = set()
        for key, entry in node.entries.items():
            if key in known:
                members[key] = entry
                continue
            hint = (hints or {}).get(key.lower())
            meant = None if hint else nearest(key.lower().replace("-", "_"), known)
            misspelt.update([meant] if meant else _NAMED.findall(hint or ""))
            if meant and meant not in node.entries:
                members.setdefault(meant, entry)  # problems inside it are reported along with the name
            advice = f"; {hint}" if hint else did_you_mean(key.lower().replace("-", "_"), known)
            self.findings.add(
                entry[0], "unknown_key", f"{what} has no key `{key[:60]}`{advice or f'; its keys are {listed(known)}'}"
            )
        return Members(node, members, misspelt)

    def items(self, node: Node | None, what: str) -> list[Node] | None:
        """Return the items of a list; a missing list (also `key:` with nothing after it) is empty."""
        if node is None or (isinstance(node, ScalarNode) and node.value is None):
            return []
        if isinstance(node, ListNode):
            return node.items
        self.findings.add(node, "wrong_type", f"{what} is a list, and this is {kind(node)}: begin each entry with `- `")
        return None

    def scalars(self, node: Node, wanted: str) -> list[ScalarNode] | None:
        """Return a scalar, or the scalars of a list; None when there is anything else, which is reported."""
        items = node.items if isinstance(node, ListNode) else [node]
        scalars = [item for item in items if isinstance(item, ScalarNode)]
        if len(scalars) == len(items):
            return scalars
        wrong = next(item for item in items if not isinstance(item, ScalarNode))
        where = "" if wrong is node else " in the list"
        self.findings.add(wrong, "wrong_type", f"{wanted}, and this is {kind(wrong)}{where}")
        return None

    def text(self, node: Node, what: str) -> str | None:
        """Return a text; whole numbers are read as text, as written."""
        if isinstance(node, ScalarNode) and node.value is not None:
            if isinstance(node.value, str) or (isinstance(node.value, int) and not isinstance(node.value, bool)):
                if node.text.strip():
                    return node.text
                self.findings.add(node, "empty_value", f"{what} is empty")
                return None
            self.findings.add(node, "wrong_type", f"{what} is a text, and this is {kind(node)}: put it in quotes")
            return None
        self.findings.add(node, "wrong_type", f"{what} is a text, and this is {kind(node)}")
        return None

    def boolean(self, node: Node, what: str) -> bool | None:
        """Return true or false."""
        if isinstance(node, ScalarNode) and isinstance(node.value, bool):
            return node.value
        meant = _BOOLEANS.get(node.text.lower()) if isinstance(node, ScalarNode) else None
        advice = f"; write `{meant}`, without quotes" if meant else ""
        self.findings.add(node, "wrong_type", f"{what} is `true` or `false`, and this is {_shown(node)}{advice}")
        return None

    def number(self, node: Node, what: str) -> float | None:
        """Return a number."""
        if isinstance(node, ScalarNode) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return node.value
        quoted = (
            isinstance(node, ScalarNode) and isinstance(node.value, str) and not isinstance(resolve(node.text), str)
        )
        advice = "; leave the quotes out" if quoted else ""
        self.findings.add(node, "wrong_type", f"{what} is a number, and this is {_shown(node)}{advice}")
        return None

    def duration(self, node: Node, what: str) -> Micros | None:
        """Return a duration in microseconds."""
        if not isinstance(node, ScalarNode) or node.value is None or node.text == "":
            this = "nothing" if isinstance(node, ScalarNode) else kind(node)
            self.findings.add(
                node, "bad_duration", f"{what} is a duration such as {durations.FORMS}, and this is {this}"
            )
            return None
        try:
            return durations.parse(node.text)
        except durations.BadDuration as error:
            self.findings.add(node, "bad_duration", f"{what}: {error}")
            return None


_NAMED = re.compile(r"^write `(\w+)`")
"""Matches the key that a hint suggests."""

_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "y", "1"), "true"),
    **dict.fromkeys(("false", "no", "off", "n", "0"), "false"),
}


def _shown(node: Node) -> str:
    """Return the kind of a node, with the text of a scalar."""
    if isinstance(node, ScalarNode) and node.value is not None:
        return f"{kind(node)}: `{node.text[:40]}`"
    return kind(node)
