"""The `holdout` of a trigger file: the share of the tickets that get no command (SPEC section 10)."""

from __future__ import annotations

import re

from streams.core.triggers import PPM, Holdout
from streams.documents.shape import Shape
from streams.documents.yaml_nodes import MapNode, Node, ScalarNode, kind

KEYS = ("share", "salt")
PATTERN = r"(?:100(?:\.0{1,4})?|[0-9]{1,2}(?:\.[0-9]{1,4})?)\s*%"
"""The form of a share as a regular expression: 0% to 100%, with up to four decimals."""

_HINTS = {
    "percent": "write `share`",
    "percentage": "write `share`",
    "rate": "write `share`",
    "size": "write `share`",
    "seed": "write `salt`",
    "name": "write `salt`",
}
_SHARE = re.compile(PATTERN)
_PERCENT = re.compile(r"[0-9]+(?:\.[0-9]+)?\s*%")
_PPM_OF_PERCENT = PPM // 100


def read_holdout(node: Node, shape: Shape) -> Holdout | None:
    """Return the holdout that a node describes; None when it has errors, which are added to the findings."""
    members = shape.members(node, KEYS, "`holdout`", _HINTS)
    if members is None:
        return None
    share = salt = None
    for key in KEYS:
        if members.is_missing(key):
            shape.findings.add(node, "missing_key", f"`holdout` lacks its `{key}`, as in {_EXAMPLE}")
    share_node, salt_node = members.get("share"), members.get("salt")
    if share_node is not None:
        share = _share(share_node, shape)
    if salt_node is not None:
        salt = shape.text(salt_node, "`salt`")
    return None if share is None or salt is None else Holdout(share, salt)


def _share(node: Node, shape: Shape) -> int | None:
    """Return a share in parts per million."""
    text = node.text.strip() if isinstance(node, ScalarNode) else ""
    if _SHARE.fullmatch(text):
        whole, _, decimals = text.rstrip("% ").partition(".")
        ppm = int(whole) * _PPM_OF_PERCENT + int(decimals.ljust(4, "0"))
        if ppm == 0:
            message = "a share of 0% holds out no ticket; leave `holdout` out if nothing is to be held out"
            shape.findings.add(node, "holds_out_nothing", message)
        elif ppm == PPM:
            message = "a share of 100% holds out every ticket, so that no command is written"
            shape.findings.add(node, "holds_out_everything", message)
        return ppm
    if _PERCENT.fullmatch(text):
        message = f"`share` is at most `100%`, with at most four decimals, and this is `{text[:40]}`"
    else:
        nothing = isinstance(node, MapNode) or not text
        this = kind(node) if nothing or not isinstance(node, ScalarNode) else f"`{text[:40]}`"
        message = f"`share` is a percentage such as `5%`, and this is {this}{_advice(node)}"
    shape.findings.add(node, "bad_share", message)
    return None


def _advice(node: Node) -> str:
    """Return what a number without a percent sign probably means."""
    if not isinstance(node, ScalarNode) or isinstance(node.value, bool) or not isinstance(node.value, int | float):
        return ""
    if 0 < node.value < 1:
        return f"; `{node.value * 100:g}%` is meant, if this is a fraction"
    return "; put a percent sign behind it" if 1 <= node.value <= 100 else ""


_EXAMPLE = '`holdout: {share: 5%, salt: "2026-q4"}`'
