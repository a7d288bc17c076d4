"""Carrying single commands out at the stand-in for Zendesk, without a broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from streams.core.errors import Failed, Refused
from streams.core.model import SECOND
from streams.core.revisions import Stops
from streams.testing.zendesk.faults import Kind
from streams.testing.zendesk.limits import Limits
from streams.testing.zendesk.server import CLIENT
from streams.zendesk.apply import client as client_module
from streams.zendesk.apply.results import Ending, Result
from tests.worker.kit import eventually
from tests.zendesk.commands import now_us
from tests.zendesk.desk import HOUR, OLD, Desk, a_desk

WITHIN = 60.0


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with a_desk() as found:
        yield found
        found.all_is_well()


async def test_a_command_is_one_update_with_its_id_in_the_metadata(desk: Desk) -> None:
    ticket = desk.ticket(tags=["vip"])
    ending = await desk.carry()
    assert ending == Ending(Result.APPLIED, 200)
    assert (ticket.status, ticket.tags) == ("solved", ["abandoned_conversation", "vip"])
    assert [change.command_id for change in desk.changes] == [desk.commands[0]["command_id"]]
    assert (desk.count("GET", "tickets/1.json"), desk.count("PUT", "tickets/1.json")) == (1, 1)


async def test_the_ticket_field_that_is_configured_gets_the_commands_id() -> None:
    async with a_desk(command_field="77") as desk:
        ticket = desk.ticket()
        assert (await desk.carry()).result is Result.APPLIED
        assert ticket.custom_fields == {77: desk.commands[0]["command_id"]}


async def test_a_ticket_with_another_value_than_expected_is_not_touched(desk: Desk) -> None:
    desk.ticket(status="pending")
    assert (await desk.carry()).result is Result.OVERTAKEN
    assert desk.count("PUT", "") == 0


@pytest.mark.parametrize("how", ["closed", "deleted", "never there"])
async def test_a_closed_or_deleted_ticket_is_gone(desk: Desk, how: str) -> None:
    if how != "never there":
        desk.ticket(status="closed" if how == "closed" else "open", deleted=how == "deleted")
    ending = await desk.carry()
    assert (ending.result, ending.status) == (Result.GONE, 200 if how == "closed" else 404)


async def test_a_ticket_that_is_closed_after_it_was_read_is_gone(desk: Desk) -> None:
    ticket = desk.ticket()
    desk.server.faults.add(Kind.COLLISION, method="PUT")

    async def close() -> None:
        await eventually(lambda: desk.server.faults.happened, WITHIN)
        ticket.status = "closed"

    ending, _ = await asyncio.gather(desk.carry(), close())
    assert ending.result is Result.GONE


async def test_what_zendesk_does_not_take_is_refused_with_its_answer() -> None:
    async with a_desk(required_to_solve=[55]) as desk:
        desk.ticket()
        ending = await desk.carry()
        assert (ending.result, ending.status) == (Result.REFUSED, 422)
        assert "is required when solving a ticket" in ending.answer


async def test_a_ticket_that_the_client_may_not_see_is_refused_and_others_go_on(desk: Desk) -> None:
    desk.ticket(1, forbidden=True)
    desk.ticket(2)
    ending = await desk.carry(ticket=1)
    assert (ending.result, ending.status) == (Result.REFUSED, 403)
    assert (await desk.carry(ticket=2)).result is Result.APPLIED


async def test_a_token_that_gets_403_everywhere_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SCOPES", ("tickets:read", "tickets:writ"))
    async with a_desk() as desk:
        desk.ticket()
        with pytest.raises(Failed, match=r"read no ticket at all \(403\).*tickets:write"):
            await desk.carry()


async def test_a_client_that_may_only_read_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SCOPES", ("tickets:read",))
    async with a_desk() as desk:
        desk.ticket()
        with pytest.raises(Failed, match=r"update no ticket at all"):
            await desk.carry()


@pytest.mark.parametrize("wrong", [{"secret": "x"}, {"client": "nobody"}])
async def test_a_wrong_client_is_refused_with_what_to_check_and_without_the_secret(wrong: dict[str, str]) -> None:
    async with a_desk(**wrong) as desk:
        with pytest.raises(Refused, match="zendesk_client_secret") as error:
            await desk.zendesk.sign_in()
        assert CLIENT.secret not in str(error.value)


async def test_another_server_than_zendesks_api_stops_everything(desk: Desk) -> None:
    """A wrong subdomain answers 404 too, and no ticket is gone because of it."""
    work = desk.work()
    with pytest.raises(Failed, match="zendesk_subdomain"):
        desk.carrier.reader.refusal(await desk.zendesk.get("/api/v2/nothing.json"))
    desk.commands.remove(desk.commands[-1])
    assert work.command.ticket_id == "1"


async def test_a_401_renews_the_token_once(desk: Desk) -> None:
    desk.ticket(1)
    desk.ticket(2)
    assert (await desk.carry(ticket=1)).result is Result.APPLIED
    desk.server.tokens.revoke_all()
    assert (await desk.carry(ticket=2)).result is Result.APPLIED
    assert desk.server.tokens.issued == 2


async def test_a_token_is_renewed_before_it_ends() -> None:
    async with a_desk(limits=Limits(token_seconds=600)) as desk:
        desk.ticket()
        began = time.monotonic()
        await desk.zendesk.sign_in()
        assert desk.zendesk._renew_at <= time.monotonic() + 540
        assert desk.zendesk._renew_at >= began + 540
        desk.zendesk._renew_at = began  # the time has come
        assert (await desk.carry()).result is Result.APPLIED
        assert desk.server.tokens.issued == 2
        assert all(status != 401 for _, _, status in desk.server.requests)


async def test_a_token_that_is_refused_right_after_it_was_given_out_stops_everything(desk: Desk) -> None:
    desk.ticket()
    await desk.zendesk.sign_in()
    user_of = desk.server.tokens.user_of
    desk.server.tokens.user_of = lambda _, needed, now: user_of("Bearer x", needed, now)  # type: ignore[method-assign]
    with pytest.raises(Failed, match="401"):
        await desk.carry()


@pytest.mark.parametrize("kind", [Kind.UNAVAILABLE, Kind.ERROR, Kind.LIMITED, Kind.COLLISION, Kind.DROPPED, Kind.LOST])
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_whatever_happens_to_a_request_the_command_is_carried_out_once(
    desk: Desk, kind: Kind, method: str
) -> None:
    ticket = desk.ticket()
    desk.server.faults.add(kind, method=method, times=2, seconds=1 if kind is Kind.LIMITED else 0)
    reply = {"field": "reply_public", "value": "See you."}
    ending = await desk.carry(actions=[{"field": "status", "value": "solved"}, reply])
    assert ending.result is Result.APPLIED
    assert ticket.status == "solved"
    assert len(desk.changes) == 1, "no reply is written twice"


async def test_an_update_whose_answer_was_lost_is_found_in_the_audits(desk: Desk) -> None:
    desk.ticket()
    for number in range(130):
        desk.server.tickets.update(1, {"subject": f"{number}"}, by="agent", via="screen")
    desk.server.tickets.of(1).updated_at = OLD
    desk.server.faults.add(Kind.LOST, method="PUT", times=5)
    assert (await desk.carry()).result is Result.APPLIED
    assert len(desk.changes) == 1
    assert desk.count("GET", "audits") >= 2, "they were read page by page"


async def test_after_a_conflict_the_ticket_is_judged_anew() -> None:
    async with a_desk(stamp_step=1) as desk:
        ticket = desk.ticket()
        desk.server.faults.add(Kind.SLOW, method="GET", path="tickets/1.json", seconds=0.5)

        async def change() -> None:
            await eventually(lambda: desk.server.faults.happened, WITHIN)
            desk.server.tickets.update(1, {"status": "pending"}, by="agent", via="screen")

        ending, _ = await asyncio.gather(desk.carry(), change())
        assert (ending.result, ticket.status) == (Result.OVERTAKEN, "pending")
        desk.all_is_well()


async def test_a_ticket_changed_this_very_second_is_read_again_because_stamps_have_whole_seconds(desk: Desk) -> None:
    now = now_us()
    desk.ticket(updated_at=now - now % SECOND)
    assert (await desk.carry()).result is Result.APPLIED
    assert desk.count("GET", "tickets/1.json") >= 2


async def test_a_command_that_a_process_before_may_have_sent_is_looked_for_first(desk: Desk) -> None:
    desk.ticket()
    assert (await desk.carry()).result is Result.APPLIED
    again = await desk.carry(doubt=True)
    assert again == Ending(Result.APPLIED, 200)
    assert (desk.count("PUT", ""), desk.count("GET", "audits")) == (1, 1)


async def test_an_update_that_is_carried_out_late_is_found_before_its_command_ends_as_overtaken(desk: Desk) -> None:
    """A process before sent it; it arrives after the audits were read, and before the ticket is."""
    desk.ticket()
    work = desk.work(doubt=True)
    desk.server.faults.add(Kind.SLOW, path="audits", seconds=0.5)
    carrying = asyncio.ensure_future(desk.carrier.carry(work))
    await eventually(lambda: desk.server.faults.happened, WITHIN)
    late = {"status": "solved", "metadata": {"command_id": work.command.command_id}}
    desk.server.tickets.update(1, late, by="lapse", via="api")
    assert (await carrying).result is Result.APPLIED
    assert len(desk.changes) == 1


async def test_a_command_older_than_the_limit_expires_and_is_not_looked_at(desk: Desk) -> None:
    desk.ticket()
    assert await desk.carry(issued_at=now_us() - HOUR - SECOND) == Ending(
        Result.EXPIRED, why="it is older than apply_max_age"
    )
    assert desk.server.requests == []


async def test_a_command_in_doubt_is_looked_for_even_when_it_is_too_old(desk: Desk) -> None:
    desk.ticket()
    old = now_us() - HOUR + 20 * SECOND
    assert (await desk.carry(issued_at=old)).result is Result.APPLIED
    work = desk.work(issued_at=old - HOUR, doubt=True)
    assert (await desk.carrier.carry(work)).result is Result.APPLIED


@pytest.mark.parametrize("how", ["pause", "stop", "stop all"])
async def test_a_pause_or_a_stop_holds_a_command_until_it_ends(desk: Desk, how: str) -> None:
    desk.ticket(1)
    desk.ticket(2)
    if how == "pause":
        desk.gate.pause(True)
    else:
        desk.gate.stop(Stops(everything=how == "stop all", ids=("solve-abandoned",)))
    carrying = asyncio.ensure_future(desk.carry(ticket=1))
    other = asyncio.ensure_future(desk.carry(ticket=2, trigger="another"))
    if how == "stop":
        assert (await other).result is Result.APPLIED, "only commands that name the trigger are held"
    else:
        await asyncio.sleep(0)
        assert not other.done()
    assert not carrying.done()
    assert desk.count("PUT", "tickets/1") == 0
    desk.gate.pause(False)
    desk.gate.stop(Stops())
    assert (await carrying).result is Result.APPLIED
    assert (await other).result is Result.APPLIED


async def test_a_command_that_is_held_too_long_expires(desk: Desk) -> None:
    desk.ticket()
    desk.gate.pause(True)
    assert (await desk.carry(issued_at=now_us() - HOUR + SECOND // 2)).result is Result.EXPIRED


async def test_a_ticket_that_is_over_its_own_limit_waits_and_others_go_on() -> None:
    async with a_desk(limits=Limits(updates_per_ticket=1, ticket_span=4)) as desk:
        desk.ticket(1)
        desk.ticket(2)
        await desk.carry(ticket=1)
        first = asyncio.ensure_future(
            desk.carry(ticket=1, actions=[{"field": "priority", "value": "low"}], expected={}, episode=2)
        )
        assert (await desk.carry(ticket=2)).result is Result.APPLIED
        assert not first.done()
        assert (await first).result is Result.APPLIED


async def test_nothing_is_sent_over_the_accounts_quota() -> None:
    async with a_desk(limits=Limits(updates_per_minute=5, minute=3.0)) as desk:
        for number in range(12):
            desk.ticket(number)
        endings = await asyncio.gather(*(desk.carry(ticket=number) for number in range(12)))
        assert {ending.result for ending in endings} == {Result.APPLIED}
        assert sum(used.refused for used in desk.server.quotas.updates.history) == 0
