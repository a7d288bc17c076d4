"""OAuth with client credentials: the only way in since API tokens can no longer be made."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from streams.testing.zendesk.answers import Answer, Failed, forbidden, oauth

Seconds = float

SHORTEST, LONGEST = 300, 172_800
"""What `expires_in` may be, in seconds."""
KNOWN_SCOPES = frozenset({"read", "write", "tickets:read", "tickets:write"})
READ = frozenset({"read", "tickets:read"})
WRITE = frozenset({"write", "tickets:write"})
"""Scopes that allow the requests of this stand-in. Whether `tickets:read` covers job statuses is not documented."""


class Client(msgspec.Struct, frozen=True):
    """An OAuth client; what it does is done as `user`, the one who made it."""

    client_id: str
    secret: str
    user: str


class _Token(msgspec.Struct, frozen=True):
    user: str
    scopes: frozenset[str]
    ends: Seconds


class Tokens:
    """Clients, and the tokens given out to them."""

    def __init__(self, clients: tuple[Client, ...], default_seconds: int) -> None:
        """Know the clients; a token that asks for no lifetime has `default_seconds`."""
        self._clients = {client.client_id: client for client in clients}
        self._default = default_seconds
        self._tokens: dict[str, _Token] = {}
        self.issued = 0

    def issue(self, asked: Mapping[str, Any], now: Seconds) -> Answer:
        """Answer `POST /oauth/tokens`. There is no refresh token: the client asks again."""
        if asked.get("grant_type") != "client_credentials":
            raise oauth(400, "unsupported_grant_type", "The authorization grant type is not supported.")
        client = self._clients.get(str(asked.get("client_id", "")))
        given = str(asked.get("client_secret", ""))
        if client is None or not hmac.compare_digest(client.secret.encode(), given.encode()):
            raise oauth(401, "invalid_client", "Client authentication failed: unknown client or wrong secret.")
        seconds = self._lifetime(asked.get("expires_in"))
        scope = str(asked.get("scope") or "read write")
        text = secrets.token_hex(32)
        self._tokens[text] = _Token(client.user, frozenset(scope.split()), now + seconds)
        self.issued += 1
        return Answer(200, {"access_token": text, "token_type": "bearer", "scope": scope, "expires_in": seconds})

    def user_of(self, header: str | None, needed: frozenset[str], now: Seconds) -> str:
        """Return who asks. Raises 401 without a living token, 403 when its scope is another or none that exists."""
        scheme, _, text = (header or "").partition(" ")
        if header is None or scheme.lower() != "bearer":
            raise Failed(Answer(401, {"error": "Couldn't authenticate you"}))
        token = self._tokens.get(text.strip())
        if token is None or now >= token.ends:
            raise oauth(401, "invalid_token", "The access token provided is expired, revoked, malformed or invalid.")
        # A token for a scope that does not exist is given out like any other, and may do nothing.
        if not token.scopes <= KNOWN_SCOPES or not token.scopes & needed:
            raise forbidden()
        return token.user

    def revoke_all(self) -> None:
        """End every token, as when the user who made the client is removed."""
        self._tokens.clear()

    def replace_secret(self, client_id: str, secret: str) -> None:
        """Give a client another secret, as an administrator does; its tokens live on."""
        old = self._clients[client_id]
        self._clients[client_id] = Client(client_id, secret, old.user)

    def _lifetime(self, asked: Any) -> int:
        if asked in (None, ""):
            return self._default
        try:
            seconds = int(asked)
        except (TypeError, ValueError):
            seconds = 0
        if not SHORTEST <= seconds <= LONGEST:
            raise oauth(400, "invalid_request", f"expires_in must be from {SHORTEST} to {LONGEST} seconds.")
        return seconds
