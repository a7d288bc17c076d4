"""Revisions of the rules: what a partition takes up, when, and what stays over restarts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.cycle import Rules
from streams.core.model import MILLISECOND, SECOND
from streams.core.names import Output, Topic
from streams.core.revisions import RULES_KEY, Entry, EntryKind, Rulebook, Stops, UnusableRevisionError
from streams.core.triggers import Action, Condition, Operator, Ruleset
from streams.testing.driver import Driver, NotReadyError
from streams.wire.rows import MsgpackRows

from .stories import SETTINGS, START_MS, trigger

OPEN = (Condition("status", Operator.IS, "open"),)
TAG = trigger("tag", position=1, all=OPEN, actions=(Action("add_tags", ["gone"]),))
SOLVE = trigger("solve", position=2, all=OPEN, actions=(Action("status", "solved"),))
PATIENT = trigger("patient", wait=10, position=3, all=OPEN, actions=(Action("priority", "low"),))
RULESETS = {
    "tag": Ruleset((TAG,), digest="aaaaaaaaaaaa"),
    "solve": Ruleset((SOLVE,), digest="bbbbbbbbbbbb"),
    "both": Ruleset((TAG, SOLVE, PATIENT), digest="cccccccccccc"),
}
DAY = 86_400_000


def compiled(source: str) -> Ruleset:
    if source not in RULESETS:
        raise UnusableRevisionError(f"no field {source}")
    return RULESETS[source]


def live(number: int, source: str, from_ms: int = 0, **members: Any) -> Entry:
    """A live revision, effective from that many milliseconds after the start; 0: from the beginning of time."""
    effective = 0 if from_ms == 0 else (START_MS + from_ms) * MILLISECOND
    digest = RULESETS[source].digest if source in RULESETS else "dddddddddddd"
    return Entry(
        number=number, kind=EntryKind.LIVE, published_at=START_MS * MILLISECOND, author="ada", reason="try",
        ruleset=digest, source=source, effective_from=effective, **members,
    )  # fmt: skip


def other(number: int, kind: EntryKind, triggers: Any = None, source: str | None = None) -> Entry:
    digest = None if source is None else RULESETS[source].digest
    return Entry(
        number=number, kind=kind, published_at=START_MS * MILLISECOND, triggers=triggers, source=source, ruleset=digest
    )


def book_of(*entries: Entry) -> Rulebook:
    book = Rulebook(compiled)
    for entry in entries:
        assert book.add(entry) is None
    return book


def driver_with(book: Rulebook, **options: Any) -> Driver:
    return Driver(Rules(Ruleset(())), SETTINGS, book=book, **options)


def leaves(driver: Driver, ticket: str, at_ms: int) -> None:
    """A ticket comes, and its customer leaves at that many milliseconds after the start."""
    at = START_MS + at_ms
    when = {"occurred_at": _text(at)}
    driver.pipe(Topic.TICKETS, ticket, {"ticket_id": ticket, **when, "ticket": {"status": "open"}}, at - 2)
    driver.pipe(Topic.SESSIONS, ticket, {"ticket_id": ticket, "occurred_at": _text(at - 1), "state": "active"}, at - 1)
    driver.pipe(Topic.SESSIONS, ticket, {"ticket_id": ticket, **when, "state": "inactive"}, at)


def _text(at_ms: int) -> str:
    from streams.wire import instants

    return instants.text(at_ms * MILLISECOND)


def activations(driver: Driver) -> list[dict[str, Any]]:
    return [record for record in driver.records() if record["type"] == "activation"]


def fired(driver: Driver) -> list[tuple[str, list[str], int]]:
    return [(one["ticket_id"], [each["id"] for each in one["triggers"]], one["revision"]) for one in driver.commands()]


def test_a_partition_without_a_revision_takes_the_newest_that_is_effective_by_the_clock() -> None:
    book = book_of(live(1, "tag"), live(2, "solve", 1_000), live(3, "both", 10 * DAY))
    driver = driver_with(book, now_ms=START_MS + 5_000)
    leaves(driver, "7", 2_000)
    assert fired(driver) == [("7", ["solve"], 2)]
    (first,) = activations(driver)
    assert first == {
        "type": "activation",
        "partition": 0,
        "partitions": 0,
        "number": 2,
        "kind": "live",
        "previous": None,
        "ruleset": "bbbbbbbbbbbb",
        "stopped": [],
        "stream_time_us": 0,
        "offsets": {"ticket-updates": 0, "session-states": 0},
        "late": False,
        "act_from": None,
        "author": "ada",
        "reason": "try",
    }
    assert driver.broker.outputs[Output.TRANSITIONS][0].key == b"rules/0"


def test_without_an_effective_revision_a_partition_is_not_ready_and_says_so() -> None:
    with pytest.raises(NotReadyError, match="no live revision yet"):
        driver_with(book_of(live(1, "tag", 10 * DAY)), now_ms=START_MS)
    with pytest.raises(NotReadyError, match="no live revision yet"):
        driver_with(Rulebook(compiled))


def test_effective_from_comes_before_all_else_that_is_due_at_that_instant() -> None:
    """A round that is due when the revision becomes effective is evaluated by it; one due just before is not."""
    book = book_of(live(1, "both"))
    driver = driver_with(book, now_ms=START_MS)
    leaves(driver, "7", 1_000)
    leaves(driver, "8", 1_001)
    driver.run()
    book.add(live(2, "tag", 11_001))
    driver.advance(START_MS + 20_000)
    due = [(one["ticket_id"], one["outcome"]) for one in driver.records() if one.get("wait_ms") == 10_000]
    assert due == [("7", "commanded"), ("8", "no_match")], "the rules of revision 2 have no trigger with that wait"
    second = activations(driver)[1]
    assert (second["number"], second["previous"], second["late"]) == (2, 1, False)
    assert second["stream_time_us"] == (START_MS + 11_001) * MILLISECOND
    assert second["offsets"] == {"ticket-updates": 2, "session-states": 4}


def test_a_revision_learned_of_late_is_taken_up_between_two_records_and_marked() -> None:
    book = book_of(live(1, "tag"))
    driver = driver_with(book, now_ms=START_MS)
    leaves(driver, "7", 5_000)
    driver.run()
    book.add(live(2, "solve", 1_000))
    leaves(driver, "8", 6_000)
    assert fired(driver) == [("7", ["tag"], 1), ("8", ["solve"], 2)]
    assert [(one["number"], one["late"]) for one in activations(driver)] == [(1, False), (2, True)]


def test_of_several_that_are_due_together_only_the_newest_is_taken_up() -> None:
    book = book_of(live(1, "tag"))
    driver = driver_with(book, now_ms=START_MS)
    driver.run()
    for number, source in enumerate(("solve", "tag", "both"), 2):
        book.add(live(number, source, 1_000))
    driver.advance(START_MS + 2_000)
    assert [one["number"] for one in activations(driver)] == [1, 4]


def test_an_older_revision_that_becomes_effective_later_is_not_taken_up() -> None:
    book = book_of(live(1, "tag"))
    driver = driver_with(book, now_ms=START_MS)
    driver.run()
    book.add(live(2, "solve", 5_000))
    book.add(live(3, "both", 1_000))
    driver.advance(START_MS + 9_000)
    assert [one["number"] for one in activations(driver)] == [1, 3]


def test_a_stop_holds_at_once_without_a_record_and_over_later_revisions_until_it_is_resumed() -> None:
    book = book_of(live(1, "both"))
    driver = driver_with(book, now_ms=START_MS)
    driver.run()
    book.add(other(2, EntryKind.STOP, ("solve",)))
    driver.run()
    stopped = activations(driver)[1]
    assert (stopped["number"], stopped["kind"], stopped["stopped"]) == (2, "stop", ["solve"])
    assert stopped["ruleset"] == "cccccccccccc"
    leaves(driver, "7", 1_000)
    driver.run()
    book.add(live(3, "both"))
    leaves(driver, "8", 2_000)
    driver.run()
    book.add(other(4, EntryKind.RESUME, ("solve",)))
    leaves(driver, "9", 3_000)
    assert fired(driver) == [("7", ["tag"], 1), ("8", ["tag"], 3), ("9", ["tag", "solve"], 3)]


def test_everything_stopped_is_a_dry_run() -> None:
    book = book_of(live(1, "both"), other(2, EntryKind.STOP, "all"))
    driver = driver_with(book, now_ms=START_MS)
    leaves(driver, "7", 1_000)
    driver.run()
    book.add(other(3, EntryKind.RESUME, "all"))
    leaves(driver, "8", 2_000)
    assert [one[0] for one in fired(driver)] == ["8"]
    assert [one["outcome"] for one in driver.records() if one.get("ticket_id") == "7" and "outcome" in one] == [
        "dry_run"
    ]


def test_a_change_of_rules_never_acts_twice_on_one_round() -> None:
    """The id of a command depends on neither revision nor rules."""
    ids = []
    for source in ("tag", "solve"):
        driver = driver_with(book_of(live(1, source)), now_ms=START_MS)
        leaves(driver, "7", 1_000)
        ids.append(driver.commands()[0]["command_id"])
    assert ids[0] == ids[1]


def test_a_restart_moves_nothing_on_or_back() -> None:
    book = book_of(live(1, "tag"))
    driver = driver_with(book, now_ms=START_MS)
    driver.run()
    driver.crash()
    book.add(live(2, "solve", 60_000))
    driver.crash()
    leaves(driver, "7", 1_000)
    assert fired(driver) == [("7", ["tag"], 1)]
    assert [one["number"] for one in activations(driver)] == [1]
    row = MsgpackRows().decode_rules(dict(driver.broker.changelogs["sessions"])[RULES_KEY])
    assert (row.revision, row.ruleset, row.activation, row.stops) == (1, "aaaaaaaaaaaa", 1, Stops())


@pytest.mark.parametrize("crash_after", range(0, 24))
def test_a_crash_at_any_write_takes_every_entry_up_once(crash_after: int) -> None:
    book = book_of(live(1, "tag"))
    driver = driver_with(book, now_ms=START_MS, batch_records=2)
    driver.crash_after(crash_after)
    leaves(driver, "7", 1_000)
    driver.run()
    book.add(other(2, EntryKind.STOP, ("tag",)))
    book.add(other(3, EntryKind.RESUME, "all"))
    book.add(live(4, "solve", 1_500))
    leaves(driver, "8", 2_000)
    assert fired(driver) == [("7", ["tag"], 1), ("8", ["solve"], 4)]
    assert [one["number"] for one in activations(driver)] == [1, 2, 3, 4]
    assert [one["previous"] for one in activations(driver)] == [None, 1, 2, 3]


def test_a_partition_whose_revision_is_gone_or_has_another_digest_is_not_ready() -> None:
    driver = driver_with(book_of(live(1, "tag"), live(2, "solve")), now_ms=START_MS)
    driver.run()
    driver._book = book_of(live(1, "tag"))
    with pytest.raises(NotReadyError, match="revision 2, which it has in use, can't be used: it is not in the rules"):
        driver.crash()
    driver._book = book_of(live(1, "tag"), live(2, "both"))
    with pytest.raises(NotReadyError, match="has the digest bbbbbbbbbbbb, but in the rules topic it is cccccccccccc"):
        driver.crash()


def test_a_newer_revision_takes_the_place_of_one_that_is_gone_and_an_older_one_never() -> None:
    driver = driver_with(book_of(live(1, "tag"), live(2, "solve")), now_ms=START_MS)
    leaves(driver, "6", 1_000)
    driver.run()
    driver._book = book_of(live(1, "tag"))
    with pytest.raises(NotReadyError, match="revision 2, which it has in use, can't be used: it is not in the rules"):
        driver.crash()
    driver._book = book_of(live(3, "both", DAY))
    with pytest.raises(NotReadyError, match="revision 2"):
        driver.crash()
    driver._book = book_of(live(3, "tag"))
    driver.crash()
    leaves(driver, "7", 2_000)
    assert fired(driver) == [("6", ["solve"], 2), ("7", ["tag"], 3)]
    assert [(one["number"], one["previous"], one["late"]) for one in activations(driver)] == [
        (2, None, False),
        (3, 2, True),
    ]


def test_stops_hold_over_a_topic_that_was_made_anew() -> None:
    driver = driver_with(book_of(live(1, "both"), other(2, EntryKind.STOP, ("solve",))), now_ms=START_MS)
    driver.run()
    driver._book = book_of(live(3, "both"))
    driver.crash()
    leaves(driver, "7", 1_000)
    assert fired(driver) == [("7", ["tag"], 3)]


def test_a_shadow_that_is_gone_ends_with_the_entry_that_ends_it() -> None:
    entries = (live(1, "tag"), other(2, EntryKind.SHADOW, source="solve"), live(3, "tag"))
    driver = driver_with(book_of(*entries), now_ms=START_MS)
    driver.run()
    driver._book = book_of(live(3, "tag"))
    with pytest.raises(NotReadyError, match="revision 2, which it has in use, can't be used: it is not in the rules"):
        driver.crash()
    driver._book = book_of(live(3, "tag"), other(4, EntryKind.SHADOW_OFF))
    driver.crash()
    leaves(driver, "7", 1_000)
    assert fired(driver) == [("7", ["tag"], 3)]
    assert not [one for one in driver.records() if one["type"] == "shadow"]


def test_a_revision_that_can_not_be_compiled_is_refused_and_the_one_in_use_stays() -> None:
    book = book_of(live(1, "tag"))
    driver = driver_with(book, now_ms=START_MS)
    driver.run()
    book.add(live(2, "of a newer version"))
    leaves(driver, "7", 1_000)
    assert fired(driver) == [("7", ["tag"], 1)]
    assert book.refused == {2: "no field of a newer version"}


def test_an_entry_out_of_turn_or_with_another_digest_is_ignored_and_counted() -> None:
    book = book_of(live(1, "tag"))
    assert book.add(live(3, "solve")) == "its number is 3, and not 2"
    assert book.add(live(1, "solve")) == "its number is 1, and not 2"
    changed = msgspec.structs.replace(live(2, "solve"), ruleset="eeeeeeeeeeee")
    assert book.add(changed) == "its digest is eeeeeeeeeeee, and that of its source is bbbbbbbbbbbb"
    assert (book.ignored, book.last) == (3, 2), "the number is used up, and the rules are not used"
    assert book.ruleset(2) is None
    assert book.add(live(3, "solve")) is None


def test_a_stop_holds_after_an_entry_that_was_ignored_for_its_digest() -> None:
    book = book_of(live(1, "tag"))
    driver = driver_with(book, now_ms=START_MS)
    driver.run()
    book.add(msgspec.structs.replace(live(2, "solve"), ruleset="eeeeeeeeeeee"))
    book.add(other(3, EntryKind.STOP, "all"))
    leaves(driver, "7", 1_000)
    assert fired(driver) == []


def test_a_shadow_that_is_on_at_the_first_taking_up_is_an_activation_too() -> None:
    book = book_of(live(1, "tag"), other(2, EntryKind.SHADOW, source="solve"), other(3, EntryKind.STOP, ("nobody",)))
    driver = driver_with(book, now_ms=START_MS)
    leaves(driver, "7", 1_000)
    assert [(one["number"], one["kind"]) for one in activations(driver)] == [(1, "live"), (2, "shadow")]
    assert [one["revision"] for one in driver.records() if one["type"] == "shadow"] == [2]
    driver._book = book_of(live(1, "tag"), other(2, EntryKind.SHADOW, source="both"))
    with pytest.raises(NotReadyError, match="revision 2, which it has in use, has the digest bbbbbbbbbbbb"):
        driver.crash()


def test_a_shadow_is_taken_up_at_once_and_ended_and_survives_a_restart() -> None:
    book = book_of(live(1, "tag"))
    driver = driver_with(book, now_ms=START_MS)
    leaves(driver, "6", 1_000)
    driver.run()
    book.add(other(2, EntryKind.SHADOW, source="solve"))
    driver.run()
    driver.crash()
    leaves(driver, "7", 2_000)
    driver.run()
    book.add(other(3, EntryKind.SHADOW_OFF))
    leaves(driver, "8", 3_000)
    assert [(one["number"], one["kind"], one["ruleset"]) for one in activations(driver)] == [
        (1, "live", "aaaaaaaaaaaa"),
        (2, "shadow", "bbbbbbbbbbbb"),
        (3, "shadow_off", "aaaaaaaaaaaa"),
    ]
    different = [(one["ticket_id"], one["revision"]) for one in driver.records() if one["type"] == "shadow"]
    assert different == [("7", 2)]
    assert [one[2] for one in fired(driver)] == [1, 1, 1]


# --- the law ---------------------------------------------------------------------------------------------------------

_steps = st.lists(
    st.one_of(
        st.tuples(st.just("leave"), st.integers(0, 4)),
        st.tuples(st.just("publish"), st.sampled_from(sorted(RULESETS))),
        st.tuples(st.just("stop"), st.sampled_from(["tag", "solve", "all"])),
        st.tuples(st.just("resume"), st.sampled_from(["tag", "solve", "all"])),
    ),
    max_size=14,
)


def _run(steps: list[tuple[str, Any]], crash_every: int | None = None) -> Driver:
    book = book_of(live(1, "tag"))
    driver = driver_with(book, now_ms=START_MS, batch_records=3)
    for place, (what, which) in enumerate(steps, 1):
        number = book.last + 1
        if what == "leave":
            leaves(driver, f"{which}-{place}", 1_000 * place)
        elif what == "publish":
            driver.run()
            book.add(live(number, which))
        else:
            driver.run()
            kind = EntryKind.STOP if what == "stop" else EntryKind.RESUME
            book.add(other(number, kind, which if which == "all" else (which,)))
        driver.run()
        if crash_every and place % crash_every == 0:
            driver.crash()
    driver.advance(START_MS + 100_000)
    return driver


@settings(max_examples=60, deadline=None)
@given(_steps, st.integers(1, 3))
def test_the_same_entries_at_the_same_places_give_the_same_bytes_through_any_restart(
    steps: list[tuple[str, Any]], crash_every: int
) -> None:
    straight, crashed = _run(steps), _run(steps, crash_every)
    for topic in Output:
        assert crashed.broker.outputs[topic] == straight.broker.outputs[topic]


@settings(max_examples=60, deadline=None)
@given(_steps)
def test_each_round_comes_out_as_in_a_run_with_the_rules_of_its_time_alone(steps: list[tuple[str, Any]]) -> None:
    driver = _run(steps)
    number, in_use, stops = 1, "tag", Stops()
    expected: dict[tuple[str, int], tuple[str, list[str]]] = {}
    for place, (what, which) in enumerate(steps, 1):
        if what == "publish":
            number, in_use = number + 1, which
        elif what != "leave":
            number += 1
            kind = EntryKind.STOP if what == "stop" else EntryKind.RESUME
            stops = stops.after(other(number, kind, which if which == "all" else (which,)))
        else:
            ticket = f"{which}-{place}"
            alone = [one for one in RULESETS[in_use].triggers if one.id not in stops.ids and one.wait == 0]
            if not alone:
                continue
            settings_ = msgspec.structs.replace(
                SETTINGS, rounds=msgspec.structs.replace(SETTINGS.rounds, dry_run=stops.everything)
            )
            static = Driver(Rules(Ruleset(tuple(alone), digest="aaaaaaaaaaaa")), settings_)
            leaves(static, ticket, 1_000 * place)
            (record,) = [one for one in static.records() if one.get("wait_ms") == 0]
            expected[ticket, 0] = (record["outcome"], record["triggers"])
    found = {
        (one["ticket_id"], 0): (one["outcome"], one["triggers"])
        for one in driver.records()
        if one["type"] == "evaluation" and one["wait_ms"] == 0
    }
    assert found == expected


def test_what_a_file_gives_stays_byte_for_byte_as_it_was() -> None:
    driver = Driver(Rules(RULESETS["tag"]), SETTINGS)
    leaves(driver, "7", 1_000)
    (command,) = driver.read(Output.COMMANDS)
    assert "revision" not in json.loads(command.value or b"{}")
    assert RULES_KEY not in dict(driver.broker.changelogs["sessions"])
    assert 10 * SECOND == PATIENT.wait
