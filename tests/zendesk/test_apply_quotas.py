"""Accounting of quotas, over times that are given."""

from __future__ import annotations

import math

import pytest

from streams.testing.zendesk.limits import Window as Server
from streams.zendesk.apply.quotas import TicketQuota, Window


def test_one_at_a_time_goes_before_the_quota_is_known() -> None:
    window = Window(100, 60)
    assert window.ready_at(0) == 0
    number = window.take(0)
    assert window.ready_at(0) == math.inf
    window.answered(number, 1, (100, 99, 60))
    assert window.ready_at(1) == 1


def test_a_window_that_is_used_up_opens_at_its_end_and_not_before() -> None:
    window = Window(3, 60)
    for left in (2, 1, 0):
        window.answered(window.take(0), 0.5, (3, left, 60))
    assert window.ready_at(1) == 60.5
    assert window.ready_at(60.5) == 60.5


def test_the_earliest_end_that_answers_tell_counts_because_seconds_are_rounded_up() -> None:
    window = Window(2, 60)
    window.answered(window.take(0), 0.2, (2, 1, 60))
    window.answered(window.take(0.8), 0.9, (2, 0, 59))
    assert window.ready_at(1) == pytest.approx(59.9)


def test_what_others_use_is_not_used_again() -> None:
    window = Window(100, 60)
    window.answered(window.take(0), 0, (100, 20, 60))
    passed = 0
    while window.ready_at(1) <= 1:
        window.take(1)
        passed += 1
    assert passed == 20


def test_a_lower_total_is_learned_and_a_higher_one_does_not_pass_the_setting() -> None:
    lower, higher = Window(100, 60), Window(100, 60)
    lower.answered(lower.take(0), 0, (20, 19, 60))
    higher.answered(higher.take(0), 0, (300, 299, 60))
    assert (lower.total, higher.total) == (20, 100)


def test_without_headers_a_window_of_our_own_is_kept() -> None:
    window = Window(2, 60)
    window.answered(window.take(0), 1)
    window.answered(window.take(1), 2)
    assert window.ready_at(3) == 61
    assert window.ready_at(61) == 61


def test_a_window_whose_requests_all_got_no_answer_ends_after_its_span() -> None:
    window = Window(2, 60)
    window.answered(window.take(0), 0, (2, 1, 60))
    assert window.ready_at(60) == 60
    for at in (60, 61):
        window.answered(window.take(at), at + 0.5, lost=True)
    assert window.ready_at(62) == 120.5
    assert window.ready_at(120.5) == 120.5


def test_what_was_given_back_may_be_taken_again() -> None:
    window = Window(1, 60)
    window.take(0)
    window.given_back()
    window.answered(window.take(0), 0, (1, 0, 60))
    assert window.ready_at(0) == 60


def test_requests_in_flight_count_in_the_window_that_begins_meanwhile() -> None:
    window = Window(3, 60)
    window.answered(window.take(0), 0, (3, 2, 60))
    late = window.take(59)
    assert window.ready_at(60) == 60
    window.take(60)
    window.take(60)
    assert window.ready_at(60) == math.inf, "the late one may have reached this window"
    window.answered(late, 60.1, (3, 2, 1))
    assert window.ready_at(61) == pytest.approx(120.1), "nobody tells when it ends, so it lasts for its span"


def test_a_window_that_is_full_of_earlier_requests_ends_after_its_span() -> None:
    """All were in flight when it began, and their answers tell of the window before."""
    window = Window(2, 60)
    window.answered(window.take(0), 0, (2, 1, 60))
    assert window.ready_at(60) == 60
    window.answered(window.take(60), 60, (2, 1, 60))
    late = window.take(119)
    also = window.take(120)
    assert window.ready_at(120) == math.inf
    for number in (late, also):
        window.answered(number, 121, lost=True)
    assert window.ready_at(122) == 181


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.4])
@pytest.mark.parametrize("in_flight", [1, 8, 32])
def test_a_server_refuses_nothing_and_nearly_all_of_its_quota_is_used(delay: float, in_flight: int) -> None:
    """Against the stand-in's windows, with answers that come `delay` seconds after a request has arrived."""
    server, window, now = Server(100, 60), Window(100, 60), 0.0
    flying: list[tuple[float, int, tuple[int, int, int]]] = []
    while now < 600:
        flying.sort(key=lambda one: one[0])
        if flying and flying[0][0] <= now:
            at, number, told = flying.pop(0)
            window.answered(number, at, told)
        elif len(flying) < in_flight and window.ready_at(now) <= now:
            number = window.take(now)
            assert server.passes(now), "refused"
            flying.append((now + delay, number, (server.total, server.remaining(now), server.resets(now))))
            now += 0.001
        else:
            until = min([window.ready_at(now), *(one[0] for one in flying)])
            now = max(now + 0.001, until)
    whole = server.history[:-1]
    assert len(whole) >= 8
    assert all(one.passed == 100 and one.refused == 0 for one in whole)


def test_a_ticket_is_updated_thirty_times_in_ten_minutes_at_most() -> None:
    quota = TicketQuota()
    for second in range(30):
        assert quota.ready_at("1", second) == second
        quota.take("1", second)
    assert quota.ready_at("1", 30) == 600
    assert quota.ready_at("2", 30) == 30
    assert quota.ready_at("1", 600) == 600


def test_a_ticket_that_zendesk_refuses_waits_by_itself() -> None:
    quota = TicketQuota()
    quota.exhausted("1", 50)
    assert (quota.ready_at("1", 10), quota.ready_at("2", 10), quota.ready_at("1", 51)) == (50, 10, 51)
