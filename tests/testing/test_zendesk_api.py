"""The stand-in for Zendesk's ticket API behaves as documented. Each test names the page that says so.

Pages of developer.zendesk.com, under `api-reference/ticketing` unless said otherwise:

- *Tickets*: `tickets/tickets`; *Audits*: `tickets/ticket_audits`; *Jobs*: `ticket-management/job_statuses`
- *Rate limits*: `introduction/rate-limits`; *OAuth*: `oauth/grant_type_tokens`
- *Updating*: `documentation/ticketing/managing-tickets/creating-and-updating-tickets`
- *Tags*: `documentation/ticketing/managing-tickets/adding-tags-to-tickets-without-overwriting-existing-tags`
- *Native rules*: support.zendesk.com, article 4408894213018
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from streams.core.model import MILLISECOND
from streams.testing.zendesk import checks
from streams.testing.zendesk.faults import Kind
from streams.testing.zendesk.jobs import KEPT
from streams.testing.zendesk.limits import Limits
from streams.testing.zendesk.server import CLIENT, ZendeskServer
from streams.testing.zendesk.tokens import LONGEST, SHORTEST

START = 1_772_359_200.0  # 2026-03-01T10:00:00Z


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Account:
    """A client of the stand-in, with a token."""

    def __init__(self, server: ZendeskServer, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.server = server
        self.clock = clock
        self._session = session
        self.token = ""

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any, Any]:
        """Return status, body (JSON or text) and headers."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self._session.request(
            method, self.server.url + path, json=body, headers=headers, **options
        ) as answer:
            return (
                answer.status,
                await (answer.json() if "json" in answer.content_type else answer.text()),
                answer.headers,
            )

    async def get(self, path: str, **options: Any) -> tuple[int, Any, Any]:
        return await self.call("GET", path, **options)

    async def put(self, ticket_id: int, **ticket: Any) -> tuple[int, Any, Any]:
        return await self.call("PUT", f"/api/v2/tickets/{ticket_id}.json", {"ticket": ticket})

    async def ask_for_a_token(self, **changed: Any) -> tuple[int, Any, Any]:
        asked = {
            "grant_type": "client_credentials",
            "client_id": CLIENT.client_id,
            "client_secret": CLIENT.secret,
            "scope": "tickets:read tickets:write",
        }
        return await self.call("POST", "/oauth/tokens", {**asked, **changed})

    async def sign_in(self, **changed: Any) -> None:
        status, body, _ = await self.ask_for_a_token(**changed)
        assert status == 200
        self.token = body["access_token"]

    async def job_done(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has ended; return its status."""
        async with asyncio.timeout(60):
            while True:
                status, body, _ = await self.get(f"/api/v2/job_statuses/{job_id}.json")
                assert status == 200
                if body["job_status"]["status"] in ("completed", "failed"):
                    return body["job_status"]
                await asyncio.sleep(0.01)


@asynccontextmanager
async def an_account(**options: Any) -> AsyncIterator[Account]:
    clock = Clock()
    async with ZendeskServer(now=clock, **options) as server, aiohttp.ClientSession() as session:
        session._retry_connection = False  # as aiohttp's own test client: a request that is cut is not sent again
        account = Account(server, session, clock)
        await account.sign_in()
        yield account


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    async with an_account() as found:
        yield found


# --- OAuth -----------------------------------------------------------------------------------------------------------


async def test_a_token_lasts_thirty_minutes_and_then_gives_401_and_there_is_no_refresh_token(account: Account) -> None:
    """OAuth, *expires_in*."""
    status, body, _ = await account.ask_for_a_token()
    assert (status, body["token_type"], body["expires_in"]) == (200, "bearer", 1_800)
    assert "refresh_token" not in body
    account.server.tickets.make(1)
    account.token = body["access_token"]
    account.clock.now += 1_799
    assert (await account.get("/api/v2/tickets/1.json"))[0] == 200
    account.clock.now += 1
    status, body, _ = await account.get("/api/v2/tickets/1.json")
    assert (status, body["error"]) == (401, "invalid_token")


@pytest.mark.parametrize(
    ("asked", "status"), [(SHORTEST - 1, 400), (SHORTEST, 200), (LONGEST, 200), (LONGEST + 1, 400), ("soon", 400)]
)
async def test_a_lifetime_is_from_five_minutes_to_two_days(account: Account, asked: Any, status: int) -> None:
    """OAuth, *expires_in*: 300 to 172,800 seconds."""
    got, body, _ = await account.ask_for_a_token(expires_in=asked)
    assert got == status
    assert body.get("expires_in") == asked if status == 200 else body["error"] == "invalid_request"


@pytest.mark.parametrize("wrong", [{"client_secret": "x"}, {"client_id": "nobody"}, {"client_secret": None}])
async def test_a_wrong_client_is_401_in_the_shape_of_oauth(account: Account, wrong: dict[str, Any]) -> None:
    """RFC 6749, section 5.2, which OAuth follows."""
    status, body, _ = await account.ask_for_a_token(**wrong)
    assert (status, body["error"], set(body)) == (401, "invalid_client", {"error", "error_description"})


async def test_another_grant_is_refused(account: Account) -> None:
    """OAuth: the password grant and the implicit one are gone."""
    status, body, _ = await account.ask_for_a_token(grant_type="password")
    assert (status, body["error"]) == (400, "unsupported_grant_type")


async def test_a_form_is_taken_as_well_as_json(account: Account) -> None:
    """RFC 6749, section 4.4.2; OAuth shows JSON."""
    form = {"grant_type": "client_credentials", "client_id": CLIENT.client_id, "client_secret": CLIENT.secret}
    account.token = ""
    status, body, _ = await account.call("POST", "/oauth/tokens", data=form)
    assert (status, body["scope"]) == (200, "read write")


async def test_an_unknown_scope_gives_a_token_that_gets_403_everywhere(account: Account) -> None:
    """OAuth, *scope*."""
    account.server.tickets.make(1)
    await account.sign_in(scope="tickets:read tickets:wirte")
    status, body, _ = await account.get("/api/v2/tickets/1.json")
    assert (status, body["error"]["title"]) == (403, "Forbidden")


async def test_a_scope_to_read_does_not_write(account: Account) -> None:
    """OAuth, *scope*."""
    account.server.tickets.make(1)
    await account.sign_in(scope="tickets:read")
    assert (await account.get("/api/v2/tickets/1.json"))[0] == 200
    assert (await account.put(1, status="solved"))[0] == 403
    assert account.server.tickets.of(1).status == "open"


async def test_tokens_end_when_the_creator_of_the_client_is_gone(account: Account) -> None:
    """OAuth: use a service user for the client."""
    account.server.tickets.make(1)
    account.server.tokens.revoke_all()
    assert (await account.get("/api/v2/tickets/1.json"))[0] == 401


async def test_me_answers_200_to_strangers(account: Account) -> None:
    """*Users*, `users/me`: an anonymous user, so it tells nothing about a token."""
    account.token = ""
    status, body, _ = await account.get("/api/v2/users/me.json")
    assert (status, body["user"]["id"]) == (200, None)
    assert (await account.get("/api/v2/tickets/1.json"))[1] == {"error": "Couldn't authenticate you"}


# --- tickets ---------------------------------------------------------------------------------------------------------


async def test_a_ticket_is_shown_with_ids_as_numbers_and_times_in_whole_seconds(account: Account) -> None:
    """*Tickets*, JSON format."""
    account.clock.now += 0.75
    account.server.tickets.make(5158, tags=["vip", "router"], custom_fields={11: "x"}, group_id=360)
    status, body, _ = await account.get("/api/v2/tickets/5158.json")
    ticket = body["ticket"]
    assert (status, ticket["id"], ticket["group_id"], ticket["status"]) == (200, 5158, 360, "open")
    assert ticket["tags"] == ["router", "vip"]
    assert ticket["custom_fields"] == [{"id": 11, "value": "x"}]
    assert ticket["updated_at"] == "2026-03-01T10:00:00Z"


async def test_an_update_answers_with_the_ticket_and_its_audit(account: Account) -> None:
    """*Tickets*, Update Ticket."""
    account.server.tickets.make(1)
    account.clock.now += 60
    status, body, _ = await account.put(1, status="solved", priority="low", metadata={"command_id": "c-1"})
    assert (status, body["ticket"]["status"], body["ticket"]["priority"]) == (200, "solved", "low")
    assert body["ticket"]["updated_at"] == "2026-03-01T10:01:00Z"
    assert body["audit"]["metadata"]["custom"] == {"command_id": "c-1"}
    changed = {event["field_name"]: (event["previous_value"], event["value"]) for event in body["audit"]["events"]}
    assert changed == {"status": ("open", "solved"), "priority": (None, "low")}


async def test_tags_in_an_update_replace_all_tags(account: Account) -> None:
    """*Tags*."""
    account.server.tickets.make(1, tags=["vip", "router"])
    await account.put(1, tags=["abandoned"])
    assert account.server.tickets.of(1).tags == ["abandoned"]
    await account.put(1, tags="b a b")
    assert account.server.tickets.of(1).tags == ["a", "b"]


async def test_adding_and_removing_tags_means_nothing_to_the_update_of_one_ticket(account: Account) -> None:
    """*Tags* documents `additional_tags` and `remove_tags` for `update_many` only."""
    account.server.tickets.make(1, tags=["vip"])
    await account.put(1, additional_tags=["a"], remove_tags=["vip"])
    assert account.server.tickets.of(1).tags == ["vip"]


async def test_the_tags_of_a_ticket_are_added_to_replaced_and_removed_by_a_path_of_their_own(account: Account) -> None:
    """*Tags*, and the reference of tags: PUT adds, POST replaces, DELETE removes; each can be a safe update."""
    account.server.tickets.make(1, tags=["vip"])
    path = "/api/v2/tickets/1/tags.json"
    assert (await account.call("PUT", path, {"tags": ["a", "b"]}))[:2] == (200, {"tags": ["a", "b", "vip"]})
    assert (await account.call("DELETE", path, {"tags": ["vip"]}))[:2] == (200, {"tags": ["a", "b"]})
    assert (await account.call("POST", path, {"tags": ["c"]}))[:2] == (201, {"tags": ["c"]})
    account.clock.now += 1
    account.server.tickets.update(1, {"priority": "high"}, by="agent", via="screen")
    late = {"tags": ["d"], "safe_update": "true", "updated_stamp": "2026-03-01T10:00:00Z"}
    assert (await account.call("PUT", path, late))[0] == 409
    assert account.server.tickets.of(1).tags == ["c"]


async def test_several_tickets_are_shown_at_once_without_those_that_are_not_there(account: Account) -> None:
    """*Tickets*, Show Multiple Tickets: up to 100."""
    for ticket_id in (1, 2, 3):
        account.server.tickets.make(ticket_id)
    account.server.tickets.delete(2)
    status, body, _ = await account.get("/api/v2/tickets/show_many.json?ids=1,2,3,4")
    assert (status, [ticket["id"] for ticket in body["tickets"]], body["count"]) == (200, [1, 3], 2)
    assert account.server.quotas.requests.history[-1].passed == 1, "one request"
    many = ",".join(str(number) for number in range(1, 102))
    assert (await account.get(f"/api/v2/tickets/show_many.json?ids={many}"))[0] == 400


async def test_tickets_are_counted_and_an_answer_has_its_date(account: Account) -> None:
    """*Tickets*, Count Tickets."""
    account.server.tickets.make(1)
    account.server.tickets.make(2)
    account.server.tickets.delete(2)
    status, body, headers = await account.get("/api/v2/tickets/count.json")
    assert (status, body["count"]["value"]) == (200, 1)
    assert headers["Date"] == "Sun, 01 Mar 2026 10:00:00 GMT"


async def test_custom_fields_are_set_by_id_and_the_others_stay(account: Account) -> None:
    """*Tickets*, Setting custom field values."""
    account.server.tickets.make(1, custom_fields={11: "x", 12: "y"})
    await account.put(1, custom_fields=[{"id": 12, "value": "z"}])
    assert account.server.tickets.of(1).custom_fields == {11: "x", 12: "z"}


async def test_a_comment_is_public_unless_it_says_otherwise(account: Account) -> None:
    """*Updating*, Adding a comment."""
    account.server.tickets.make(1)
    await account.put(1, comment={"body": "Are you still there?"})
    await account.put(1, comment={"body": "Gone.", "public": False})
    told = [change.comment for change in account.server.tickets.changes]
    assert told == [{"body": "Are you still there?", "public": True}, {"body": "Gone.", "public": False}]


async def test_a_deleted_ticket_and_an_unknown_one_are_404_of_the_record(account: Account) -> None:
    """*Tickets*, Delete Ticket; the other 404 is that of the path."""
    account.server.tickets.make(1)
    account.server.tickets.delete(1)
    for ticket_id in (1, 2):
        for status, body, _ in (await account.get(f"/api/v2/tickets/{ticket_id}.json"), await account.put(ticket_id)):
            assert (status, body) == (404, {"error": "RecordNotFound", "description": "Not found"})
    status, body, _ = await account.get("/api/v2/no_such_thing.json")
    assert (status, body["error"]) == (404, "InvalidEndpoint")


async def test_a_closed_ticket_keeps_all_but_tags_subject_and_priority(account: Account) -> None:
    """*Native rules*; the words are those of issue 59 of Speedygeek/ZendeskApi_v2."""
    account.server.tickets.make(1, status="closed")
    status, body, _ = await account.put(1, status="open")
    assert (status, body["error"]) == (422, "RecordInvalid")
    assert "closed prevents ticket update" in body["details"]["status"][0]["description"]
    assert (await account.put(1, tags=["seen"], priority="low"))[0] == 200


async def test_a_ticket_is_not_solved_without_assignee_and_required_fields() -> None:
    """*Native rules*; the shape is that of issue 114 of facetoe/zenpy."""
    async with an_account(required_to_solve=[77]) as account:
        account.server.tickets.make(1, assignee_id=None)
        status, body, _ = await account.put(1, status="solved")
        assert status == 422
        assert [one.get("ticket_field_id") for one in body["details"]["base"]] == [None, 77]
        status, _, _ = await account.put(1, status="solved", assignee_id=5, custom_fields=[{"id": 77, "value": "y"}])
        assert status == 200


async def test_a_ticket_never_returns_to_new_and_an_assignee_opens_it(account: Account) -> None:
    """*Native rules*."""
    account.server.tickets.make(1)
    assert (await account.put(1, status="new"))[0] == 422
    account.server.tickets.make(2, status="new", assignee_id=None)
    await account.put(2, assignee_id=5)
    assert account.server.tickets.of(2).status == "open"


@pytest.mark.parametrize("wrong", [{"status": "gone"}, {"priority": "soon"}, {"type": "x"}, {"group_id": "x"}])
async def test_a_value_that_does_not_exist_is_422_and_changes_nothing(account: Account, wrong: dict[str, Any]) -> None:
    """*Tickets*, JSON format: allowed values."""
    account.server.tickets.make(1)
    status, body, _ = await account.put(1, subject="other", **wrong)
    assert (status, list(body["details"])) == (422, list(wrong))
    assert account.server.tickets.changes == []


async def test_a_ticket_out_of_reach_is_403_of_another_shape(account: Account) -> None:
    """*Introduction*, errors: here `error` is an object."""
    account.server.tickets.make(1, forbidden=True)
    for status, body, _ in (await account.get("/api/v2/tickets/1.json"), await account.put(1, status="solved")):
        assert (status, set(body["error"])) == (403, {"title", "message"})


# --- safe updates ----------------------------------------------------------------------------------------------------


async def test_a_safe_update_with_an_old_stamp_is_409_and_changes_nothing(account: Account) -> None:
    """*Updating*, Protecting against ticket update collisions."""
    account.server.tickets.make(1)
    seen = (await account.get("/api/v2/tickets/1.json"))[1]["ticket"]["updated_at"]
    account.clock.now += 1
    account.server.tickets.update(1, {"priority": "high"}, by="agent", via="screen")
    status, body, _ = await account.put(1, status="solved", safe_update=True, updated_stamp=seen)
    assert (status, body["error"]) == (409, "UpdateConflict")
    assert account.server.tickets.of(1).status == "open"
    fresh = (await account.get("/api/v2/tickets/1.json"))[1]["ticket"]["updated_at"]
    assert (await account.put(1, status="solved", safe_update=True, updated_stamp=fresh))[0] == 200


async def test_safe_update_false_counts_as_true(account: Account) -> None:
    """*Updating*: any value of the member turns the check on."""
    account.server.tickets.make(1)
    account.clock.now += 1
    account.server.tickets.update(1, {"priority": "high"}, by="agent", via="screen")
    status, _, _ = await account.put(1, status="solved", safe_update=False, updated_stamp="2026-03-01T10:00:00Z")
    assert status == 409


async def test_a_safe_update_needs_a_stamp_and_a_stamp_alone_is_no_safe_update(account: Account) -> None:
    """*Updating*: both members go together."""
    account.server.tickets.make(1)
    assert (await account.put(1, status="solved", safe_update=True))[0] == 400
    account.clock.now += 1
    account.server.tickets.update(1, {"priority": "high"}, by="agent", via="screen")
    assert (await account.put(1, status="solved", updated_stamp="2026-03-01T10:00:00Z"))[0] == 200


async def test_two_changes_within_a_second_have_one_stamp_unless_a_finer_one_is_asked_for() -> None:
    """*Tickets*: `updated_at` has whole seconds, so a safe update does not see the second change."""
    for step, status in ((1_000_000, 200), (MILLISECOND, 409)):
        async with an_account(stamp_step=step) as account:
            account.server.tickets.make(1)
            seen = (await account.get("/api/v2/tickets/1.json"))[1]["ticket"]["updated_at"]
            account.clock.now += 0.5
            account.server.tickets.update(1, {"priority": "high"}, by="agent", via="screen")
            assert (await account.put(1, status="solved", safe_update=True, updated_stamp=seen))[0] == status


# --- audits ----------------------------------------------------------------------------------------------------------


async def test_audits_come_in_pages_by_number_with_the_metadata_of_each_update(account: Account) -> None:
    """*Audits*, and *Introduction*, offset pagination."""
    account.server.tickets.make(1)
    for number in range(5):
        await account.put(1, tags=[f"t{number}"], metadata={"command_id": f"c-{number}"})
    seen, url = [], "/api/v2/tickets/1/audits.json?per_page=2"
    while url:
        status, body, _ = await account.get(url)
        assert (status, body["count"]) == (200, 5)
        seen += [audit["metadata"]["custom"]["command_id"] for audit in body["audits"]]
        url = (body["next_page"] or "").removeprefix(account.server.url)
    assert seen == ["c-0", "c-1", "c-2", "c-3", "c-4"]


async def test_audits_come_in_pages_by_cursor_too(account: Account) -> None:
    """*Audits*, and *Introduction*, cursor pagination."""
    account.server.tickets.make(1)
    for number in range(5):
        await account.put(1, tags=[f"t{number}"], metadata={"command_id": f"c-{number}"})
    seen, url, pages = [], "/api/v2/tickets/1/audits.json?page[size]=2", 0
    while url:
        _, body, _ = await account.get(url)
        seen += [audit["metadata"]["custom"]["command_id"] for audit in body["audits"]]
        assert body["meta"]["has_more"] is (body["links"]["next"] is not None)
        url = (body["links"]["next"] or "").removeprefix(account.server.url)
        pages += 1
    assert (seen, pages) == (["c-0", "c-1", "c-2", "c-3", "c-4"], 3)


async def test_a_persons_change_is_an_audit_without_metadata_of_ours(account: Account) -> None:
    """*Audits*: `via` tells how, `metadata.custom` is what an API client sent."""
    account.server.tickets.make(1)
    account.server.tickets.update(1, {"status": "pending"}, by="agent", via="screen")
    (audit,) = (await account.get("/api/v2/tickets/1/audits.json"))[1]["audits"]
    assert (audit["via"]["channel"], audit["metadata"]["custom"], audit["author_id"]) == ("web", {}, "agent")


# --- quotas ----------------------------------------------------------------------------------------------------------


async def test_requests_beyond_the_quota_are_429_in_plain_text_with_the_seconds_to_wait() -> None:
    """*Rate limits*."""
    async with an_account(limits=Limits(requests_per_minute=3)) as account:
        account.server.tickets.make(1)
        left = [(await account.get("/api/v2/tickets/1.json"))[2]["ratelimit-remaining"] for _ in range(3)]
        assert left == ["2", "1", "0"]
        account.clock.now += 20
        status, body, headers = await account.get("/api/v2/tickets/1.json")
        assert (status, headers["Retry-After"], headers["ratelimit-reset"]) == (429, "40", "40")
        assert body == "Number of allowed API requests per minute exceeded"
        account.clock.now += 40
        assert (await account.get("/api/v2/tickets/1.json"))[0] == 200
        assert [(used.passed, used.refused) for used in account.server.quotas.requests.history] == [(3, 1), (1, 0)]


async def test_updates_have_a_quota_of_their_own_and_a_header_that_tells_it() -> None:
    """*Rate limits*, Update Ticket: `Zendesk-RateLimit-tickets-update`."""
    async with an_account(limits=Limits(updates_per_minute=2)) as account:
        for ticket_id in (1, 2, 3):
            account.server.tickets.make(ticket_id)
        told = [(await account.put(one, status="solved"))[2]["Zendesk-RateLimit-tickets-update"] for one in (1, 2)]
        assert told == ["total=2; remaining=1; resets=60", "total=2; remaining=0; resets=60"]
        status, body, headers = await account.put(3, status="solved")
        assert (status, headers["Retry-After"], isinstance(body, str)) == (429, "60", True)
        assert headers["Zendesk-RateLimit-tickets-update"] == "total=2; remaining=0; resets=60"
        assert account.server.tickets.of(3).status == "open"
        assert (await account.get("/api/v2/tickets/3.json"))[0] == 200, "reading has another quota"


async def test_a_ticket_is_updated_thirty_times_in_ten_minutes() -> None:
    """*Rate limits*, Update Ticket: 30 updates in 10 minutes, for each user and ticket."""
    async with an_account() as account:
        account.server.tickets.make(1)
        account.server.tickets.make(2)
        for number in range(30):
            assert (await account.put(1, tags=[str(number)]))[0] == 200
        account.clock.now += 60
        status, _, headers = await account.put(1, tags=["more"])
        assert (status, headers["Retry-After"]) == (429, "540")
        assert (await account.put(2, tags=["more"]))[0] == 200
        account.clock.now += 540
        assert (await account.put(1, tags=["more"]))[0] == 200


# --- jobs ------------------------------------------------------------------------------------------------------------


async def test_a_job_makes_different_changes_and_tells_of_each_ticket(account: Account) -> None:
    """*Tickets*, Update Many Tickets; *Jobs*, Bulk update."""
    account.server.tickets.make(1)
    account.server.tickets.make(2, status="closed")
    many = [
        {"id": 1, "status": "solved", "metadata": {"command_id": "c-1"}},
        {"id": 2, "status": "solved"},
        {"id": 3, "status": "solved"},
    ]
    status, body, _ = await account.call("PUT", "/api/v2/tickets/update_many.json", {"tickets": many})
    assert (status, body["job_status"]["total"]) == (200, 3)
    job = await account.job_done(body["job_status"]["id"])
    assert (job["status"], job["progress"]) == ("completed", 3)
    results = [(one["index"], one["id"], one["success"], one["status"], one.get("error")) for one in job["results"]]
    assert results == [
        (0, 1, True, "Updated", None),
        (1, 2, False, "Failed", "RecordInvalid"),
        (2, 3, False, "Failed", "RecordNotFound"),
    ]
    (change,) = account.server.tickets.changes
    assert (change.via, change.command_id, account.server.tickets.of(1).status) == ("job", "c-1", "solved")


async def test_with_ids_one_change_goes_to_many_and_tags_are_added_and_removed(account: Account) -> None:
    """*Tags*: `additional_tags` and `remove_tags` with `update_many`."""
    for ticket_id in (1, 2):
        account.server.tickets.make(ticket_id, tags=["vip", f"t{ticket_id}"])
    one = {"ticket": {"additional_tags": ["gone"], "remove_tags": ["vip"], "status": "solved"}}
    _, body, _ = await account.call("PUT", "/api/v2/tickets/update_many.json?ids=1,2", one)
    await account.job_done(body["job_status"]["id"])
    assert [(account.server.tickets.of(n).tags, account.server.tickets.of(n).status) for n in (1, 2)] == [
        (["gone", "t1"], "solved"),
        (["gone", "t2"], "solved"),
    ]


async def test_a_job_is_a_safe_update_from_when_it_was_queued() -> None:
    """*Updating*: jobs are always safe updates; the stamp defaults to the time of queueing."""
    async with an_account(job_takes=0.2) as account:
        account.server.tickets.make(1)
        many = {"tickets": [{"id": 1, "status": "solved"}]}
        _, body, _ = await account.call("PUT", "/api/v2/tickets/update_many.json", many)
        assert body["job_status"]["status"] == "queued"
        account.clock.now += 5
        account.server.tickets.update(1, {"priority": "high"}, by="agent", via="screen")
        job = await account.job_done(body["job_status"]["id"])
        assert [(one["success"], one["error"]) for one in job["results"]] == [(False, "UpdateConflict")]


async def test_the_job_after_thirty_is_too_many() -> None:
    """*Jobs*: 30 jobs queued or running."""
    async with an_account(job_takes=30) as account:
        account.server.tickets.make(1)
        many = {"tickets": [{"id": 1, "status": "solved"}]}
        left = []
        for _ in range(30):
            status, _, headers = await account.call("PUT", "/api/v2/tickets/update_many.json", many)
            assert status == 200
            left.append(headers["zendesk-ratelimit-inflight-jobs"])
        assert (left[0], left[-1]) == ("total=30; remaining=29", "total=30; remaining=0")
        status, body, headers = await account.call("PUT", "/api/v2/tickets/update_many.json", many)
        assert (status, body["error"], headers["Retry-After"]) == (429, "TooManyJobs", "1")


@pytest.mark.parametrize("count", [0, 101])
async def test_a_job_takes_one_to_a_hundred_tickets(account: Account, count: int) -> None:
    """*Tickets*, Update Many Tickets: up to 100."""
    many = {"tickets": [{"id": number, "status": "solved"} for number in range(count)]}
    assert (await account.call("PUT", "/api/v2/tickets/update_many.json", many))[0] == 400


async def test_several_jobs_are_shown_at_once_and_are_forgotten_after_an_hour(account: Account) -> None:
    """*Jobs*, Show Many Job Statuses."""
    account.server.tickets.make(1)
    ids = []
    for priority in ("low", "high"):
        many = {"tickets": [{"id": 1, "priority": priority}]}
        _, body, _ = await account.call("PUT", "/api/v2/tickets/update_many.json", many)
        ids.append((await account.job_done(body["job_status"]["id"]))["id"])
    path = f"/api/v2/job_statuses/show_many.json?ids={','.join([*ids, 'none'])}"
    assert [one["id"] for one in (await account.get(path))[1]["job_statuses"]] == ids
    account.clock.now += KEPT + 1
    await account.sign_in()
    assert (await account.get(f"/api/v2/job_statuses/{ids[0]}.json"))[0] == 404
    assert (await account.get(path))[1]["job_statuses"] == []


async def test_a_job_that_fails_on_its_way_has_done_what_its_results_tell(account: Account) -> None:
    """*Jobs*: the status `failed`."""
    for ticket_id in (1, 2):
        account.server.tickets.make(ticket_id)
    account.server.jobs.die_after(1)
    many = {"tickets": [{"id": 1, "status": "solved"}, {"id": 2, "status": "solved"}]}
    _, body, _ = await account.call("PUT", "/api/v2/tickets/update_many.json", many)
    job = await account.job_done(body["job_status"]["id"])
    assert (job["status"], [one["id"] for one in job["results"]]) == ("failed", [1])
    assert [account.server.tickets.of(one).status for one in (1, 2)] == ["solved", "open"]


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "seconds", "status", "retry_after"),
    [
        (Kind.UNAVAILABLE, 7, 503, "7"),
        (Kind.UNAVAILABLE, 0, 503, None),
        (Kind.ERROR, 0, 500, None),
        (Kind.LIMITED, 3, 429, "3"),
        (Kind.COLLISION, 0, 409, None),
    ],
)
async def test_a_fault_with_a_status_does_nothing_and_passes(
    account: Account, kind: Kind, seconds: float, status: int, retry_after: str | None
) -> None:
    """*Rate limits*: 429 and 503 carry `Retry-After`; *Updating*: a database conflict passes."""
    account.server.tickets.make(1)
    account.server.faults.add(kind, method="PUT", seconds=seconds)
    assert (await account.get("/api/v2/tickets/1.json"))[0] == 200
    got, _, headers = await account.put(1, status="solved")
    assert (got, headers.get("Retry-After"), account.server.tickets.changes) == (status, retry_after, [])
    assert (await account.put(1, status="solved"))[0] == 200


@pytest.mark.parametrize(("kind", "changes"), [(Kind.DROPPED, 0), (Kind.STUCK, 0), (Kind.LOST, 1)])
async def test_a_connection_is_cut_before_or_after_the_change(account: Account, kind: Kind, changes: int) -> None:
    account.server.tickets.make(1)
    account.server.faults.add(kind, method="PUT", path="/tickets/1", seconds=0.01)
    with pytest.raises(aiohttp.ClientError):
        await account.put(1, status="solved", metadata={"command_id": "c-1"})
    assert len(account.server.tickets.changes) == changes
    assert account.server.requests[-1] == ("PUT", "/api/v2/tickets/1.json", 0)


async def test_a_slow_answer_comes_after_the_change(account: Account) -> None:
    account.server.tickets.make(1)
    account.server.faults.add(Kind.SLOW, method="PUT", seconds=30)
    with pytest.raises(TimeoutError):
        await account.call(
            "PUT",
            "/api/v2/tickets/1.json",
            {"ticket": {"status": "solved"}},
            timeout=aiohttp.ClientTimeout(total=0.2),
        )
    assert account.server.tickets.of(1).status == "solved"


async def test_an_account_that_is_away_comes_back_with_all_it_knew(account: Account) -> None:
    account.server.tickets.make(1, tags=["vip"])
    account.server.faults.away = True
    with pytest.raises(aiohttp.ClientError):
        await account.get("/api/v2/tickets/1.json")
    account.server.faults.clear()
    assert (await account.get("/api/v2/tickets/1.json"))[0] == 200
    url = account.server.url
    await account.server.stop()
    with pytest.raises(aiohttp.ClientError):
        await account.get("/api/v2/tickets/1.json")
    await account.server.start()
    assert account.server.url == url
    assert (await account.get("/api/v2/tickets/1.json"))[1]["ticket"]["tags"] == ["vip"]


# --- the record ------------------------------------------------------------------------------------------------------


def command(command_id: str, **expected: Any) -> dict[str, Any]:
    return {"command_id": command_id, "ticket_id": "1", "expected": expected}


async def test_the_record_tells_who_changed_what_and_for_which_command(account: Account) -> None:
    account.server.tickets.make(1, tags=["a"])
    account.server.tickets.update(1, {"priority": "high"}, by="agent", via="screen")
    await account.put(1, status="solved", tags=["a", "b"], metadata={"command_id": "c-1"})
    by_agent, by_us = account.server.tickets.changes_of(1)
    assert (by_agent.by, by_agent.via, by_agent.command_id) == ("agent", "screen", None)
    assert (by_us.by, by_us.via, by_us.command_id) == (CLIENT.user, "api", "c-1")
    assert by_us.changed == {"status": ("open", "solved"), "tags": (["a"], ["a", "b"])}


async def test_a_change_against_the_expected_values_is_found(account: Account) -> None:
    account.server.tickets.make(1, group_id=360, tags=["b", "a"])
    await account.put(1, status="solved", metadata={"command_id": "c-1"})
    changes = account.server.tickets.changes
    right = command("c-1", status="open", group_id="360", tags=["a", "b"], custom_fields_1=None, updated_at="never")
    assert checks.against_expected(changes, [right]) == []
    assert checks.against_expected(changes, [command("c-1", status="pending")]) == [
        "change 1 of ticket 1, command c-1: status was 'open', and the command expected 'pending'"
    ]
    assert checks.against_expected(changes, []) == ["change 1 of ticket 1: no command c-1"]


async def test_a_command_carried_out_twice_and_a_wrong_order_are_found(account: Account) -> None:
    account.server.tickets.make(1)
    for command_id in ("c-2", "c-1"):
        await account.put(1, comment={"body": "Still there?"}, metadata={"command_id": command_id})
    changes = account.server.tickets.changes
    commands = [command("c-1"), command("c-2")]
    assert checks.twice(changes) == []
    assert checks.out_of_order(changes, commands) == ["ticket 1: commands [1, 0]"]
    assert checks.out_of_order(changes, commands[::-1]) == []
    await account.put(1, comment={"body": "Still there?"}, metadata={"command_id": "c-1"})
    assert checks.twice(account.server.tickets.changes) == ["command c-1: 2 changes"]


async def test_the_page_lists_tickets_with_status_and_who_changed_them_last(account: Account) -> None:
    account.server.tickets.make(1, tags=["<b>bold</b>"])
    account.server.tickets.make(2)
    account.clock.now += 60
    await account.put(2, status="solved", metadata={"command_id": "c-1"})
    status, text, _ = await account.get("/")
    assert (status, "1 open, 1 solved" in text) == (200, True)
    assert "<td>2</td><td>solved</td><td></td><td>2026-03-01T10:01:00Z</td><td>lapse</td><td>c-1</td>" in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
