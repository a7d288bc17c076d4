"""A client of Zendesk's ticket API: OAuth with client credentials, and requests with the account's quota in mind.

An answer of the API is returned whatever its status; only what stops every command is raised. A token is renewed before
it ends. There is no refresh token: the client asks for another one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import aiohttp
import msgspec
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error

from streams.core.errors import Failed, Refused
from streams.zendesk.apply import quotas
from streams.zendesk.apply.pace import Pace

logger = logging.getLogger(__name__)

Seconds = float

SCOPES = ("tickets:read", "tickets:write")
"""What the OAuth client asks for. An unknown scope would give a token that gets 403 everywhere."""

CONNECTIONS = 32
_CONNECT_SECONDS: Seconds = 10.0
_ANSWER_SECONDS: Seconds = 30.0
_TOKEN_MARGIN: Seconds = 60.0
_FIRST_BACKOFF: Seconds = 0.5
_LAST_BACKOFF: Seconds = 30.0
_LONGEST_WAIT: Seconds = 900.0
_SERVER_ERROR = 500


class Answer(msgspec.Struct, frozen=True):
    """An answer of the API. `json` is None when the body is no JSON object."""

    status: int
    text: str
    json: Mapping[str, Any] | None
    headers: Mapping[str, str]

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def error(self) -> str:
        """Return the error's name, in whichever of Zendesk's shapes it came; empty when it has none."""
        error = (self.json or {}).get("error")
        if isinstance(error, Mapping):
            error = error.get("title")
        return error if isinstance(error, str) else ""


class NoAnswerError(Exception):
    """A request got no answer that says what became of it. It may have been carried out, or be carried out later."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API is, and who asks."""

    url: str
    """Without a slash at its end."""
    client_id: str
    client_secret: str


class Zendesk:
    """Requests to one account, from `async with` on. Waits for the account's quota on requests before each."""

    def __init__(self, account: Account, pace: Pace, on_answer: Callable[[int | None], None] = lambda _: None) -> None:
        """Prepare; nothing connects yet. `on_answer` gets the status of each answer, None where there was none."""
        self._account = account
        self._on_answer = on_answer
        self._pace = pace
        self._oauth = BackendApplicationClient(client_id=account.client_id)
        self._session: aiohttp.ClientSession | None = None
        self._token: str | None = None
        self._renew_at: Seconds = 0.0
        self._renewing = asyncio.Lock()
        self._worked: set[bool] = set()
        """Whether reading (False) and writing (True) have worked with any token."""
        self.trouble: str | None = "Zendesk has not answered yet"
        """Why the latest request got no useful answer; None once one did."""

    async def __aenter__(self) -> Self:
        """Open the pool of connections."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS, sock_connect=_CONNECT_SECONDS),
            headers={"User-Agent": "lapse", "Accept": "application/json"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Answer:
        """Read, and try until there is an answer. Raises `Failed` when the token will not do."""
        backoff = Backoff()
        while True:
            try:
                answer = await self._request("GET", path, None)
            except NoAnswerError as error:
                logger.warning("%s: %s; trying again", path, error, extra={"limit": "zendesk"})
                await backoff.wait()
                continue
            if answer.status in (429, 503):
                await self._pace.hold(wait_of(answer))
            elif answer.status == 409:
                await backoff.wait()  # a collision in the database, which passes
            else:
                return answer

    async def put(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send an update once. Raises `NoAnswerError`, and `Failed` when the token will not do."""
        return await self._request("PUT", path, body)

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        token = await self._current_token()
        answer = await self._send(method, path, body, token)
        if answer.status == 401:
            if self._token == token:
                self._token = None
            answer = await self._send(method, path, body, await self._current_token())
            if answer.status == 401:
                raise Failed(
                    f"{self._account.url} refuses a token that it has just given out (401). The OAuth client's user "
                    "may have been removed or suspended; look at Admin Center, Apps and integrations, OAuth clients."
                )
        writes = method != "GET"
        if answer.is_success:
            self._worked.add(writes)
        elif answer.status == 403 and writes not in self._worked:
            await self._require_scope(writes)
        return answer

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None, token: str) -> Answer:
        ticket = await self._pace.request()
        try:
            answer = await self._exchange(
                method,
                path,
                data=None if body is None else msgspec.json.encode(body),
                headers={
                    "Authorization": f"Bearer {token}",
                    **({} if body is None else {"Content-Type": "application/json"}),
                },
            )
        except BaseException:
            ticket.lost()
            raise
        ticket.answered(quotas.requests_told(answer.headers))
        return answer

    async def _exchange(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request and return its answer. Raises `NoAnswerError` for none, and for a fault of the server."""
        assert self._session is not None  # noqa: S101 set by `__aenter__`
        try:
            async with self._session.request(
                method, self._account.url + path, allow_redirects=False, **options
            ) as answer:
                text = await answer.text(errors="replace")
                found = Answer(answer.status, text, _object(text), dict(answer.headers))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._on_answer(None)
            self.trouble = f"{self._account.url}: {str(error) or 'no answer in time'}"
            raise NoAnswerError(self.trouble) from error
        self._on_answer(found.status)
        if found.status >= _SERVER_ERROR and found.status != 503:
            self.trouble = f"{self._account.url} answers {found.status}"
            raise NoAnswerError(self.trouble)
        self.trouble = None if found.status != 503 else f"{self._account.url} answers 503"
        return found

    # --- tokens ------------------------------------------------------------------------------------------------------

    async def sign_in(self) -> None:
        """Get a token. Raises `Refused` when client id or secret are wrong."""
        await self._current_token()

    async def _current_token(self) -> str:
        async with self._renewing:
            if self._token is None or time.monotonic() >= self._renew_at:
                self._token = await self._new_token()
            return self._token

    async def _new_token(self) -> str:
        body = self._oauth.prepare_request_body(
            scope=" ".join(SCOPES), include_client_id=True, client_secret=self._account.client_secret
        )
        backoff = Backoff()
        while True:
            try:
                answer = await self._exchange(
                    "POST",
                    "/oauth/tokens",
                    data=body.encode(),
                    headers={"Content-Type": "application/x-www-form-urlencoded"},
                )
            except NoAnswerError as error:
                logger.warning("can't get a token: %s; trying again", error, extra={"limit": "token"})
                await backoff.wait()
                continue
            if answer.status in (429, 503):
                await asyncio.sleep(wait_of(answer))
                continue
            return self._token_of(answer)

    def _token_of(self, answer: Answer) -> str:
        try:
            # `scope` of the answer is not compared: Zendesk may write it in another way than it was asked for.
            token = self._oauth.parse_request_body_response(answer.text, scope=None)
        except (OAuth2Error, ValueError) as error:
            raise Refused(
                f"{self._account.url}/oauth/tokens gives no token ({answer.status}: {_reason(answer, error)}). Check "
                "zendesk_subdomain, zendesk_client_id and zendesk_client_secret: the client is a confidential OAuth "
                "client with the scopes tickets:read and tickets:write."
            ) from None
        lasts = float(token.get("expires_in") or 1_800)
        self._renew_at = time.monotonic() + lasts - min(_TOKEN_MARGIN, lasts / 10)
        return str(token["access_token"])

    async def _require_scope(self, writes: bool) -> None:
        """Tell a token that may do nothing from a single ticket that it may not touch. Raises `Failed` for the former.

        The probes change nothing: one reads a count, the other asks for an update of no ticket.
        """
        token = await self._current_token()
        if writes:
            probe = await self._send("PUT", "/api/v2/tickets/update_many.json", {"tickets": []}, token)
        else:
            probe = await self._send("GET", "/api/v2/tickets/count.json", None, token)
        if probe.status == 403:
            raise Failed(
                f"{self._account.url} lets this OAuth client {'update' if writes else 'read'} no ticket at all (403). "
                "Give it the scopes tickets:read and tickets:write, and make its user an agent with access to all "
                "tickets."
            )
        self._worked.add(writes)


class Backoff:
    """Waits longer each time, with jitter."""

    def __init__(self) -> None:
        """Begin with the shortest wait."""
        self._next = _FIRST_BACKOFF

    async def wait(self) -> None:
        """Wait."""
        await asyncio.sleep(self._next * random.uniform(0.5, 1.0))  # noqa: S311 - not for secrecy
        self._next = min(self._next * 2, _LAST_BACKOFF)


def wait_of(answer: Answer) -> Seconds:
    """Return how long a 429 or 503 asks to wait, within bounds."""
    return min(max(quotas.retry_after(answer.headers) or 1.0, 0.1), _LONGEST_WAIT)


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _reason(answer: Answer, error: Exception) -> str:
    return answer.error or str(error).partition("\n")[0] or type(error).__name__
