"""Sources of settings: flags, environment, `lapse.yaml`. Each source gives text, with its origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from streams.documents.problems import Findings, did_you_mean, listed
from streams.documents.reading import read_text
from streams.documents.yaml_nodes import ListNode, MapNode, Node, ScalarNode, compose, kind

PREFIX = "LAPSE_"


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and its origin."""

    value: str | list[str]
    origin: str


Layer: TypeAlias = Mapping[str, Given]
"""The values from one source, by setting."""


@dataclass(frozen=True, slots=True)
class SettingsProblem:
    """One thing wrong with one setting; `setting` is empty when the whole source can't be read."""

    setting: str
    origin: str
    message: str

    def __str__(self) -> str:
        """Render for people.

        >>> str(SettingsProblem("join_wait", "--join-wait", "`30` is not a duration"))
        'join_wait (--join-wait): `30` is not a duration'
        """
        return f"{self.setting} ({self.origin}): {self.message}" if self.setting else f"{self.origin}: {self.message}"


def from_flags(flags: Mapping[str, object]) -> Layer:
    """Return the values from the command line; None means *not given*."""
    return {
        name: Given(
            [_text(item) for item in value] if isinstance(value, list | tuple | set | frozenset) else _text(value),
            f"--{name.replace('_', '-')}",
        )
        for name, value in flags.items()
        if value is not None
    }


def from_environment(environ: Mapping[str, str], known: set[str]) -> Layer:
    """Return the values of `LAPSE_*` variables; an empty one is *not given*, because templates leave some empty."""
    return {
        name: Given(value, f"environment variable {PREFIX}{name.upper()}")
        for name in sorted(known)
        if (value := environ.get(f"{PREFIX}{name.upper()}", "")) != ""
    }


def from_file(
    path: Path, known: set[str], paths: Set[str], problems: list[SettingsProblem], tables: Set[str] = frozenset()
) -> Layer:
    """Return the values from a settings file; its errors are added to `problems`.

    The settings in `paths` have file paths as values, relative to the settings file. Those in `tables` take a mapping,
    which is given as a list of `name=value`.
    """
    findings = Findings(str(path))
    text = read_text(path, findings)
    root = None if text is None else compose(text, findings)
    layer: dict[str, Given] = {}
    if isinstance(root, MapNode):
        for name, (key, node) in root.entries.items():
            origin = f"{path}:{node.line}:{node.column}"
            if name not in known:
                advice = (
                    did_you_mean(name.lower().replace("-", "_"), known) or f"; settings are {listed(sorted(known))}"
                )
                message = f"there is no such setting{advice}"
                problems.append(SettingsProblem(name, f"{path}:{key.line}:{key.column}", message))
                continue
            value = _table(node) if name in tables and isinstance(node, MapNode) else _value(node)
            if value is None:
                if not isinstance(node, ScalarNode):
                    wanted = "a table of names and texts" if name in tables else "a text or a list of texts"
                    message = f"takes {wanted}, and this is {kind(node)}"
                    problems.append(SettingsProblem(name, origin, message))
                continue
            layer[name] = Given(_beside(path, value) if name in paths and isinstance(value, str) else value, origin)
    elif root is not None and not (isinstance(root, ScalarNode) and root.value is None):
        findings.add(root, "wrong_type", f"a settings file is a mapping such as `brokers: …`, and this is {kind(root)}")
    for problem in findings.sorted():
        origin = problem.file if text is None else f"{problem.file}:{problem.line}:{problem.column}"
        problems.append(SettingsProblem("", origin, problem.message))
    return layer


def with_secrets(layers: Sequence[Layer], files: Mapping[str, str], problems: list[SettingsProblem]) -> list[Layer]:
    """Replace settings that name the file of a secret with the secret, in each layer.

    `files`: from the setting that names a file to the setting that holds the secret. A file is read only if no higher
    layer gives the secret. A line break at the end of the file is not part of the secret.
    """
    found: list[dict[str, Given]] = []
    for layer in layers:
        own = {name: given for name, given in layer.items() if name not in files}
        for name, secret in files.items():
            if name not in layer:
                continue
            given = layer[name]
            if secret in own:
                message = f"`{secret}` is set too ({own[secret].origin}); leave one of them out"
                problems.append(SettingsProblem(name, given.origin, message))
            elif not any(secret in higher for higher in found):
                # A file that can't be read counts as given, so that the secret is not also reported as missing.
                own[secret] = Given(_secret_in(given, name, problems) or "", f"{name}, {given.origin}")
        found.append(own)
    return list(found)


def _secret_in(given: Given, name: str, problems: list[SettingsProblem]) -> str | None:
    if isinstance(given.value, list):
        problems.append(SettingsProblem(name, given.origin, "takes one path, not a list"))
        return None
    try:
        text = Path(given.value).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.append(SettingsProblem(name, given.origin, f"can't read `{given.value}`: {why}"))
        return None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        problems.append(SettingsProblem(name, given.origin, f"`{given.value}` is empty"))
        return None
    return text


def _value(node: Node) -> str | list[str] | None:
    """Return a node's text, as written; None when it has no text."""
    if isinstance(node, ScalarNode):
        return None if node.value is None else node.text
    if isinstance(node, ListNode) and all(isinstance(item, ScalarNode) for item in node.items):
        return [item.text for item in node.items if isinstance(item, ScalarNode)]
    return None


def _table(node: MapNode) -> list[str] | None:
    """Return the entries of a mapping as `name=value`; None when a value is no text."""
    entries = {name: value for name, (_, value) in node.entries.items()}
    if not all(isinstance(value, ScalarNode) for value in entries.values()):
        return None
    return [f"{name}={value.text}" for name, value in entries.items() if isinstance(value, ScalarNode)]


def _beside(config: Path, value: str) -> str:
    """Return a path from a settings file, resolved against the directory of that file."""
    return str(config.parent / value) if value else value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
