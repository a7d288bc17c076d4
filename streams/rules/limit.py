"""The `limit` of a trigger, or of every trigger of a file that has none (SPEC section 10, *Rate guard*)."""

from __future__ import annotations

from streams.core.triggers import HIGHEST_COUNT, Limit
from streams.documents.shape import Shape
from streams.documents.yaml_nodes import Node, ScalarNode, kind

KEYS = ("count", "per")

_HINTS = {
    "max": "write `count`",
    "number": "write `count`",
    "rate": "write `count`",
    "window": "write `per`",
    "within": "write `per`",
    "every": "write `per`",
    "period": "write `per`",
}


def read_limit(node: Node, shape: Shape) -> Limit | None:
    """Return the limit that a node describes; None when it has errors, which are added to the findings."""
    members = shape.members(node, KEYS, "`limit`", _HINTS)
    if members is None:
        return None
    for key in KEYS:
        if members.is_missing(key):
            shape.findings.add(node, "missing_key", f"`limit` lacks its `{key}`, as in {_EXAMPLE}")
    count_node, per_node = members.get("count"), members.get("per")
    count = None if count_node is None else _count(count_node, shape)
    per = None if per_node is None else shape.duration(per_node, "`per`")
    if per == 0 and per_node is not None:
        shape.findings.add(per_node, "bad_limit", f"`per` is longer than nothing, as in {_EXAMPLE}")
        return None
    return None if count is None or per is None else Limit(count, per)


def _count(node: Node, shape: Shape) -> int | None:
    value = node.value if isinstance(node, ScalarNode) else None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= HIGHEST_COUNT:
        return value
    this = f"`{node.text[:40]}`" if isinstance(node, ScalarNode) and node.text else kind(node)
    advice = "; to stop a trigger, write `active: false`" if value == 0 and not isinstance(value, bool) else ""
    message = f"`count` is a whole number from 1 to {HIGHEST_COUNT}, and this is {this}{advice}"
    shape.findings.add(node, "bad_limit", message)
    return None


_EXAMPLE = "`limit: {count: 200, per: 10m}`"
