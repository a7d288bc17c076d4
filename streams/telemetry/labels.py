"""The values a label may take. Any other value counts as `other`, a missing value as `none`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from streams.core.model import AFTER_WINDOW, HOLDOUT_GROUPS, NONE, WITHIN_WINDOW, Kind, RoundOutcome, ShadowResult
from streams.core.names import Code, Result, Table, Topic
from streams.core.normal import name

OTHER = "other"

DEFAULT_CHANNELS = ("web", "ios", "android", "native_messaging", "whatsapp", "messenger", "instagram")
"""Channels that have their own series unless a deployment configures its own list."""

RESULTS = tuple(result.value for result in Result if result is not Result.DUE)
DEAD_LETTER_CODES = tuple(code.value for code in Code)
TABLES = tuple(table.value for table in Table)

INGEST_STATUSES = ("200", "401", "403", "408", "409", "413", "500")
INGEST_KINDS = ("ticket", "ticket_deleted", "session", "message", "unknown", "unusable")
"""Of `lapse ingest`: what a request was answered with, and what a signed body was."""

APPLY_RESULTS = ("applied", "overtaken", "gone", "refused", "expired")
APPLY_STATUSES = ("2xx", "401", "403", "404", "409", "422", "429", "503", "other", "none")
"""Of `lapse apply`: how a command ended, and what Zendesk answered a request with."""
SILENCE_STATES = ("inactive", "active")
"""What `lapse ingest --silence` writes."""

GUARDED = ("abandonment_reason", "trigger", "code")
"""Domains whose values come from our own code. An unknown value is a bug, and must not create a series."""

LEARNT = "shadow_trigger"
"""The domain whose values become known as they occur: a shadow comes and goes while the worker runs."""

LEARNT_KEPT = 1_000
"""Maximum number of values that it learns; shadows that follow one another must not add series without end."""


class LabelDomains:
    """Domains by label name, as configured for one worker.

    Reasons and channels are given as people write them and stored in their wire spelling. `reason` and `channel` have
    `other` and `none` from the start. The domains in `GUARDED` get `other` only when an unknown value occurs. The rest
    are enumerations.
    """

    def __init__(
        self,
        *,
        abandonment_reasons: Iterable[str] = (),
        channels: Iterable[str] = DEFAULT_CHANNELS,
        triggers: Iterable[str] = (),
    ) -> None:
        """Use the configured lists; `triggers` are the ids in the ruleset."""
        reasons = _names(abandonment_reasons)
        self._values: dict[str, tuple[str, ...]] = {
            "topic": tuple(topic.value for topic in Topic),
            "result": RESULTS,
            "code": DEAD_LETTER_CODES,
            "table": TABLES,
            "kind": tuple(kind.value for kind in Kind),
            "outcome": tuple(outcome.value for outcome in RoundOutcome),
            "group": HOLDOUT_GROUPS,
            "within": (WITHIN_WINDOW, AFTER_WINDOW),
            "trigger": tuple(dict.fromkeys(triggers)),
            "shadow_result": tuple(result.value for result in ShadowResult),
            LEARNT: (),
            "abandonment_reason": reasons,
            "reason": _with_rest(reasons),
            "channel": _with_rest(_names(channels)),
        }
        self._known = {label: set(values) for label, values in self._values.items()}

    def bound(self, label: str, value: str | None) -> str:
        """Return the label value that represents `value`.

        >>> LabelDomains().bound("channel", "web"), LabelDomains().bound("channel", "fax")
        ('web', 'other')
        >>> LabelDomains().bound("channel", None)
        'none'
        """
        known = self._known[label]
        if value in known:
            return value
        if label == LEARNT and value and len(known) < LEARNT_KEPT:
            known.add(value)
            return value
        return NONE if not value and NONE in known else OTHER

    def learn(self, label: str, values: Iterable[str]) -> None:
        """Know more values of a label, up to a bound."""
        known = self._known[label]
        known.update(value for value in values if len(known) < LEARNT_KEPT)

    def values(self, label: str) -> tuple[str, ...]:
        """Return the values that a label has from the start. Raises KeyError for a label without a domain."""
        return self._values[label]

    def combinations(self, domains: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Yield every combination of values of these domains; nothing if one of them is not known in advance."""
        if all(domain in self._values for domain in domains):
            yield from product(*(self._values[domain] for domain in domains))

    def sizes(self) -> dict[str, int]:
        """Return the maximum number of values of each domain; a shadow counts as one with as many triggers."""
        sizes = {label: len(values) + (label in GUARDED) for label, values in self._values.items()}
        return sizes | {LEARNT: sizes["trigger"]}


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(spelled for value in values if (spelled := name(value)) is not None))


def _with_rest(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*values, OTHER, NONE)))
