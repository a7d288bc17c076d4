"""The table of error codes."""

from __future__ import annotations

import aiokafka.errors
import pytest

from streams.kafka import answers
from streams.kafka.answers import Verdict, name_of, verdict


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, Verdict.DONE),
        (46, Verdict.DONE),
        (51, Verdict.AGAIN),
        (19, Verdict.AGAIN),
        (6, Verdict.MOVED),
        (16, Verdict.MOVED),
        (47, Verdict.OVER),
        (90, Verdict.OVER),
        (49, Verdict.OVER),
        (48, Verdict.UNDONE),
        (45, Verdict.UNDONE),
        (29, Verdict.REFUSED),
        (10, Verdict.REFUSED),
    ],
)
def test_a_code_has_its_verdict(code: int, expected: Verdict) -> None:
    assert verdict(code) is expected


def test_a_code_that_nobody_knows_ends_the_transaction_and_not_the_worker() -> None:
    assert verdict(32_000) is Verdict.UNDONE
    assert name_of(32_000) == "error code 32000"


def test_whatever_aiokafka_calls_retriable_is_asked_again() -> None:
    """Except codes that no transactional request gets, and two that end a transaction rather than delay it."""
    ours = {code for code in answers._TABLE if verdict(code) in {Verdict.AGAIN, Verdict.MOVED, Verdict.DONE}}
    theirs = {code for code in answers._TABLE if aiokafka.errors.for_code(code).retriable}
    assert theirs - ours <= {2, 49}  # CORRUPT_MESSAGE, INVALID_PRODUCER_ID_MAPPING
