"""`lapse backtest --suggest-wait`: what each wait would have spared, by when customers came back."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from streams.core.batch import Batch
from streams.core.model import SECOND, Kind, Transition
from streams.offline.abandonments import Abandonments
from streams.offline.waits import ENOUGH, WAITS, suggest_wait
from tests.offline.scene import Capture
from tests.offline.test_against import solve

WINDOW = 300 * SECOND


def transition(ticket: str, at: int, kind: Kind, reason: str | None = None) -> Transition:
    before, after = ("active", "inactive") if kind is Kind.LAPSED else ("inactive", "active")
    return Transition(ticket, "e", at, None, kind, before, after, reason, 1, None)


def left(*away: int | None) -> Abandonments:
    """Abandonments, each by a ticket of its own, with the seconds until its customer is back."""
    found = Abandonments(frozenset({"gone"}), WINDOW)
    records: list[Transition] = []
    for number, seconds in enumerate(away):
        records.append(transition(str(number), 0, Kind.LAPSED, "gone"))
        if seconds is not None:
            records.append(transition(str(number), seconds * SECOND, Kind.RESUMED))
    found.add(Batch(records=list(records)))
    return found


def test_a_wait_avoids_the_false_abandonments_whose_customers_are_back_by_then():
    found = suggest_wait(left(10, 40, 100, 400, None), waits=(30 * SECOND, 60 * SECOND, 600 * SECOND))
    assert (found.abandonments, found.returned, found.false_abandonments) == (5, 4, 3)
    assert [one.avoided for one in found.waits] == [1, 2, 3]
    assert [one.returned for one in found.waits] == [1, 2, 4]
    assert [one.acted_on for one in found.waits] == [4, 3, 1]
    assert found.waits[0].delay == 4 * 30 * SECOND


def test_who_is_back_in_the_instant_a_wait_ends_comes_too_late_as_in_the_engine(tmp_path: Path):
    found = suggest_wait(left(30, 300), waits=(30 * SECOND, 31 * SECOND, 300 * SECOND))
    assert found.false_abandonments == 2
    assert [(one.avoided, one.acted_on) for one in found.waits] == [(0, 2), (1, 1), (1, 1)]
    capture = Capture(tmp_path)
    capture.ticket(0, "1", status="open").session(0, "1", "active").leaves(60, "1", 30)
    assert capture.json(solve(wait="30s"))["commands"] == 1
    assert capture.json(solve(wait="31s"))["commands"] == 0


def test_the_shortest_wait_that_avoids_enough_is_suggested():
    found = suggest_wait(left(*[20] * 90, *[100] * 10))
    assert found.enough is not None
    assert found.enough.wait == 30 * SECOND
    assert not found.few
    assert suggest_wait(left(None, 4000)).enough is None


def test_few_false_abandonments_are_called_few(tmp_path: Path):
    capture = Capture(tmp_path)
    capture.ticket(0, "1", status="open").session(0, "1", "active").leaves(60, "1", 20).session(3_600, "2", "active")
    done = capture.backtest(solve(), "--suggest-wait")
    assert "`wait: 30s` is the shortest that would have avoided 90% of the false abandonments." in done.stdout
    assert "They are too few to go by: use a longer capture." in done.stdout


def test_a_return_is_that_of_the_latest_abandonment_and_other_reasons_are_none():
    found = Abandonments(frozenset({"gone"}), WINDOW)
    found.add(
        Batch(
            records=[
                transition("1", 0, Kind.LAPSED, "gone"),
                transition("1", 50 * SECOND, Kind.LAPSED, "gone"),
                transition("1", 60 * SECOND, Kind.RESUMED),
                transition("2", 0, Kind.LAPSED, "agent_closed"),
                transition("2", 10 * SECOND, Kind.RESUMED),
            ],
        )
    )
    assert [one.away for one in found] == [None, 10 * SECOND]
    assert found.lapses == {"gone": 2, "agent_closed": 1}


@given(st.lists(st.one_of(st.none(), st.integers(0, 10_000)), max_size=60))
def test_longer_waits_never_avoid_less_and_never_act_more(away: list[int | None]):
    found = suggest_wait(left(*away))
    assert [one.avoided for one in found.waits] == sorted(one.avoided for one in found.waits)
    assert [one.acted_on for one in found.waits] == sorted((one.acted_on for one in found.waits), reverse=True)
    assert all(one.avoided <= found.false_abandonments <= found.returned <= found.abandonments for one in found.waits)
    longest = found.waits[-1]
    assert longest.wait == max(WAITS)
    assert longest.avoided == found.false_abandonments, "30 minutes are longer than the window"
    assert found.enough is None or (found.enough.share or 0) >= ENOUGH


def test_the_counts_are_those_of_the_engines_own_facts(tmp_path: Path):
    """The metrics and the advice must not tell different stories of the same capture."""
    capture = Capture(tmp_path)
    for number, back in enumerate([10, 200, 400, None, 20]):
        capture.ticket(number, str(number), status="open").session(number, str(number), "active")
        capture.leaves(60 + number, str(number), back)
    found = capture.json(solve(), "--suggest-wait")["waits"]
    assert (found["abandonments"], found["returned"], found["false_abandonments"]) == (5, 4, 3)
    assert found["suggested_wait_ms"] == 240_000
    assert [one["wait_ms"] for one in found["waits"]][:2] == [15_000, 30_000]
