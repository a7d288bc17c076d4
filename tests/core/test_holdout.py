"""A holdout takes commands away from the tickets in it, and changes nothing for any other ticket."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from math import sqrt
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.cycle import Rules
from streams.core.names import Output
from streams.core.triggers import PPM, Holdout
from streams.testing.driver import Driver

from .stories import RULESET, SETTINGS, START_MS, records

END_MS = START_MS + 3_600_000
SALTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
SHARES = st.integers(0, PPM)


def place(salt: str, ticket_id: str) -> Fraction:
    """Where a ticket lies between 0 and 1."""
    return Fraction(int(hashlib.sha256(salt.encode() + b"/" + ticket_id.encode()).hexdigest()[:16], 16), 2**64)


def outputs(holdout: Holdout | None, story: list[tuple[str, str | None, Any, int]]) -> dict[str, list[Any]]:
    driver = Driver(Rules(msgspec.structs.replace(RULESET, holdout=holdout)), SETTINGS)
    for topic, key, value, timestamp in story:
        driver.pipe(topic, key, value, timestamp)
    driver.advance(END_MS)
    return {topic: driver.read(topic) for topic in Output}


@given(SALTS, st.text(st.characters(exclude_categories=["Cs"])), SHARES)
def test_a_ticket_is_held_out_exactly_when_it_lies_below_the_share(salt: str, ticket_id: str, share: int) -> None:
    assert Holdout(share, salt).holds_out(ticket_id) == (place(salt, ticket_id) < Fraction(share, PPM))


@given(SALTS, st.text(st.characters(exclude_categories=["Cs"])), SHARES, SHARES)
def test_a_larger_share_holds_out_all_that_a_smaller_one_does(
    salt: str, ticket_id: str, share: int, other: int
) -> None:
    small, large = sorted((share, other))
    assert Holdout(large, salt).holds_out(ticket_id) or not Holdout(small, salt).holds_out(ticket_id)


@given(SALTS, st.integers(10_000, 990_000))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_the_share_of_many_tickets_is_met(salt: str, share: int) -> None:
    count, wanted = 20_000, share / PPM
    holdout = Holdout(share, salt)
    found = sum(holdout.holds_out(str(number)) for number in range(count)) / count
    assert abs(found - wanted) < 5 * sqrt(wanted * (1 - wanted) / count)


@pytest.mark.parametrize(("share", "held"), [(0, 0), (PPM, 1_000)])
def test_no_share_holds_out_nobody_and_the_whole_everybody(share: int, held: int) -> None:
    assert sum(Holdout(share, "a").holds_out(str(number)) for number in range(1_000)) == held


@given(records(), SALTS, SHARES)
@settings(max_examples=200, deadline=None)
def test_a_holdout_takes_the_commands_of_its_tickets_and_changes_nothing_else(
    story: list[tuple[str, str | None, Any, int]], salt: str, share: int
) -> None:
    holdout = Holdout(share, salt)
    whole, less = outputs(None, story), outputs(holdout, story)
    for topic in Output:
        wanted = []
        for one in whole[topic]:
            if topic in (Output.COMMANDS, Output.TRANSITIONS) and holdout.holds_out(one.key.decode()):
                if topic is Output.COMMANDS:
                    continue
                value = one.value.replace(b'"outcome":"commanded"', b'"outcome":"held_out"')
                wanted.append(one._replace(value=value))
            else:
                wanted.append(one)
        assert less[topic] == wanted
