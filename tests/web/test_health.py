"""When a worker is ready, and when it should be restarted."""

from __future__ import annotations

import pytest

from streams.web.health import StallWatch, reasons_not_ready
from tests.web.worker import Partition, Position, Worker, a_partition


def watched(worker: Worker, seconds: int, watch: StallWatch | None = None, start: float = 0.0) -> StallWatch:
    watch = watch or StallWatch(after=60)
    for second in range(seconds + 1):
        watch.look(start + second, worker)
    return watch


def test_a_partition_with_lag_that_does_not_move_is_stalled():
    watch = watched(Worker([a_partition(0, lag=5), a_partition(1)]), 59)
    assert watch.stalled() == {}
    watched(Worker([a_partition(0, lag=5), a_partition(1)]), 1, watch, start=59)
    assert watch.stalled() == {0: 60.0}


def test_lag_on_either_topic_counts():
    worker = Worker([Partition(7, topics={"ticket-updates": Position(1, 0), "session-states": Position(1, 3)})])
    assert set(watched(worker, 60).stalled()) == {7}


@pytest.mark.parametrize(
    "worker",
    [
        Worker([a_partition(0, lag=0)]),
        Worker([a_partition(0, lag=None)]),
        Worker([a_partition(0, lag=5, state="restoring")]),
        Worker([a_partition(0, lag=5)], broker_reachable=False),
        Worker([]),
    ],
    ids=["nothing to take", "lag unknown", "restoring", "broker away", "no partitions"],
)
def test_a_worker_that_has_nothing_it_could_do_is_not_stalled(worker):
    assert watched(worker, 600).stalled() == {}


def test_a_partition_that_moves_is_not_stalled_however_far_behind_it_is():
    watch = StallWatch(after=60)
    for second in range(600):
        watch.look(float(second), Worker([a_partition(0, position=second // 30, lag=1_000_000)]))
    assert watch.stalled() == {}


def test_progress_that_shows_in_no_position_counts_too():
    watch = StallWatch(after=60)
    for second in range(600):
        watch.look(float(second), Worker([a_partition(0, lag=9, last_progress=float(second // 30))]))
    assert watch.stalled() == {}


def test_a_record_that_comes_after_a_quiet_hour_does_not_make_a_stall():
    watch = watched(Worker([a_partition(0, last_progress=0.0)]), 3_600)
    watched(Worker([a_partition(0, lag=1, last_progress=0.0)]), 10, watch, start=3_600)
    assert watch.stalled() == {}


def test_the_clock_starts_anew_when_the_broker_answers_again():
    lagging = a_partition(0, lag=5)
    watch = watched(Worker([lagging]), 50)
    watch.look(51.0, Worker([lagging], broker_reachable=False))
    watched(Worker([lagging]), 50, watch, start=52)
    assert watch.stalled() == {}


def test_a_stall_is_over_once_an_offset_moves():
    watch = watched(Worker([a_partition(0, position=10, lag=5)]), 90)
    assert set(watch.stalled()) == {0}
    watch.look(91.0, Worker([a_partition(0, position=11, lag=4)]))
    assert watch.stalled() == {}


def test_a_process_that_was_frozen_is_not_stalled_when_it_wakes():
    watch = watched(Worker([a_partition(0, lag=5)]), 10)
    watch.look(3_610.0, Worker([a_partition(0, lag=5)]))
    assert watch.stalled() == {}


def test_a_revoked_partition_is_forgotten():
    watch = watched(Worker([a_partition(0, lag=5)]), 90)
    watch.look(91.0, Worker([]))
    assert watch.stalled() == {}


def test_a_worker_is_ready_once_every_partition_is_restored():
    worker = Worker([a_partition(0), a_partition(3, state="restoring")])
    (reason,) = reasons_not_ready(worker)
    assert (reason.code, reason.partition) == ("restoring", 3)
    worker.held[1].state = "ready"
    assert reasons_not_ready(worker) == []


def test_a_worker_that_has_not_joined_is_not_ready_and_a_spare_one_is():
    assert [reason.code for reason in reasons_not_ready(Worker(joined=False))] == ["not_joined"]
    assert reasons_not_ready(Worker(joined=True)) == []


def test_lag_and_an_unreachable_broker_do_not_make_a_worker_unready():
    assert reasons_not_ready(Worker([a_partition(0, lag=10**6)], broker_reachable=False)) == []
