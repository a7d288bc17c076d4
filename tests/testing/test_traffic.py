"""What the demo, the documents and the benchmarks lean on: believable, the same every time, and mostly valid."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from statistics import mean

import pytest

from streams.core.model import Rejection, SessionUpdate, TicketUpdate
from streams.core.names import Topic
from streams.core.plain import PlainTicket
from streams.testing import builders
from streams.testing.traffic import DEFAULT_START, Profile, Record, generate
from streams.wire.capture import CapturedRecord
from streams.wire.decode import Code, decode

CLEAN = {"late": 0.0, "doubled": 0.0, "broken": 0.0}
NOW = 2_000_000_000_000_000  # 2033: later than all traffic here


def decoded(record: Record) -> TicketUpdate | SessionUpdate | Rejection:
    return decode(record.topic, 0, CapturedRecord(0, record.timestamp, record.key, record.value), NOW)


def test_the_same_seed_gives_the_same_bytes():
    profile = Profile(tickets=300, rate=5)
    assert list(generate(profile)) == list(generate(profile))


def test_another_seed_gives_other_traffic():
    assert list(generate(Profile(tickets=20, seed=1))) != list(generate(Profile(tickets=20, seed=2)))


@pytest.mark.parametrize("rate", [0.05, 2.0, 500.0])
def test_records_come_in_the_order_in_which_they_reach_the_broker(rate):
    stamps = [record.timestamp for record in generate(Profile(tickets=400, rate=rate))]
    assert stamps == sorted(stamps)
    assert stamps[0] == DEFAULT_START


def test_an_endless_profile_starts_where_a_bounded_one_does():
    bounded = list(generate(Profile(duration=300, rate=3)))
    endless = list(itertools.islice(generate(Profile(rate=3)), len(bounded)))
    assert endless == bounded
    assert bounded[-1].timestamp < DEFAULT_START + 300_000


def test_every_clean_record_is_valid():
    records = list(generate(Profile(tickets=500, **CLEAN)))
    assert [found for record in records if isinstance(found := decoded(record), Rejection)] == []


def test_clean_traffic_keeps_the_order_of_each_ticket_and_topic():
    last: dict[tuple[Topic, bytes | None], int] = defaultdict(int)
    for record in generate(Profile(tickets=500, rate=50, **CLEAN)):
        if record.value is not None:
            sequence = json.loads(record.value)["sequence"]
            assert sequence == last[record.topic, record.key] + 1
            last[record.topic, record.key] = sequence


def test_late_records_come_after_later_ones():
    overtaken = 0
    last: dict[tuple[Topic, bytes | None], int] = defaultdict(int)
    for record in generate(Profile(tickets=500, rate=50, late=0.1, doubled=0, broken=0)):
        if record.value is not None:
            sequence = json.loads(record.value)["sequence"]
            overtaken += sequence < last[record.topic, record.key]
            last[record.topic, record.key] = max(sequence, last[record.topic, record.key])
    assert overtaken > 100


def test_doubled_records_come_twice_in_the_share_asked_for():
    records = [r.value for r in generate(Profile(tickets=2000, late=0, doubled=0.05, broken=0)) if r.value is not None]
    repeats = len(records) - len(set(records))
    assert repeats / len(set(records)) == pytest.approx(0.05, rel=0.1)


def test_broken_records_come_in_the_share_asked_for_and_in_every_kind():
    profile = Profile(tickets=2000, late=0, doubled=0, broken=0.05)
    codes = Counter(found.code for r in generate(profile) if isinstance(found := decoded(r), Rejection))
    sound = sum(1 for _ in generate(profile)) - codes.total()
    assert codes.total() / sound == pytest.approx(0.05, rel=0.1)
    assert set(codes) == set(Code) - {Code.TOO_LARGE}


def test_records_have_the_sizes_that_helpdesks_send():
    sizes: dict[Topic, list[int]] = defaultdict(list)
    for record in generate(Profile(tickets=1000, **CLEAN)):
        if record.value is not None:
            sizes[record.topic].append(len(record.value))
    assert mean(sizes[Topic.TICKETS]) == pytest.approx(545, rel=0.05)
    assert mean(sizes[Topic.SESSIONS]) == pytest.approx(280, rel=0.05)


def test_people_leave_come_back_get_solved_and_are_closed():
    seen = Counter()
    states = defaultdict(list)
    for record in generate(Profile(tickets=1000, **CLEAN)):
        found = decoded(record)
        found = found.whole() if isinstance(found, PlainTicket) else found
        if isinstance(found, SessionUpdate):
            states[found.ticket_id].append(found.state)
            seen[found.reason] += 1
        elif found.changes is not None:
            seen[found.changes["status"]] += 1
        else:
            seen["deleted"] += 1
    assert {"user_inactive_or_offline", "ticket_status_changed", "ended_by_agent"} <= set(seen)
    assert {"new", "open", "pending", "solved", "closed", "deleted"} <= set(seen)
    returns = sum(("inactive", "active") in itertools.pairwise(story) for story in states.values())
    assert 150 < returns < 400


def test_pace_shortens_the_pauses_and_nothing_else():
    def story(pace: float) -> list[str]:
        records = sorted(generate(Profile(tickets=50, pace=pace, **CLEAN)), key=lambda r: (r.key, r.topic))
        return [json.loads(r.value)["event_id"] for r in records if r.value is not None]

    def length(pace: float) -> int:
        stamps = [r.timestamp for r in generate(Profile(tickets=1, pace=pace, **CLEAN))]
        return stamps[-1] - stamps[0]

    assert story(1) == story(20)
    assert length(1) / length(20) == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize(
    "wrong", [{"late": 1.5}, {"broken": -0.1}, {"rate": 0}, {"pace": -1}, {"messages": 0}, {"tickets": -1}]
)
def test_numbers_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Profile(**wrong)


def test_traffic_is_made_faster_than_it_is_used(benchmark):
    benchmark.extra_info["unit"] = "a whole run of 50,000 records and more"
    made = benchmark(lambda: sum(1 for _ in generate(Profile(tickets=2500, rate=50))))
    assert made > 50_000


@pytest.mark.parametrize("topic", Topic)
@pytest.mark.parametrize("code", Code)
def test_a_bad_record_is_bad_in_the_way_its_code_says(code, topic):
    found = decoded(builders.bad_record(code, topic))
    assert isinstance(found, Rejection)
    assert found.code == code


@pytest.mark.parametrize(
    "record",
    [
        builders.ticket_update(),
        builders.ticket_update("7", status="solved", tags=["vip"], sequence=3, event_id="e", command_id="c"),
        builders.session_state(),
        builders.session_state("7", "inactive", "left", session_id="s", channel="web", sequence=1),
        builders.ticket_deleted(),
        builders.session_forgotten(),
    ],
)
def test_a_built_record_is_valid(record):
    found = decoded(record)
    assert not isinstance(found, Rejection)
    assert found.ticket_id.encode() == record.key
