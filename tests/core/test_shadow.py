"""A shadow finds what its rules would have done as live ones, and the live side does not notice it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.model import SECOND, SHADOW_ROUND, SHADOW_TRIGGER_FIRED
from streams.core.names import Output, Topic
from streams.core.shadow import Candidate
from streams.core.triggers import Action, Condition, Holdout, Operator, Ruleset
from streams.testing.driver import Driver
from streams.wire import decode as wire_decode
from streams.wire.plain import PlainTickets

from .stories import RULES, RULESET, SETTINGS, START_MS, records, trigger

END_MS = START_MS + 3_600_000
REVISION = 7
ACTING = {"commanded", "dry_run", "held_out"}
SMALL = {"slice_records": 2, "batch_records": 3}

Story = list[tuple[str, str | None, Any, int]]

POOL = (
    *RULESET.triggers,
    trigger("now", position=1, actions=(Action("priority", "urgent"),)),
    trigger("solve", wait=3, position=2, all=(Condition("status", Operator.IS, "open"),)),
    trigger("later", wait=20, position=4, actions=(Action("notification_user", ["2", "Gone"]),)),
    trigger("last", wait=30, position=5, actions=(Action("add_tags", ["gone"]),)),
)


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    chosen = draw(st.lists(st.sampled_from(POOL), max_size=5, unique_by=lambda one: one.id))
    return Ruleset(tuple(chosen), digest="fedcba987654", cycle=draw(st.sampled_from(["restart", "single_pass"])))


@st.composite
def policies(draw: st.DrawFn) -> EngineSettings:
    act_from = draw(st.sampled_from([None, None, (START_MS + 20_000) * 1000]))
    rounds = msgspec.structs.replace(SETTINGS.rounds, act_from=act_from, dry_run=draw(st.booleans()))
    return msgspec.structs.replace(SETTINGS, rounds=rounds, first_inactive_lapses=draw(st.booleans()))


def run(story: Story, rules: Rules, settings: EngineSettings = SETTINGS, **options: Any) -> Driver:
    driver = Driver(rules, settings, **options)
    for topic, key, value, timestamp in story:
        driver.pipe(topic, key, value, timestamp)
    driver.advance(END_MS)
    return driver


def forget_shapes() -> None:
    """Let a run learn the shapes of ticket updates anew: the form of a row, not its meaning, depends on them."""
    wire_decode._plain_tickets = PlainTickets()


def written_by_the_live_side(driver: Driver) -> dict[str, Any]:
    found: dict[str, Any] = {topic: list(driver.broker.outputs[topic]) for topic in Output}
    shadows = [one for one in found[Output.TRANSITIONS] if json.loads(one.value)["type"] == "shadow"]
    found[Output.TRANSITIONS] = [one for one in found[Output.TRANSITIONS] if one not in shadows]
    for table, changes in driver.broker.changelogs.items():
        found[table] = [change for change in changes if not change[0].startswith(b"\xff")]
    return found | {"offsets": driver.broker.offsets}


def shadow_records(driver: Driver) -> list[dict[str, Any]]:
    return [record for record in driver.records() if record["type"] == "shadow"]


def own_rows(driver: Driver) -> dict[bytes, bytes]:
    rows = dict(driver.broker.changelogs["sessions"])
    return {key: row for key, row in rows.items() if key.startswith(b"\xff") and row is not None}


def sides(driver: Driver) -> dict[tuple[str, str, int, int], dict[str, Any]]:
    """How each round ended, with the actions that it led to; held to the live side's own outputs."""
    actions = {command["command_id"]: command["actions"] for command in driver.commands()}
    return {
        (one["ticket_id"], one["event_id"], one["episode"], one["wait_ms"]): {
            "outcome": one["outcome"],
            "triggers": one["triggers"],
            "actions": actions.get(one["command_id"], []),
            "occurred_at": one["occurred_at"],
        }
        for one in driver.records()
        if one["type"] == "evaluation"
    }


def differences(live: Driver, candidate: Driver) -> list[dict[str, Any]]:
    """What a shadow has to find, worked out from a run of either rules as live ones."""
    ours, theirs = sides(live), sides(candidate)
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(key), theirs.get(key)
        acting = [side is not None and side["outcome"] in ACTING for side in (one, other)]
        if acting == [False, False] or (acting == [True, True] and one["actions"] == other["actions"]):
            continue
        before = [k for k, side in ours.items() if k[:3] == key[:3] and k[3] < key[3]]
        told = [None if s is None else {k: s[k] for k in ("outcome", "triggers", "actions")} for s in (one, other)]
        found.append(
            {
                "type": "shadow",
                "ticket_id": key[0],
                "event_id": key[1],
                "occurred_at": (one or other)["occurred_at"],
                "episode": key[2],
                "wait_ms": key[3],
                "revision": REVISION,
                "after_live": any(ours[k]["outcome"] == "commanded" for k in before),
                "live": told[0],
                "shadow": told[1],
            }
        )
    return found


def in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda one: (one["ticket_id"], one["event_id"], one["episode"], one["wait_ms"]))


@given(records(), rulesets(), rulesets(), st.sampled_from([None, (START_MS + 20_000) * 1000]))
@settings(max_examples=150, deadline=None)
def test_a_shadow_differs_exactly_where_a_live_run_of_its_rules_would(
    story: Story, live: Ruleset, candidate: Ruleset, act_from: int | None
) -> None:
    rounds = msgspec.structs.replace(SETTINGS.rounds, act_from=act_from)
    policy = msgspec.structs.replace(SETTINGS, rounds=rounds)
    both = run(story, Rules(live), policy, shadow=Candidate(REVISION, Rules(candidate)), **SMALL)
    apart = differences(run(story, Rules(live), policy), run(story, Rules(candidate), policy))
    assert in_order(shadow_records(both)) == apart
    counted = {result[1]: n for result, n in both.facts.items() if result[0] == SHADOW_ROUND}
    keys = sides(run(story, Rules(live), policy)).keys() | sides(run(story, Rules(candidate), policy)).keys()
    assert sum(counted.values()) == len(keys), "each round counts once"
    assert sum(n for result, n in counted.items() if result != "same") == len(apart)
    assert own_rows(both) == {}, "nothing is kept of rounds that have ended"


@given(records(), rulesets(), rulesets(), policies())
@settings(max_examples=80, deadline=None)
def test_the_live_side_writes_the_same_bytes_with_and_without_a_shadow(
    story: Story, live: Ruleset, candidate: Ruleset, policy: EngineSettings
) -> None:
    forget_shapes()
    alone = run(story, Rules(live), policy, **SMALL)
    forget_shapes()
    both = run(story, Rules(live), policy, shadow=Candidate(REVISION, Rules(candidate)), **SMALL)
    with_it, without = written_by_the_live_side(both), written_by_the_live_side(alone)
    for name, written in without.items():
        assert with_it[name] == written, name
    own_facts = {fact: n for fact, n in both.facts.items() if fact[0] not in (SHADOW_ROUND, SHADOW_TRIGGER_FIRED)}
    assert own_facts == alone.facts
    assert both.pending_rounds == alone.pending_rounds


@given(records(), rulesets(), policies(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_shadow_equal_to_the_live_rules_is_always_the_same(
    story: Story, live: Ruleset, policy: EngineSettings, held: bool
) -> None:
    candidate = Candidate(REVISION, Rules(live))
    rules = Rules(msgspec.structs.replace(live, holdout=Holdout(500_000, "a"))) if held else Rules(live)
    driver = run(story, rules, policy, shadow=candidate, **SMALL)
    assert shadow_records(driver) == []
    counted = {fact[1] for fact in driver.facts if fact[0] == SHADOW_ROUND}
    assert counted <= {"same"}
    assert driver.facts[SHADOW_ROUND, "same"] == len(sides(driver))


@given(records(), rulesets(), rulesets(), st.integers(0, 400))
@settings(max_examples=80, deadline=None)
def test_a_crash_at_any_write_changes_nothing_that_a_shadow_finds(
    story: Story, live: Ruleset, candidate: Ruleset, crash_at: int
) -> None:
    shadow = Candidate(REVISION, Rules(candidate))
    whole = run(story, Rules(live), shadow=shadow, **SMALL)
    broken = Driver(Rules(live), SETTINGS, shadow=shadow, **SMALL)
    for topic, key, value, timestamp in story:
        broken.pipe(topic, key, value, timestamp)
    broken.crash_after(crash_at)
    broken.advance(END_MS)
    assert {topic: broken.read(topic) for topic in Output} == {topic: whole.read(topic) for topic in Output}


@given(records(), records(), rulesets(), rulesets(), rulesets())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_shadow_looks_at_lapses_after_it_was_taken_up_only(
    before: Story, after: Story, live: Ruleset, first: Ruleset, second: Ruleset
) -> None:
    """Another candidate drops what the first had pending, and judges no lapse that came before it."""
    driver = Driver(Rules(live), SETTINGS, shadow=Candidate(REVISION, Rules(first)), **SMALL)
    for topic, key, value, timestamp in before:
        driver.pipe(topic, key, value, timestamp)
    driver.follow_with(Candidate(REVISION + 1, Rules(second)))
    assert own_rows(driver) == {}
    told = len(driver.records())
    shift = max(timestamp for *_, timestamp in before) - START_MS
    for topic, key, value, timestamp in after:
        driver.pipe(topic, key, value, timestamp + shift)
    driver.advance(END_MS)
    new = driver.records()[told:]
    lapses = {(one["ticket_id"], one["episode"]) for one in new if one.get("kind") == "lapsed"}
    found = [one for one in new if one["type"] == "shadow"]
    assert {(one["ticket_id"], one["episode"]) for one in found} <= lapses
    assert {one["revision"] for one in found} <= {REVISION + 1}


@given(records(), rulesets(), rulesets())
@settings(max_examples=40, deadline=None)
def test_a_shadow_that_ends_leaves_nothing_behind(story: Story, live: Ruleset, candidate: Ruleset) -> None:
    driver = Driver(Rules(live), SETTINGS, shadow=Candidate(REVISION, Rules(candidate)), **SMALL)
    for topic, key, value, timestamp in story:
        driver.pipe(topic, key, value, timestamp)
    driver.run()
    driver.follow_with(None)
    assert own_rows(driver) == {}
    told = len(shadow_records(driver))
    driver.crash()
    driver.advance(END_MS)
    assert len(shadow_records(driver)) == told
    assert written_by_the_live_side(driver)[Output.COMMANDS] == run(story, Rules(live)).read(Output.COMMANDS)


def test_a_pending_shadow_round_survives_a_restart_and_its_live_round_is_paired_with_it() -> None:
    candidate = Ruleset((trigger("late", wait=5, actions=(Action("priority", "urgent"),)),), digest="0" * 12)
    driver = Driver(RULES, SETTINGS, shadow=Candidate(REVISION, Rules(candidate)))
    opened = {"ticket_id": "1", "occurred_at": "2026-03-01T10:00:00Z", "ticket": {"tags": ["vip"]}}
    left = {"event_id": "s-1", "ticket_id": "1", "occurred_at": "2026-03-01T10:00:01Z", "state": "inactive"}
    driver.pipe(Topic.TICKETS, "1", opened, START_MS)
    driver.pipe(Topic.SESSIONS, "1", left, START_MS + 1_000)
    driver.run()
    assert list(own_rows(driver)) == [b"\xffshadow/1"]
    driver.crash()
    driver.advance(START_MS + 10_000)
    (found,) = shadow_records(driver)
    assert (found["wait_ms"], found["live"]["outcome"], found["shadow"]["outcome"]) == (5_000, "commanded", "commanded")
    assert found["shadow"]["actions"] == [{"field": "priority", "value": "urgent"}]
    assert not found["after_live"]


def test_a_row_of_a_shadow_survives_its_bytes_and_is_small() -> None:
    driver = Driver(RULES, SETTINGS, shadow=Candidate(REVISION, RULES))
    left = {"event_id": "s-1", "ticket_id": "1", "occurred_at": "2026-03-01T10:00:01Z", "state": "inactive"}
    driver.pipe(Topic.SESSIONS, "1", left, START_MS + 1_000)
    driver.run()
    (row,) = own_rows(driver).values()
    assert len(row) < 120
    assert SECOND * 5 in {wait for _, wait, *_ in msgspec.msgpack.decode(row)[2]}


# --- live rules that change while rounds are pending -----------------------------------------------------------------


def with_other_rules(driver: Driver, rules: Rules, shadow: Candidate) -> None:
    """Start the worker again, from its rows, with other rules."""
    driver.run()
    driver._engine, driver._shadow = Engine(rules, SETTINGS), shadow
    driver.crash()


LATE = Ruleset((trigger("late", wait=5, actions=(Action("priority", "urgent"),)),), digest="0" * 12)
NOTHING = Ruleset((), digest="1" * 12)
LEFT = {"event_id": "s-1", "ticket_id": "1", "occurred_at": "2026-03-01T10:00:01Z", "state": "inactive"}
COMES = {"event_id": "t-1", "ticket_id": "1", "occurred_at": "2026-03-01T10:00:09Z", "ticket": {"status": "open"}}


def test_a_live_round_that_ends_early_is_kept_until_the_round_of_the_shadow_ends() -> None:
    """The live rules lost the wait meanwhile, so their round ends when due; the shadow's waits for the ticket."""
    shadow = Candidate(REVISION, Rules(LATE))
    driver = Driver(Rules(LATE), SETTINGS, shadow=shadow)
    driver.pipe(Topic.SESSIONS, "1", LEFT, START_MS + 1_000)
    with_other_rules(driver, Rules(NOTHING), shadow)
    driver.advance(START_MS + 7_000)
    assert [one["outcome"] for one in driver.records() if one["type"] == "evaluation"] == ["no_match"]
    assert shadow_records(driver) == []
    driver.crash()
    driver.pipe(Topic.TICKETS, "1", COMES, START_MS + 9_000)
    (found,) = shadow_records(driver)
    assert (found["live"]["outcome"], found["shadow"]["outcome"]) == ("no_match", "commanded")
    assert own_rows(driver) == {}


def test_a_round_of_the_shadow_that_ends_early_is_kept_until_the_live_round_ends() -> None:
    driver = Driver(Rules(LATE), SETTINGS, shadow=Candidate(REVISION, Rules(LATE)))
    driver.pipe(Topic.SESSIONS, "1", LEFT, START_MS + 1_000)
    with_other_rules(driver, Rules(LATE), Candidate(REVISION, Rules(NOTHING)))
    driver.advance(START_MS + 7_000)
    assert shadow_records(driver) == []
    driver.crash()
    driver.pipe(Topic.TICKETS, "1", COMES, START_MS + 9_000)
    (found,) = shadow_records(driver)
    assert (found["live"]["outcome"], found["shadow"]["outcome"]) == ("commanded", "no_match")
    assert own_rows(driver) == {}


@given(records(), records(), rulesets(), rulesets(), rulesets())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_other_live_rules_in_the_middle_leave_each_round_counted_once(
    before: Story, after: Story, first: Ruleset, second: Ruleset, candidate: Ruleset
) -> None:
    shadow = Candidate(REVISION, Rules(candidate))
    told = []
    for beside in (shadow, None):
        forget_shapes()
        driver = Driver(Rules(first), SETTINGS, shadow=beside, **SMALL)
        for topic, key, value, timestamp in before:
            driver.pipe(topic, key, value, timestamp)
        driver.run()
        driver._engine = Engine(Rules(second), SETTINGS)
        driver.crash()
        shift = max(timestamp for *_, timestamp in before) - START_MS
        for topic, key, value, timestamp in after:
            driver.pipe(topic, key, value, timestamp + shift)
        driver.advance(END_MS)
        told.append(driver)
    both, alone = told
    assert written_by_the_live_side(both) == written_by_the_live_side(alone)
    assert own_rows(both) == {}
    lapses = [one for one in both.records() if one.get("kind") == "lapsed"]
    expected = {(one["ticket_id"], one["event_id"], one["episode"]) for one in lapses}
    rounds = {(*lapse, wait // 1000) for lapse in expected for wait in shadow.rules.waits} | sides(both).keys()
    assert sum(n for fact, n in both.facts.items() if fact[0] == SHADOW_ROUND) == len(rounds)
