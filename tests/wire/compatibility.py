"""What may change between two versions of a schema without anybody noticing.

Inputs: whatever could be written must still be taken. Outputs: whatever is written must still be understood by a reader
of the old version, who ignores members that it does not know and takes unknown words for *other*.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

Schema = dict[str, Any]
Direction = Literal["in", "out"]

_NARROWING = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "format", "const")


def breaks(old: Schema, new: Schema, direction: Direction) -> list[str]:
    """Return what a writer (of inputs) or a reader (of outputs) of the old version would trip over."""
    return list(_breaks(_Place(old, old), _Place(new, new), direction, "$"))


class _Place:
    """A part of a schema, with the whole that its references point into."""

    def __init__(self, whole: Schema, part: Schema) -> None:
        self.whole = whole
        while (reference := part.get("$ref")) is not None:
            name = reference.removeprefix("#/$defs/")
            part = {**whole["$defs"][name], **{key: value for key, value in part.items() if key != "$ref"}}
        self.part = part

    def inside(self, part: Schema) -> _Place:
        return _Place(self.whole, part)

    def types(self) -> set[str]:
        """The JSON types that it allows; empty when it allows all."""
        part = self.part
        if "anyOf" in part:
            kinds = [self.inside(option).types() for option in part["anyOf"]]
            return set().union(*kinds) if all(kinds) else set()
        if "enum" in part or "const" in part:
            values = part.get("enum", [part.get("const")])
            return {"null" if value is None else type(value).__name__.replace("str", "string") for value in values}
        found = part.get("type", [])
        return {found} if isinstance(found, str) else set(found)


def _breaks(old: _Place, new: _Place, direction: Direction, path: str) -> Iterator[str]:
    before, after = old.types(), new.types()
    if direction == "in" and after and not (before and before <= after | ({"integer"} if "number" in after else set())):
        yield f"{path}: took {sorted(before) or 'anything'}, takes {sorted(after)}"
    if direction == "out" and before and not (after and after <= before):
        yield f"{path}: was {sorted(before)}, is {sorted(after) or 'anything'}"
    if direction == "in":
        if lost := [word for word in old.part.get("enum", ()) if word not in new.part.get("enum", [word])]:
            yield f"{path}: took {lost}"
        if "enum" in new.part and "enum" not in old.part:
            yield f"{path}: took any word"
        for rule in _NARROWING:
            if rule in new.part and new.part[rule] != old.part.get(rule):
                yield f"{path}: {rule} was {old.part.get(rule)}, is {new.part[rule]}"
    else:
        for rule in _NARROWING:
            if rule in old.part and new.part.get(rule) != old.part[rule]:
                yield f"{path}: {rule} was {old.part[rule]}, is {new.part.get(rule)}"
    required = set(old.part.get("required", ())), set(new.part.get("required", ()))
    if direction == "in" and (more := required[1] - required[0]):
        yield f"{path}: requires {sorted(more)} too"
    if direction == "out" and (fewer := required[0] - required[1]):
        yield f"{path}: {sorted(fewer)} may be absent now"
    for name, part in old.part.get("properties", {}).items():
        if name in new.part.get("properties", {}):
            inside = new.inside(new.part["properties"][name])
            yield from _breaks(old.inside(part), inside, direction, f"{path}.{name}")
        else:
            yield f"{path}.{name}: is gone"
    if isinstance(old.part.get("items"), dict) and isinstance(new.part.get("items"), dict):
        yield from _breaks(old.inside(old.part["items"]), new.inside(new.part["items"]), direction, f"{path}[]")
