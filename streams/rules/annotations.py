"""Problems in the formats that code review tools show inline: SARIF 2.1.0, and the annotations of GitHub's workflows.

SARIF: OASIS, *Static Analysis Results Interchange Format Version 2.1.0*. Annotations: GitHub, *Workflow commands for
GitHub Actions*, where `%`, CR and LF are escaped in a message, and also `:` and `,` in a property.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from streams.core.escaping import lines
from streams.documents.problems import CODES, Problem

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"
"""The base of relative addresses: the directory in which the command runs, usually the root of a checkout."""


class Form(StrEnum):
    """The formats in which a report of problems can be written."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


def sarif(problems: Iterable[Problem], root: Path | None = None) -> dict[str, Any]:
    """Return one SARIF log with one run. Files under `root` (default: the working directory) get relative addresses.

    Every existing code is a rule of the log, so that a reader can see what was checked as well as what was found.
    """
    base = Path.cwd() if root is None else root
    places = {code: place for place, code in enumerate(CODES)}
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "Lapse", "version": _version(), "rules": list(map(_rule, CODES))}},
                "columnKind": "unicodeCodePoints",
                "results": [
                    {
                        "ruleId": problem.code,
                        "ruleIndex": places[problem.code],
                        "level": problem.severity,
                        "message": {"text": problem.text()},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": _location(problem.file, base),
                                    "region": {"startLine": problem.line, "startColumn": problem.column},
                                }
                            }
                        ],
                    }
                    for problem in problems
                ],
            }
        ],
    }


def _rule(code: str) -> dict[str, Any]:
    known = CODES[code]
    meaning = f"{known.meaning[0].upper()}{known.meaning[1:]}."
    advice = "The file can't be used before this is mended."
    if known.severity == "warning":
        advice = f"The file can be used. A comment `# lapse: allow {code}` at the end of the line lets it stand."
    return {
        "id": code,
        "shortDescription": {"text": meaning},
        "fullDescription": {"text": f"{meaning} {advice}"},
        "help": {"text": advice},
        "defaultConfiguration": {"level": known.severity},
    }


def _location(file: str, root: Path) -> dict[str, str]:
    """Return a file's address: relative when the file is under the root, else absolute."""
    relative = _relative(file, root)
    if relative is not None:
        return {"uri": quote(relative), "uriBaseId": ROOT}
    return {"uri": (root / file).absolute().as_uri()}


def github(problems: Iterable[Problem], root: Path | None = None) -> str:
    """Return a workflow command for each problem, one per line, each with a line ending."""
    base = Path.cwd() if root is None else root
    return "".join(f"{_command(problem, base)}\n" for problem in problems)


def _command(problem: Problem, root: Path) -> str:
    file = _relative(problem.file, root) or problem.file
    properties = {"file": file, "line": problem.line, "col": problem.column, "title": problem.code}
    written = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    return f"::{problem.severity} {written}::{_data(lines(problem.text()))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _relative(file: str, root: Path) -> str | None:
    """Return a file's path relative to the root, with slashes; None when it is outside the root."""
    try:
        return (root / file).resolve().relative_to(root.resolve()).as_posix()
    except (OSError, ValueError, RuntimeError):  # outside the root; a NUL in the path; circular links
        return None


def _version() -> str:
    try:
        return version("lapse")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
