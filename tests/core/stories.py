"""Hypothesis strategies: short stories on the two inputs, small enough that everything collides with everything."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from streams.core.cycle import Rules
from streams.core.engine import EngineSettings
from streams.core.model import SECOND
from streams.core.rounds import RoundPolicy
from streams.core.triggers import Action, Condition, Operator, Ruleset, Trigger
from streams.wire import instants

START_MS = 1_772_359_200_000
TICKET_IDS = ("1", "2", "3")


def rfc3339(ms: int) -> str:
    return instants.text(ms * 1000)


def trigger(trigger_id: str, *, wait: int = 0, position: int = 1, **parts: Any) -> Trigger:
    lapsed = Condition("messaging_session_state", Operator.VALUE, "inactive")
    return Trigger(
        id=trigger_id,
        title=trigger_id.title(),
        position=position,
        wait=wait * SECOND,
        all=(lapsed, *parts.get("all", ())),
        any=parts.get("any", ()),
        actions=parts.get("actions", (Action("add_tags", [trigger_id]),)),
    )


RULESET = Ruleset(
    (
        trigger(
            "solve",
            position=2,
            all=(Condition("status", Operator.IS, "open"),),
            actions=(Action("status", "solved"), Action("add_tags", ["left"])),
        ),
        trigger("after-solve", position=1, all=(Condition("status", Operator.VALUE, "solved"),)),
        trigger("late", wait=5, position=3, actions=(Action("priority", "low"), Action("remove_tags", ["vip"]))),
        trigger("later", wait=20, position=4, actions=(Action("notification_user", ["1", "Gone"]),)),
    ),
    digest="0123456789ab",
)
RULES = Rules(RULESET)
SETTINGS = EngineSettings(rounds=RoundPolicy(join_wait=10 * SECOND), state_ttl=60 * SECOND)

_delays = st.integers(min_value=0, max_value=8_000)


@st.composite
def _ticket(draw: st.DrawFn) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if draw(st.booleans()):
        members["status"] = draw(st.sampled_from(["new", "open", "pending", "solved", "closed", None]))
    if draw(st.booleans()):
        members["priority"] = draw(st.sampled_from(["low", "high", None]))
    if draw(st.booleans()):
        members["tags"] = draw(st.sampled_from([["vip"], "vip left", [], None]))
    return {"ticket": members}


@st.composite
def _session(draw: st.DrawFn) -> dict[str, Any]:
    found = {"state": draw(st.sampled_from(["active", "open", "inactive", "inactive", "ended", "on_hold"]))}
    if found["state"] == "inactive":
        found["reason"] = draw(st.sampled_from(["user_inactive_or_offline", "agent_ended", None]))
    if draw(st.booleans()):
        found["session_id"] = draw(st.sampled_from(["a", "b"]))
    if draw(st.booleans()):
        found["channel"] = draw(st.sampled_from(["web", "ios"]))
    return found


@st.composite
def records(draw: st.DrawFn, max_size: int = 30) -> list[tuple[str, str | None, Any, int]]:
    """(topic, key, value, timestamp in ms) in the order in which they were produced; some late, doubled or broken."""
    clock, made = START_MS, []
    for number in range(draw(st.integers(min_value=1, max_value=max_size))):
        clock += draw(_delays)
        topic = draw(st.sampled_from(["ticket-updates", "session-states", "session-states"]))
        key = draw(st.sampled_from(TICKET_IDS))
        shape = draw(st.integers(min_value=0, max_value=19))
        if shape == 0:
            made.append((topic, key, None, clock))
            continue
        if shape == 1:
            made.append((topic, key, b"{broken", clock))
            continue
        if shape == 2 and made:
            made.append((*draw(st.sampled_from(made))[:3], clock))
            continue
        late = draw(st.sampled_from([0, 0, 0, 1, 4_000]))
        value = {"event_id": f"e-{number}", "ticket_id": key, "occurred_at": rfc3339(clock - late)}
        if draw(st.booleans()):
            value["sequence"] = number
        value |= draw(_ticket() if topic == "ticket-updates" else _session())
        made.append((topic, key, value, clock))
    return made
