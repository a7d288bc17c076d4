"""What the page says of runs, and what makes a run count."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from tests.bench import ground, stages, workload
from tests.bench.contestants import BARE, LAPSE, STREAMS
from tests.bench.ground import compare
from tests.bench.latency import percentile
from tests.bench.page import write
from tests.bench.peers import recipes
from tests.bench.results import Results


def run(rate: float, *, lost: int = 0) -> dict:
    equality = {"expected": 10, "got": 10 - lost, "lost": lost, "wrong": 0}
    return {"records": 100, "rate": rate, "cpu_micros": 20.0, "peak": 1 << 20, "equality": equality}


@pytest.fixture
def results(tmp_path) -> Results:
    return Results(tmp_path)


def page_of(results: Results, runs: dict) -> str:
    results.write("drain", {"partitions": 4, "tickets": 7, "runs": runs}, took=1)
    write(results)
    return results.page.read_text()


def row(page: str, title: str) -> str:
    return next(line for line in page.splitlines() if line.startswith(f"| {title} |"))


def test_the_page_gives_medians_and_the_ratio_to_kafka_streams(results):
    page = page_of(results, {LAPSE.key: [run(300), run(100), run(200)], STREAMS.key: [run(400)]})
    assert "| 200 (100–300) | 0.50 | 20.0 (20.0–20.0) | 1 | 3 × 100 | all |" in row(page, LAPSE.title)


def test_a_run_with_other_commands_is_void_and_its_figures_are_not_shown(results):
    page = page_of(results, {LAPSE.key: [run(777, lost=1)], STREAMS.key: [run(400), run(999, lost=2)]})
    assert "void: 1 of 10 lacking, 0 others" in row(page, LAPSE.title)
    assert "777" not in page
    assert "| 400 |" in row(page, STREAMS.title)
    assert "1 × 100, 1 void" in row(page, STREAMS.title)
    assert "999" not in page


def test_a_floor_that_does_not_merge_keeps_its_figures_and_the_page_says_what_differs(results):
    page = page_of(results, {BARE.key: [run(888, lost=3)]})
    assert "888" in row(page, BARE.title)
    assert "3 of 10 lacking, 0 others" in row(page, BARE.title)


def test_commands_that_lack_come_twice_or_come_unasked_are_told_apart():
    found = compare(Counter({"a": 1, "b": 1}), Counter({"a": 2, "c": 1}))
    assert (found.lost, found.wrong, found.holds) == (1, 2, False)
    assert compare(Counter("ab"), Counter("ba")).holds


def test_the_recipes_of_the_python_peers_make_the_commands_of_the_oracle():
    tickets: dict = {}
    sessions: dict = {}
    got: Counter[str] = Counter()
    made = list(workload.records(6_000, 300, ends_at=ground.ENDS_AT))
    for is_ticket, key, value, _ in made:
        body = msgspec.json.decode(value)
        if is_ticket:
            tickets[key] = recipes.merged(tickets.get(key), body["ticket"])
            continue
        sessions[key], command = recipes.take_session(body["ticket_id"], sessions.get(key), body, tickets.get(key))
        if command is not None:
            got[ground.decisive(command)] += 1
    expected = ground._ask_oracle(made)
    assert expected.total() > 100
    assert compare(expected, got).holds


def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed():
    values = [float(each) for each in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50, 99, 100, 100]
    assert percentile([7.0], 0.5) == 7


def test_a_sample_belongs_to_the_innermost_room_that_its_stack_names():
    folded = (
        "main (/x/streams/worker/service.py:1);take (/x/streams/wire/decode.py:9);PyDict_New (python3.11) 3\n"
        "main (/x/streams/worker/service.py:1);send (/x/site-packages/aiokafka/conn.py:2);write (libc.so) 2\n"
        "main (/x/streams/kafka/inside/requests.py:1) 1\n"
        "main (/x/streams/core/engine.py:1);gc_collect_main (libpython3.11.so) 4\n"
        "main (/x/threading.py:1);wait (/x/threading.py:2);PyThread_acquire_lock_timed (libpython3.11.so) 9\n"
        "main (/x/contextlib.py:1) 1\n"
        "start (libc.so);gc_collect_main (libpython3.11.so) 9\n"
    )
    assert stages.rooms(folded) == {
        "wire.decode": 3,
        "aiokafka: connections and protocol": 2,
        "kafka.inside.requests": 1,
        "garbage collector": 4,
        "interpreter and C libraries": 1,
    }


def test_a_part_that_was_not_measured_is_named(results):
    page = page_of(results, {LAPSE.key: [run(300)]})
    assert "Not measured in these results: latency, partitions, stages, transactions, footprint, backtest." in page
    assert "![Records a second, processor time a record]" in page
