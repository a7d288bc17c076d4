"""Commands that go by jobs, at the stand-in for Zendesk, without a broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable
from typing import Any

import pytest

from streams.core.model import SECOND
from streams.core.revisions import Stops
from streams.testing.zendesk.answers import no_such_record
from streams.testing.zendesk.faults import Kind
from streams.testing.zendesk.limits import Limits
from streams.zendesk.apply import jobs
from streams.zendesk.apply.results import Ending, Result
from tests.worker.kit import eventually
from tests.zendesk.commands import SOLVE, now_us
from tests.zendesk.desk import HOUR, Desk, a_desk

WITHIN = 60.0
REPLY = {"field": "reply_public", "value": "See you."}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_GATHER", 0.05)
    monkeypatch.setattr(jobs, "_FIRST_LOOK", 0.05)


PLENTY = Limits(requests_per_minute=100_000, updates_per_minute=10_000)


async def in_jobs(desk: Desk, numbers: Iterable[int], **given: Any) -> dict[int, Ending]:
    """Offer one command for each ticket to jobs, all at once; what they leave undone goes on by itself."""

    async def carry(number: int) -> Ending:
        work = desk.work(ticket=number, **given)
        return await desk.carrier.jobs.carry(work) or await desk.carrier.carry(work)

    numbers = list(numbers)
    async with asyncio.timeout(WITHIN):
        return dict(zip(numbers, await asyncio.gather(*map(carry, numbers)), strict=True))


async def all_applied(desk: Desk, count: int, carrying: Awaitable[dict[int, Ending]] | None = None) -> None:
    """Hold that so many commands, one for each ticket, are carried out once."""
    endings = await (in_jobs(desk, range(count)) if carrying is None else carrying)
    assert {ending.result for ending in endings.values()} == {Result.APPLIED}
    assert Counter(change.ticket_id for change in desk.changes) == {str(number): 1 for number in range(count)}
    desk.all_is_well()


def by_job(desk: Desk) -> set[str]:
    """The tickets that jobs have updated."""
    return {change.ticket_id for change in desk.changes if change.via == "job"}


def tickets(desk: Desk, count: int, **members: Any) -> None:
    for number in range(count):
        desk.ticket(number, **members)


async def test_what_the_quota_on_single_updates_leaves_waiting_goes_by_jobs() -> None:
    async with a_desk(limits=Limits(updates_per_minute=2, requests_per_minute=100_000, minute=600.0)) as desk:
        tickets(desk, 250, tags=["vip"])
        async with asyncio.timeout(WITHIN):
            endings = await asyncio.gather(*(desk.carry(ticket=number) for number in range(250)))
        assert Counter(ending.result for ending in endings) == {Result.APPLIED: 250}
        assert (len(desk.changes), len(by_job(desk))) == (250, 248)
        assert {tuple(ticket.tags) for ticket in desk.server.tickets} == {("abandoned_conversation", "vip")}
        assert len(desk.server.requests) < 100, "tickets and jobs are read many at a time"
        desk.all_is_well()


async def test_a_command_with_a_reply_goes_by_no_job_and_holds_up_none_that_does() -> None:
    async with a_desk(limits=Limits(updates_per_minute=1, minute=2.0)) as desk:
        tickets(desk, 4)
        assert (await desk.carry(ticket=0)).result is Result.APPLIED
        replying = asyncio.ensure_future(desk.carry(ticket=1, actions=[*SOLVE, REPLY]))
        others = await asyncio.gather(desk.carry(ticket=2), desk.carry(ticket=3))
        assert {ending.result for ending in (*others, await replying)} == {Result.APPLIED}
        assert "1" not in by_job(desk)
        desk.all_is_well()


async def test_a_command_that_expires_soon_goes_by_no_job() -> None:
    async with a_desk() as desk:
        soon = desk.work(issued_at=now_us() - HOUR + 240 * SECOND)
        assert not desk.carrier.jobs.take(soon)
        assert desk.carrier.jobs.take(desk.work())


async def test_what_a_job_that_fails_on_its_way_left_undone_is_done_by_single_updates() -> None:
    async with a_desk(limits=PLENTY) as desk:
        tickets(desk, 12)
        desk.server.jobs.die_after(3)
        await all_applied(desk, 12)
        assert len(by_job(desk)) == 3


async def test_each_ticket_of_a_job_ends_by_itself() -> None:
    """Changed while the job waits: overtaken; not to be solved: refused; deleted: gone; changed before: overtaken."""
    async with a_desk(limits=PLENTY, job_takes=0.5, required_to_solve=[55]) as desk:
        tickets(desk, 5, custom_fields={55: "x"})
        desk.server.tickets.of(0).custom_fields.clear()
        desk.server.tickets.of(4).status = "hold"
        carrying = asyncio.ensure_future(in_jobs(desk, range(5)))
        await eventually(lambda: desk.server.jobs.in_flight, WITHIN)
        desk.server.tickets.update(1, {"status": "pending"}, by="agent", via="screen")
        desk.server.tickets.delete(2)
        endings = await carrying
        told = [endings[number].result for number in range(5)]
        assert told == [Result.REFUSED, Result.OVERTAKEN, Result.GONE, Result.APPLIED, Result.OVERTAKEN]
        assert endings[0].status == 422
        assert "is required when solving a ticket" in endings[0].answer
        desk.all_is_well()


async def test_a_job_whose_answer_was_lost_is_found_in_the_audits() -> None:
    async with a_desk(limits=PLENTY) as desk:
        tickets(desk, 8)
        desk.server.faults.add(Kind.LOST, method="PUT", path="update_many")
        await all_applied(desk, 8)
        assert desk.count("GET", "audits") == 8


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("tickets/show_many", Kind.DROPPED),
        ("update_many", Kind.UNAVAILABLE),
        ("update_many", Kind.LIMITED),
        ("job_statuses", Kind.ERROR),
    ],
)
async def test_whatever_happens_to_a_request_of_a_job_each_command_is_carried_out_once(path: str, kind: Kind) -> None:
    async with a_desk(limits=PLENTY) as desk:
        tickets(desk, 6)
        desk.server.faults.add(kind, path=path, times=2, seconds=1 if kind is Kind.LIMITED else 0)
        await all_applied(desk, 6)


async def test_a_job_that_zendesk_no_longer_knows_is_found_in_the_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: str) -> Any:
        raise no_such_record()

    async with a_desk(limits=PLENTY) as desk:
        tickets(desk, 6)
        monkeypatch.setattr(desk.server.jobs, "status", unknown)
        await all_applied(desk, 6)


async def test_jobs_wait_where_the_account_takes_no_more_of_them() -> None:
    async with a_desk(limits=Limits(requests_per_minute=100_000, updates_per_minute=10_000, jobs=1)) as desk:
        tickets(desk, 250)
        await all_applied(desk, 250)
        assert desk.server.jobs.most_in_flight == 1


async def test_an_account_that_takes_no_jobs_gets_single_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise no_such_record()

    async with a_desk(limits=PLENTY) as desk:
        tickets(desk, 5)
        monkeypatch.setattr(desk.server.jobs, "queue", unknown)
        await all_applied(desk, 5)
        assert desk.count("PUT", "update_many") == 1
        assert not desk.carrier.jobs.take(desk.work())
        desk.commands.clear()


@pytest.mark.parametrize("how", ["pause", "stop"])
async def test_a_pause_or_a_stop_holds_a_job_whose_tickets_were_just_read(how: str) -> None:
    async with a_desk(limits=PLENTY) as desk:
        tickets(desk, 6)
        desk.server.faults.add(Kind.SLOW, path="show_many", seconds=0.5)
        carrying = asyncio.ensure_future(in_jobs(desk, range(6)))
        await eventually(lambda: desk.server.faults.happened, WITHIN)
        if how == "pause":
            desk.gate.pause(True)
        else:
            desk.gate.stop(Stops(ids=("solve-abandoned",)))
        await eventually(lambda: desk.count("GET", "show_many"), WITHIN)
        await desk.zendesk.get("/api/v2/tickets/count.json")  # answered after the tickets were
        assert (desk.changes, desk.count("PUT", "")) == ([], 0)
        desk.gate.pause(False)
        desk.gate.stop(Stops())
        await all_applied(desk, 6, carrying)


async def test_a_process_killed_while_its_job_waits_has_nothing_done_twice_by_the_next_one() -> None:
    """The job is carried out while the next process asks the audits, reads and updates."""
    async with a_desk(limits=PLENTY, job_takes=0.1) as desk:
        tickets(desk, 60)
        carrying = asyncio.ensure_future(in_jobs(desk, range(60)))
        await eventually(lambda: desk.server.jobs.in_flight, WITHIN)
        carrying.cancel()
        await asyncio.gather(carrying, return_exceptions=True)
        desk.commands.clear()
        next_one = asyncio.gather(*(desk.carry(ticket=number, doubt=True) for number in range(60)))
        await all_applied(desk, 60, _by_number(next_one))


async def _by_number(endings: Awaitable[list[Ending]]) -> dict[int, Ending]:
    return dict(enumerate(await endings))
