"""The plan of the demo with Zendesk, and the account that plays it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict

from streams.demo.account import LEFT_REASON, Account
from streams.demo.customers import Act, Happening, plan
from streams.testing.zendesk.hooks import Webhooks
from streams.testing.zendesk.server import CLIENT, ZendeskServer


def test_the_same_seed_gives_the_same_plan_in_the_order_of_time():
    one, again, other = (list(plan(seed, 5, 60)) for seed in (1, 1, 2))
    assert one == again != other
    assert all(earlier.at <= later.at for earlier, later in itertools.pairwise(one))


def test_nobody_arrives_after_the_end_and_everybody_begins_by_arriving():
    visits = defaultdict(list)
    for happening in plan(1, 5, 60):
        visits[happening.ticket_id].append(happening)
    assert 200 < len(visits) < 400
    assert all(visit[0].act is Act.ARRIVE and visit[0].at <= 60 for visit in visits.values())


def test_most_leave_some_come_back_before_a_second_has_passed_and_agents_solve_some():
    visits = defaultdict(dict)
    for happening in plan(1, 20, 100):
        visits[happening.ticket_id][happening.act] = happening.at
    shapes = Counter(tuple(visit) for visit in visits.values())
    stays, gone = (Act.ARRIVE, Act.SOLVE), (Act.ARRIVE, Act.LEAVE)
    back, agent = (*gone, Act.RETURN, Act.SOLVE), (*gone, Act.SOLVE)
    assert set(shapes) == {stays, gone, back, agent}
    assert shapes[gone] > shapes.total() / 3
    assert all(visit[Act.RETURN] - visit[Act.LEAVE] < 1 for visit in visits.values() if Act.RETURN in visit)


def test_without_an_end_the_plan_goes_on():
    assert next(itertools.islice(plan(1, 100, None), 5_000, None)).at > 10


async def test_the_account_measures_from_leaving_to_a_solve_by_command_only():
    server = ZendeskServer()
    account = Account(server, Webhooks("http://127.0.0.1:1/zendesk", "s"))
    assert account.delay() is None
    for ticket_id in (1, 2, 3, 4):
        account.play(Happening(0, ticket_id, Act.ARRIVE))
    for ticket_id in (1, 2, 3):
        account.play(Happening(0, ticket_id, Act.LEAVE))
    account.play(Happening(0, 2, Act.RETURN))
    account.play(Happening(0, 3, Act.SOLVE))
    solved = asyncio.ensure_future(account.all_solved())
    await asyncio.sleep(0)
    assert not solved.done()
    server.tickets.update(1, {"status": "solved", "tags": ["gone"]}, by=CLIENT.user, via="api")
    await asyncio.wait_for(solved, 60)
    account.play(Happening(0, 1, Act.SOLVE))
    account.play(Happening(0, 1, Act.RETURN))
    assert len(account.delays) == 1
    assert account.solvers == {"agent": 1, CLIENT.user: 1}
    assert account.statuses == {"solved": 2, "open": 2}
    assert (account.left, account.back) == (3, 1)
    lines = [(ticket, word) for _, ticket, word, _ in account.take_lines()]
    assert lines == [
        ("1", "left"),
        ("2", "left"),
        ("3", "left"),
        ("2", "came back"),
        ("3", "by agent"),
        ("1", "solved"),
    ]
    assert list(account.take_lines()) == []
    assert LEFT_REASON == "User inactive or offline", "the label of the condition in Zendesk"
