"""Writes a trigger file as a person would: one condition or action per line, texts quoted where necessary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from streams.core.escaping import has_control, one_line
from streams.documents.yaml_nodes import resolve

WIDTH = 10_000
"""Wide enough that no condition is broken into several lines."""


class _Line(dict[str, Any]):
    """A mapping that is written on a single line."""


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: lists indented, no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def write_double_quoted(self, text: str, split: bool = True) -> None:
        # The emitter escapes control characters, but not bidirectional ones when it may write Unicode.
        allowed, self.allow_unicode = self.allow_unicode, self.allow_unicode and not has_control(text)
        super().write_double_quoted(text, split)
        self.allow_unicode = allowed

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote text that our own reader, which follows YAML 1.2, would not read as text."""
    style = '"' if has_control(text) else None if isinstance(resolve(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(
    _Line, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)
)


def document(
    triggers: Iterable[dict[str, Any]], comments: Sequence[Sequence[str]] = (), head: Sequence[str] = ()
) -> str:
    """Return a trigger file; `comments` are the lines above each trigger, `head` the lines at the top of the file."""
    lines = [f"# {line}".rstrip() for line in head]
    lines.append("triggers:")
    for number, trigger in enumerate(triggers):
        about = comments[number] if number < len(comments) else ()
        if number and comments:
            lines.append("")
        lines.extend(f"  # {_one_line(line)}" for line in about)
        lines.extend(f"  {line}".rstrip() for line in _trigger(trigger).splitlines())
    if lines[-1] == "triggers:":
        lines[-1] = "triggers: []"
    return "\n".join(lines) + "\n"


def _trigger(trigger: dict[str, Any]) -> str:
    written = {**trigger}
    if "category" in written:
        written["category"] = _Line(written["category"])
    written["conditions"] = {side: [_Line(one) for one in listed] for side, listed in trigger["conditions"].items()}
    written["actions"] = [_Line(one) for one in trigger["actions"]]
    text: str = yaml.dump([written], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
    return text


def _one_line(text: str) -> str:
    """Return text that can be used in a comment, without line breaks of any kind, which would end it."""
    return one_line(" ".join(text.split()))
