"""The values a label may take. Whatever is outside counts as `other`, what is absent as `none`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from streams.core.model import NONE, Kind, RoundOutcome
from streams.core.names import Code, Result, Table, Topic
from streams.core.normal import name

OTHER = "other"

DEFAULT_CHANNELS = ("web", "ios", "android", "native_messaging", "whatsapp", "messenger", "instagram")
"""Channels that have a series of their own unless a deployment names its own list."""

RESULTS = tuple(result.value for result in Result if result is not Result.DUE)
DEAD_LETTER_CODES = tuple(code.value for code in Code)
TABLES = tuple(table.value for table in Table)

GUARDED = ("abandonment_reason", "trigger", "code")
"""Domains whose values we make ourselves: one outside is a mistake of ours, which must not cost a series each."""


class LabelDomains:
    """Domains by label name, as configured for one worker.

    Reasons and channels are given as people write them and kept as the wire spells them. `reason` and `channel` hold
    `other` and `none` from the start; the domains in `GUARDED` get `other` only should a value outside arise; the
    rest are enumerations.
    """

    def __init__(
        self,
        *,
        abandonment_reasons: Iterable[str] = (),
        channels: Iterable[str] = DEFAULT_CHANNELS,
        triggers: Iterable[str] = (),
    ) -> None:
        """Take the configured lists; `triggers` are the ids of the ruleset."""
        reasons = _names(abandonment_reasons)
        self._values: dict[str, tuple[str, ...]] = {
            "topic": tuple(topic.value for topic in Topic),
            "result": RESULTS,
            "code": DEAD_LETTER_CODES,
            "table": TABLES,
            "kind": tuple(kind.value for kind in Kind),
            "outcome": tuple(outcome.value for outcome in RoundOutcome),
            "trigger": tuple(dict.fromkeys(triggers)),
            "abandonment_reason": reasons,
            "reason": _with_rest(reasons),
            "channel": _with_rest(_names(channels)),
        }
        self._known = {label: frozenset(values) for label, values in self._values.items()}

    def bound(self, label: str, value: str | None) -> str:
        """Return the label value that stands for `value`.

        >>> LabelDomains().bound("channel", "web"), LabelDomains().bound("channel", "fax")
        ('web', 'other')
        >>> LabelDomains().bound("channel", None)
        'none'
        """
        known = self._known[label]
        if value in known:
            return value
        return NONE if not value and NONE in known else OTHER

    def values(self, label: str) -> tuple[str, ...]:
        """Return the values that a label has from the start. Raises KeyError for a label without a domain."""
        return self._values[label]

    def combinations(self, domains: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Yield every combination of values of these domains; none at all if one of them is not known beforehand."""
        if all(domain in self._values for domain in domains):
            yield from product(*(self._values[domain] for domain in domains))

    def sizes(self) -> dict[str, int]:
        """Return the greatest number of values that each domain can come to."""
        return {label: len(values) + (label in GUARDED) for label, values in self._values.items()}


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(spelled for value in values if (spelled := name(value)) is not None))


def _with_rest(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*values, OTHER, NONE)))
