"""Arrows point inwards: which package may import which, and which outsiders each may know."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "streams").rglob("*.py"))

INNER = {"core"}
MIDDLE = INNER | {"documents", "wire", "settings", "rules", "mapping", "telemetry"}
OUTER = MIDDLE | {"offline", "testing"}
CLIENTS = INNER | {"wire", "kafka"}
SHELL = OUTER | {"kafka", "host", "worker", "operate", "web", "zendesk", "demo"}

# Each package may import itself and these packages of ours.
MAY_IMPORT = {
    "core": set(),
    "documents": INNER,
    "wire": INNER,
    "settings": INNER | {"documents"},
    "rules": INNER | {"documents"},
    "mapping": INNER | {"documents", "wire", "settings"},
    "telemetry": INNER,
    "offline": OUTER,
    "testing": OUTER,
    "kafka": INNER | {"wire"},
    "host": CLIENTS,
    "worker": CLIENTS | {"host"},
    "operate": CLIENTS,
    "web": OUTER - {"testing"},
    "zendesk": MIDDLE | {"kafka", "web"},
    "demo": SHELL,
    # Entries know everything; `faust -A streams` finds the app through the package itself.
    "assembly": SHELL | {"assembly"},
    "cli": SHELL | {"assembly"},
    "__main__": {"cli"},
    "__init__": {"assembly"},
}

# These outsiders are known to these packages only.
ONLY_IN = {
    "prometheus_client": {"telemetry"},
    "faust": {"host", "assembly", "__init__"},
    "mode": {"host", "assembly"},
    "aiokafka": {"kafka", "host", "worker", "operate", "zendesk", "assembly", "demo"},
    "noida_db": {"demo"},
    "jmespath": {"mapping"},
    "oauthlib": {"zendesk"},
    "yaml": {"documents", "rules"},
    "pydantic": {"settings", "cli"},
    "pydantic_settings": {"settings"},
    "structlog": {"telemetry"},
    "typer": {"cli"},
    "rich": {"cli", "demo", "offline"},
    "uvloop": {"worker", "assembly", "demo", "zendesk"},
    "aiohttp": {"web", "zendesk", "testing"},
    "matplotlib": {"offline"},
    "jinja2": {"offline", "web"},
}

# What a decision must not depend on: clock, chance, files, network, threads, logs.
IMPURE = {"asyncio", "io", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time"}


def imports(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute module name) of every import in `source`, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            if base == "streams":
                yield from ((node.lineno, f"streams.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def unit(name: str) -> str:
    """Return the package of ours that a module belongs to: `core` of `streams.core.model`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def found() -> Iterator[tuple[str, str, str]]:
    """Yield (where, unit, imported module) over the whole of `streams`."""
    for path in MODULES:
        relative = path.relative_to(ROOT).with_suffix("")
        package = ".".join(relative.parts[:-1])
        own = unit(".".join(relative.parts[:-1] if relative.name == "__init__" else relative.parts))
        for line, name in imports(path.read_text(), package):
            yield f"{path.relative_to(ROOT)}:{line}", own, name


def outsiders() -> list[tuple[str, str, str]]:
    return [(where, own, name.split(".")[0]) for where, own, name in found() if name.split(".")[0] != "streams"]


def test_every_package_has_its_place():
    assert {own for _, own, _ in found()} <= set(MAY_IMPORT)


def test_arrows_point_inwards():
    wrong = [
        f"{where}: {own} imports {name}"
        for where, own, name in found()
        if name.split(".")[0] == "streams" and (target := unit(name)) != own and target not in MAY_IMPORT[own]
    ]
    assert wrong == []


def test_core_knows_the_standard_library_and_msgspec_only():
    allowed = sys.stdlib_module_names | {"msgspec"}
    wrong = [f"{where}: {name}" for where, own, name in outsiders() if own == "core" and name not in allowed]
    assert wrong == []


def test_core_has_no_clock_no_chance_and_no_io():
    wrong = [f"{where}: {name}" for where, own, name in outsiders() if own == "core" and name in IMPURE]
    assert wrong == []


def test_outsiders_stay_where_they_belong():
    wrong = [
        f"{where}: {own} imports {name}"
        for where, own, name in outsiders()
        if name in ONLY_IN and own not in ONLY_IN[name]
    ]
    assert wrong == []


def private_names(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, expression) of every name with one leading underscore that is not asked of `self` or `cls`."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
        ):
            yield node.lineno, ast.unparse(node)


# Public in spite of their underscore, or private to the module that asks for them.
OUR_OWN = ("._replace", "os._exit", "other._", "settings._warnings")


def test_private_names_of_aiokafka_are_touched_in_one_folder_only():
    """Code of `kafka/inside` asks for them, and a contract test for each of its files notices when they change."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in MODULES
        if "kafka/inside" not in path.as_posix()
        for line, name in private_names(path.read_text())
        if not any(own in name for own in OUR_OWN)
    ]
    assert wrong == []


def test_every_reach_into_aiokafka_has_a_contract_test_of_its_name():
    reaches = {path.stem for path in (ROOT / "streams/kafka/inside").glob("*.py")} - {"__init__"}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests/contracts").glob("test_*.py")}
    assert reaches
    assert reaches - tests == set()


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("consumer._client.close()", ["consumer._client"]),
        ("self._client._conns", ["self._client._conns"]),
        ("self._own", []),
        ("cls._own", []),
        ("kafka.__class__", []),
    ],
)
def test_every_private_name_is_seen(source, seen):
    assert [name for _, name in private_names(source)] == seen


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("import faust", ["faust"]),
        ("from streams.core import model", ["streams.core"]),
        ("from streams import worker", ["streams.worker"]),
        ("def f():\n    from aiokafka.errors import KafkaError", ["aiokafka.errors"]),
        ("from .model import Topic", ["streams.core.model"]),
        ("from ..worker import inbox", ["streams.worker"]),
        ("from .. import worker", ["streams.worker"]),
        ("import a, b.c", ["a", "b.c"]),
    ],
)
def test_every_form_of_import_is_seen(source, seen):
    assert [name for _, name in imports(source, "streams.core")] == seen
