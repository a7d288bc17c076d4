"""What Lapse's processes say of themselves while the demo with Zendesk runs, read from their metrics."""

from __future__ import annotations

import re
import urllib.request
from collections import Counter

import msgspec

Samples = dict[str, list[tuple[dict[str, str], int]]]
"""Counters by name: labels and value."""

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_TIMEOUT = 5.0


class Seen(msgspec.Struct, frozen=True):
    """What the metrics of Lapse's processes say."""

    lapses: int = 0
    rounds: int = 0
    commands: int = 0
    known: int = 0
    """Commands whose id came back in a ticket update."""
    results: Counter[str] = msgspec.field(default_factory=Counter)
    """What became of commands, by result."""

    def has_settled(self, lapses: int, waits: int) -> bool:
        """Whether so many lapses were seen and nothing is under way.

        Every lapse has a round for each of the `waits` that triggers have, every command has a result, and every one
        that was applied has come back.
        """
        return (
            self.lapses >= lapses
            and self.rounds == self.lapses * waits
            and self.results.total() == self.commands
            and self.known == self.results["applied"]
        )


def read_metrics(worker: str, apply: str) -> Seen:
    """Read the metrics behind the pages of `lapse run` and `lapse apply`. Raises OSError."""
    of_worker, of_apply = _counters(worker), _counters(apply)
    results: Counter[str] = Counter()
    for labels, value in of_apply.get("lapse_apply_total", []):
        results[labels["result"]] += value
    return Seen(
        lapses=_total(of_worker, "lapse_session_transitions_total", kind="lapsed"),
        rounds=_total(of_worker, "lapse_rounds_total"),
        commands=_total(of_worker, "lapse_commands_total"),
        known=_total(of_worker, "lapse_commands_applied_total"),
        results=results,
    )


def _counters(page: str) -> Samples:
    with urllib.request.urlopen(f"{page}metrics", timeout=_TIMEOUT) as answer:  # noqa: S310 - a page on loopback
        text = answer.read().decode()
    found: Samples = {}
    for name, labels, value in _SAMPLE.findall(text):
        if name.endswith("_total"):
            found.setdefault(name, []).append((dict(_LABEL.findall(labels)), int(float(value))))
    return found


def _total(samples: Samples, name: str, **labels: str) -> int:
    return sum(value for has, value in samples.get(name, []) if labels.items() <= has.items())
