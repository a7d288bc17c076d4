"""YAML as a tree that records the position of every node: strict, bounded, without the surprises of YAML 1.1.

Only plain scalars that JSON would write the same way become numbers, `true`, `false` and null. Everything else remains
the text as written: `yes`, `on`, `2026-03-01`, `12:30`, `007`, `0x1F`, `1_000` and whole numbers too long for a
double. Anchors and aliases work, within bounds; tags and merge keys do not.
"""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from streams.documents.problems import Findings

MAX_DEPTH = 64
"""The same as in records (SPEC section 2)."""

MAX_ALIASED = 100_000
"""The total number of nodes all aliases of a file may expand to: far above normal use, far below an alias bomb."""

MAX_EXACT_INTEGER = 2**53 - 1
"""Beyond this a JSON number is not safe (RFC 7493); such a number is kept as the text that was written."""


@dataclass(slots=True)
class ScalarNode:
    """A scalar: `text` is the text as written, `value` is what it means."""

    line: int
    column: int
    text: str
    value: str | int | float | bool | None


@dataclass(slots=True)
class ListNode:
    """A sequence."""

    line: int
    column: int
    items: list[Node]


@dataclass(slots=True)
class MapNode:
    """A mapping whose keys are plain words without duplicates, each with the node of the key for its position."""

    line: int
    column: int
    entries: dict[str, tuple[ScalarNode, Node]]


Node: TypeAlias = ScalarNode | ListNode | MapNode


@dataclass(frozen=True, slots=True)
class At:
    """A place in a file; both numbers count from 1."""

    line: int
    column: int


def compose(text: str, findings: Findings) -> Node | None:
    """Return the tree of one YAML document, and add its problems to `findings`.

    None when the document can't be read, or when it is empty; an empty document is not reported.
    """
    composer = _Composer(findings)
    try:
        with cyclic_collector_paused():
            composer.read(text)
    except _GiveUp:
        return None
    except yaml.reader.ReaderError as error:
        findings.add(_place_of_byte(text, error.position), "yaml_syntax", _unreadable_character(error))
        return None
    except yaml.MarkedYAMLError as error:
        place = _place_of_syntax(text, error)
        findings.add(place, "yaml_syntax", _syntax_message(text, place, error))
        return None
    except UnicodeEncodeError as error:  # a lone surrogate: such a text can't come from a file
        findings.add(_place_of_character(text, error.start), "not_utf8", "half of a character (a lone surrogate)")
        return None
    return composer.root


def plain(node: Node) -> Any:
    """Return a node as plain values: scalars, lists, dicts with string keys."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, (_, value) in node.entries.items()}


def kind(node: Node) -> str:
    """Return the kind of a node for messages.

    >>> kind(ScalarNode(1, 1, "", None)), kind(ListNode(1, 1, [])), kind(ScalarNode(1, 1, "5", 5))
    ('nothing', 'a list', 'a number')
    """
    if isinstance(node, ListNode):
        return "a list"
    if isinstance(node, MapNode):
        return "a mapping"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "true or false"
    return "a text" if isinstance(node.value, str) else "a number"


# --- scalars ----------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,307})(\.[0-9]{1,400})?([eE][-+]?[0-9]{1,4})?", re.ASCII)
_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_DIGITS_FIRST = frozenset("-0123456789")


def resolve(text: str) -> str | int | float | bool | None:
    """Return the meaning of a plain scalar.

    >>> resolve("yes"), resolve("True"), resolve("36"), resolve("2026-03-01"), resolve("007"), resolve("~")
    ('yes', True, 36, '2026-03-01', '007', None)
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _DIGITS_FIRST:
        return text
    found = _NUMBER.fullmatch(text)
    if found is None:
        return text
    if found[1] is None and found[2] is None:
        whole = int(text)
        return whole if -MAX_EXACT_INTEGER <= whole <= MAX_EXACT_INTEGER and text != "-0" else text
    number = float(text)
    return number if math.isfinite(number) else text


# --- composing --------------------------------------------------------------------------------------------------------

_BOM = "\ufeff"
_SCALAR_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "null")}
_TEXT_TAGS = {"!", "tag:yaml.org,2002:str"}
_MAP_TAGS = {None, "!", "tag:yaml.org,2002:map"}
_LIST_TAGS = {None, "!", "tag:yaml.org,2002:seq"}
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser is 20 times as fast; a PyYAML built without it has only the slow one."""


@contextmanager
def cyclic_collector_paused() -> Iterator[None]:
    """Pause the garbage collector: repeated scans of the growing acyclic trees take a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _GiveUp(Exception):
    """The rest of the document can't be read; the findings say why."""


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not been reached, and what an alias to it would cost."""

    node: ListNode | MapNode
    anchor: str | None
    key: ScalarNode | None = None
    awaits_key: bool = True
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class _Anchored:
    node: Node
    size: int
    height: int


class _Composer:
    """Builds the tree from the parser's events, without recursion; depth and aliases are counted against limits."""

    def __init__(self, findings: Findings) -> None:
        self.root: Node | None = None
        self._findings = findings
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Anchored] = {}
        self._aliased = 0
        self._documents = 0

    def read(self, text: str) -> None:
        parser = _PARSER(text.removeprefix(_BOM))
        try:
            while (event := parser.get_event()) is not None:
                self._take(event)
        finally:
            parser.dispose()

    def _take(self, event: Any) -> None:
        event_type = type(event)
        if event_type is yaml.ScalarEvent:
            value: Any = event.value
            if event.tag is None:
                if event.implicit[0]:
                    value = resolve(event.value)
            elif event.tag in _SCALAR_TAGS:
                value = resolve(event.value)
            elif event.tag not in _TEXT_TAGS:
                self._unknown_tag(_at(event), event.tag)
            mark = event.start_mark
            node = ScalarNode(mark.line + 1, mark.column + 1, event.value, value)
            if event.anchor is not None:
                self._anchors[event.anchor] = _Anchored(node, 1, 1)
            self._put(node, 1, 1)
        elif event_type is yaml.MappingStartEvent or event_type is yaml.SequenceStartEvent:
            self._open(event)
        elif event_type is yaml.MappingEndEvent or event_type is yaml.SequenceEndEvent:
            self._close()
        elif event_type is yaml.AliasEvent:
            self._alias(event)
        elif event_type is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                self._findings.add(
                    _at(event), "several_documents", "a second document starts here (`---`); a file holds one"
                )
                raise _GiveUp

    def _open(self, event: Any) -> None:
        place = _at(event)
        if len(self._stack) >= MAX_DEPTH:
            self._findings.add(place, "too_deep", f"nested deeper than {MAX_DEPTH} levels")
            raise _GiveUp
        node: ListNode | MapNode
        if isinstance(event, yaml.MappingStartEvent):
            node, tags = MapNode(place.line, place.column, {}), _MAP_TAGS
        else:
            node, tags = ListNode(place.line, place.column, []), _LIST_TAGS
        if event.tag not in tags:
            self._unknown_tag(place, event.tag)
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
        self._stack.append(_Open(node, event.anchor))

    def _close(self) -> None:
        done = self._stack.pop()
        if done.anchor is not None:
            self._anchors[done.anchor] = _Anchored(done.node, done.size, done.height)
        self._put(done.node, done.size, done.height)

    def _alias(self, event: Any) -> None:
        place, name = _at(event), event.anchor
        if any(frame.anchor == name for frame in self._stack):
            self._findings.add(place, "recursive_alias", f"`*{name}` stands inside what `&{name}` names")
            raise _GiveUp
        target = self._anchors.get(name)
        if target is None:
            self._findings.add(place, "unknown_alias", f"no `&{name}` stands above this `*{name}`")
            self._put(ScalarNode(place.line, place.column, "", None), 1, 1)
            return
        self._aliased += target.size
        if self._aliased > MAX_ALIASED:
            message = f"the aliases of this file stand for more than {MAX_ALIASED} values; write them out or use fewer"
            self._findings.add(place, "too_many_aliases", message)
            raise _GiveUp
        if len(self._stack) + target.height > MAX_DEPTH:
            self._findings.add(place, "too_deep", f"with this alias, nested deeper than {MAX_DEPTH} levels")
            raise _GiveUp
        self._put(target.node, target.size, target.height)

    def _put(self, node: Node, size: int, height: int) -> None:
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        frame.size += size
        if height >= frame.height:
            frame.height = height + 1
        if isinstance(frame.node, ListNode):
            frame.node.items.append(node)
        elif frame.awaits_key:
            frame.awaits_key = False
            frame.key = self._key(frame.node, node)
        else:
            frame.awaits_key = True
            if frame.key is not None:
                frame.node.entries[frame.key.text] = (frame.key, node)

    def _key(self, mapping: MapNode, node: Node) -> ScalarNode | None:
        """Return a usable key; None means that its value is to be skipped."""
        if not isinstance(node, ScalarNode) or node.text == "":
            self._findings.add(node, "complex_key", f"a key must be a word, and this is {kind(node)}")
            return None
        if node.text == "<<":
            self._findings.add(node, "merge_key", "merge keys are not supported: share whole values by alias instead")
            return None
        if node.text in mapping.entries:
            first = mapping.entries[node.text][0]
            self._findings.add(node, "duplicate_key", f"`{node.text}` stands on line {first.line} already")
            return None
        return node

    def _unknown_tag(self, place: At, tag: str) -> None:
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        self._findings.add(place, "unknown_tag", f"the tag `{shown}` means nothing here; leave it out")


def _at(event: Any) -> At:
    return At(event.start_mark.line + 1, event.start_mark.column + 1)


# --- messages ---------------------------------------------------------------------------------------------------------


_NO_COLON = "could not find expected ':'"


def _place_of_byte(text: str, position: int) -> At:
    encoded = text.removeprefix(_BOM).encode("utf-8", "surrogatepass")
    return _place_of_character(text.removeprefix(_BOM), len(encoded[:position].decode("utf-8", "ignore")))


def _place_of_character(text: str, position: int) -> At:
    before = text[:position]
    return At(before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)


def _unreadable_character(error: yaml.reader.ReaderError) -> str:
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
    return f"the character U+{code:04X} may not stand in YAML: {error.reason}"


def _place_of_syntax(text: str, error: yaml.MarkedYAMLError) -> At:
    """Return the position to report: where the parser stopped, or the start of the construct that was not closed."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return At(1, 1)
    begun = error.context_mark
    if begun is not None and (_NO_COLON in (error.problem or "") or mark.line >= len(text.rstrip().splitlines())):
        mark = begun
    return At(mark.line + 1, mark.column + 1)


def _syntax_message(text: str, place: At, error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "can't be read as YAML"
    begun = error.context_mark.line + 1 if error.context_mark else place.line
    since = f" that begins on line {begun}" if begun != place.line else ""
    where = f" ({error.context}{since})" if error.context else ""
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    if line[: place.column].lstrip(" ").startswith("\t"):
        return f"a tab indents this line; YAML wants spaces: {problem}{where}"
    if "quoted scalar" in (error.context or ""):
        return f"{problem}{where}: is the closing quote missing?"
    if _NO_COLON in problem:
        return f"{problem}{where}: is the `:` missing behind a key, or is the line before it not finished?"
    if "mapping values are not allowed" in problem:
        return f"{problem}{where}: is a `:` inside a text that lacks quotes, or a line indented too far?"
    if "did not find expected" in problem:
        return f"{problem}{where}: is a bracket, quote or dash missing here or above, or is the indentation uneven?"
    return f"{problem}{where}"
