"""Warnings that the author of a file has accepted: `# lapse: allow overlap, open_is_not_new (why)`.

The comment is at the end of the line that the warning refers to, or on a line of its own above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from streams.documents.problems import CODES, Findings, Problem, did_you_mean
from streams.documents.yaml_nodes import At

_COMMENT = re.compile(r"(?:^|\s)#\s*lapse:\s*allow\b[:\s]*([a-zA-Z_-]+(?:\s*,\s*[a-zA-Z_-]+)*)?")
_MARK = "lapse:"
_WARNINGS = tuple(code for code, about in CODES.items() if about.severity == "warning")


@dataclass(slots=True)
class _Allowed:
    """One comment: its position, the line it applies to, and the warnings it allows."""

    place: At
    line: int
    codes: tuple[str, ...]
    used: set[str] = field(default_factory=set)


def without_allowed(text: str, problems: list[Problem], findings: Findings) -> list[Problem]:
    """Return the problems of a file, without the warnings that its comments allow.

    A comment that allows nothing, or a warning that does not occur there, produces a warning itself.
    """
    if _MARK not in text:
        return problems
    comments = list(_comments(text))
    if not comments:
        return problems
    by_line: dict[int, list[_Allowed]] = {}
    for comment in comments:
        by_line.setdefault(comment.line, []).append(comment)
    kept = []
    for problem in problems:
        allowing = [comment for comment in by_line.get(problem.line, ()) if problem.code in comment.codes]
        if problem.severity == "warning" and allowing:
            for comment in allowing:
                comment.used.add(problem.code)
        else:
            kept.append(problem)
    complete = all(problem.severity == "warning" for problem in problems)
    for comment in comments:
        _judge(comment, findings, complete=complete)
    told = set(problems)
    return sorted(
        [*kept, *(problem for problem in findings.sorted() if problem not in told)],
        key=lambda problem: (problem.line, problem.column),
    )


def _judge(comment: _Allowed, findings: Findings, *, complete: bool) -> None:
    """Warn of names in a comment that have no effect; in a file with errors (not `complete`), advice may be missing."""
    if not comment.codes:
        message = "this comment names no warning to allow, as in `# lapse: allow open_is_not_new`"
        findings.add(comment.place, "bad_allow", message)
    for code in comment.codes:
        if code not in CODES:
            advice = did_you_mean(code, _WARNINGS, 3)
            findings.add(comment.place, "bad_allow", f"there is no warning `{code[:60]}`{advice}")
        elif code not in _WARNINGS:
            findings.add(comment.place, "bad_allow", f"`{code}` is an error and can't be allowed")
        elif code not in comment.used and complete:
            message = f"line {comment.line} has no warning `{code}` to allow; remove this comment"
            findings.add(comment.place, "bad_allow", message)


def _comments(text: str) -> Iterator[_Allowed]:
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        found = _COMMENT.search(line) if _MARK in line else None
        if found is None:
            continue
        codes = tuple(code.strip() for code in (found[1] or "").split(",") if code.strip())
        alone = line.lstrip().startswith("#")
        place = At(number, line.index("#", found.start()) + 1)
        yield _Allowed(place, _below(lines, number) if alone else number, codes)


def _below(lines: list[str], number: int) -> int:
    """Return the next line below that is not only a comment."""
    return next(
        (at for at, line in _numbered(lines, number) if line.strip() and not line.lstrip().startswith("#")), number
    )


def _numbered(lines: list[str], after: int) -> Iterable[tuple[int, str]]:
    return enumerate(lines[after:], after + 1)
