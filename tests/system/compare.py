"""Two multisets of outputs, held against each other: what is missing, what nobody asked for, what came twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.system.oracle import Expected


@dataclass(frozen=True)
class Difference:
    """How one kind of output differs; the three lists hold a readable line for each."""

    what: str
    expected: int
    got: int
    lost: list[str]
    phantom: list[str]
    twice: list[str]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Lost, phantom, twice."""
        return len(self.lost), len(self.phantom), len(self.twice)

    def but_for(self, tickets: Collection[str]) -> Difference:
        """Leave out what is missing or unasked for at these tickets."""
        if not tickets:
            return self

        def kept(lines: list[str]) -> list[str]:
            return [line for line in lines if json.loads(line)["ticket_id"] not in tickets]

        return replace(self, lost=kept(self.lost), phantom=kept(self.phantom))

    def __str__(self) -> str:
        """Say how much differs, and show the first few."""
        lost, phantom, twice = self.counts
        head = f"{self.what}: {self.got} of {self.expected}, lost {lost}, phantom {phantom}, twice {twice}"
        shown = [
            f"  {name} {line[:600]}"
            for name, lines in (("lost   ", self.lost), ("phantom", self.phantom), ("twice  ", self.twice))
            for line in lines[:4]
        ]
        return "\n".join([head, *shown])


def compare(what: str, expected: Iterable[Mapping[str, Any]], got: Iterable[Mapping[str, Any]]) -> Difference:
    """Compare by whole content, member by member; a member that is null and one that is absent are the same."""
    want, have = Counter(map(_canonical, expected)), Counter(map(_canonical, got))
    return Difference(
        what,
        want.total(),
        have.total(),
        lost=sorted(set(want) - set(have)),
        phantom=sorted(set(have) - set(want)),
        twice=sorted(line for line in have if line in want and have[line] > want[line]),
    )


def compare_all(
    expected: Expected,
    commands: Iterable[Mapping[str, Any]],
    records: Iterable[Mapping[str, Any]],
    unsure: Collection[str] = (),
) -> list[Difference]:
    """Compare commands, transitions and evaluations. The ruleset's digest is no part of the oracle.

    For tickets in `unsure` rounds may have ended in another way: only what came twice counts there.
    """
    records = list(records)
    return [
        compare(
            "commands",
            expected.commands.values(),
            ({name: value for name, value in command.items() if name != "ruleset"} for command in commands),
        ).but_for(unsure),
        compare("transitions", expected.transitions, (r for r in records if r["type"] == "transition")),
        compare("evaluations", expected.evaluations, (r for r in records if r["type"] == "evaluation")).but_for(unsure),
    ]


def _canonical(body: Mapping[str, Any]) -> str:
    def without_nulls(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: without_nulls(each) for name, each in value.items() if each is not None}
        return value

    return json.dumps(without_nulls(body), sort_keys=True, ensure_ascii=False)
