"""Diagnoses why a broker can't be used: which broker, the likely cause, and which setting to change.

A client only reports that it could not connect. So each broker is probed again step by step: name, port, TLS,
protocol, login. Where a step fails, the other kind of client is tried, to find out what the port serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    CorrelationIdError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

_SECONDS = 5.0
_BROKERS = "The setting is `brokers` (--brokers, LAPSE_BROKERS)."
_HOSTNAME_MISMATCHES = frozenset({62, 64})
_TIME_MISMATCHES = frozenset({9, 10})
"""OpenSSL's verification codes: X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH; _CERT_NOT_YET_VALID and
_CERT_HAS_EXPIRED."""


class Finding(NamedTuple):
    """What is wrong with one broker, as the rest of a sentence that begins with its address."""

    text: str
    passing: bool
    """Whether waiting may help: the broker may start, or its name may be published."""


async def diagnose(brokers: Iterable[str], arguments: Mapping[str, Any]) -> dict[str, Finding]:
    """Return what is wrong with each `host:port`. Usable brokers are left out.

    `arguments` are aiokafka's for TLS and SASL.
    """
    brokers = list(brokers)
    found = await asyncio.gather(*(_diagnose(broker, arguments) for broker in brokers))
    return {broker: finding for broker, finding in zip(brokers, found, strict=True) if finding is not None}


async def _diagnose(broker: str, arguments: Mapping[str, Any]) -> Finding | None:
    host, port = _split(broker)
    try:
        async with asyncio.timeout(3 * _SECONDS):
            return await _reach(host, port) or await _speak(host, port, arguments)
    except TimeoutError:
        return Finding(f"the connection is made, but nothing answers within {3 * _SECONDS:.0f} s.", passing=True)


async def _reach(host: str, port: int) -> Finding | None:
    """Open a plain TCP connection."""
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except socket.gaierror as error:
        return Finding(f"the name {host} can't be resolved to an address ({error.strerror}). {_BROKERS}", passing=True)
    except ConnectionRefusedError:
        return Finding(f"nothing listens on that port. {_BROKERS}", passing=True)
    except TimeoutError:
        return Finding(
            f"no answer within {_SECONDS:.0f} s. Is the address right, and does a firewall let it through? {_BROKERS}",
            passing=True,
        )
    except OSError as error:
        return Finding(f"can't be reached: {error.strerror or error}. {_BROKERS}", passing=True)
    met_itself = is_self_connection(writer)
    writer.close()
    return Finding(f"{SELF_CONNECTION} {_BROKERS}", passing=True) if met_itself else None


SELF_CONNECTION = "the connection met itself: nothing listens on that port."


def is_self_connection(writer: asyncio.StreamWriter) -> bool:
    """Whether a connection to a free local port was given that same port as its source, and so reached itself."""
    own, other = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    return own is not None and own == other


async def _speak(host: str, port: int, arguments: Mapping[str, Any]) -> Finding | None:
    """Connect as a client would, log in, and request the broker list."""
    protocol = arguments.get("security_protocol", "PLAINTEXT")
    try:
        connection = await _connected(host, port, arguments)
    except ssl.SSLCertVerificationError as error:
        return _certificate(host, error)
    except (SaslAuthenticationFailed, AuthenticationFailedError) as error:
        return _rejected(arguments, error)
    except UnsupportedSaslMechanismError:
        return await _other_mechanisms(host, port, arguments)
    except IllegalSaslStateError:
        wanted = "SSL" if protocol.endswith("SSL") else "PLAINTEXT"
        return Finding(
            f"the broker takes no login on that port. Set `security_protocol` to {wanted} (it is {protocol}), or use "
            f"the port for logins. {_BROKERS}",
            passing=False,
        )
    except (OSError, KafkaError, TimeoutError, ValueError, struct.error, IndexError) as error:
        return await _other_transport(host, port, arguments, error)
    try:
        return await _ask(connection, host, port, arguments)
    finally:
        connection.close()


async def _ask(connection: Any, host: str, port: int, arguments: Mapping[str, Any]) -> Finding | None:
    protocol = arguments.get("security_protocol", "PLAINTEXT")
    try:
        async with asyncio.timeout(_SECONDS):
            metadata = await connection.send(MetadataRequest([]))
    except (OSError, KafkaError, TimeoutError) as error:
        mechanisms = await _mechanisms(host, port, arguments) if not protocol.startswith("SASL_") else None
        if mechanisms:
            wanted = "SASL_SSL" if protocol == "SSL" else "SASL_PLAINTEXT"
            return Finding(
                f"the broker wants a login on that port ({' or '.join(mechanisms)}). Set `security_protocol` to "
                f"{wanted} (it is {protocol}), `sasl_mechanism`, `sasl_username` and `sasl_password`.",
                passing=False,
            )
        if protocol.endswith("SSL"):
            return _wants_certificate()
        return Finding(f"the connection is made, and then ends: {_text(error)}.", passing=True)
    return await _advertised(host, port, metadata)


async def _advertised(host: str, port: int, metadata: Any) -> Finding | None:
    """Check the addresses that the broker advertises to clients."""
    away = []
    for _, other_host, other_port, *_ in metadata.brokers:
        if (other_host, other_port) != (host, port):
            finding = await _reach(other_host, other_port)
            if finding is not None:
                away.append(f"{other_host}:{other_port} ({finding.text.removesuffix(_BROKERS).strip().rstrip('.')})")
    if not away:
        return None
    return Finding(
        f"answers, and sends clients on to {' and '.join(away)}. Those addresses are the brokers' "
        "`advertised.listeners`; they must be reachable from here.",
        passing=True,
    )


# --- other protocols on the port -------------------------------------------------------------------------------------


async def _other_transport(host: str, port: int, arguments: Mapping[str, Any], error: BaseException) -> Finding:
    """Report whether the port uses TLS when we don't, or the other way round."""
    protocol = arguments.get("security_protocol", "PLAINTEXT")
    login = protocol.startswith("SASL_")
    if protocol.endswith("SSL"):
        if await _answers_in_the_clear(host, port):
            wanted = "SASL_PLAINTEXT" if login else "PLAINTEXT"
            return Finding(
                f"that port does not use TLS. Set `security_protocol` to {wanted} (it is {protocol}), or use the port "
                f"for TLS. {_BROKERS}",
                passing=False,
            )
        if await _speaks_tls(host, port):
            return _wants_certificate()
    elif await _speaks_tls(host, port):
        wanted = "SASL_SSL" if login else "SSL"
        return Finding(f"that port uses TLS. Set `security_protocol` to {wanted} (it is {protocol}).", passing=False)
    if isinstance(error, TimeoutError | CorrelationIdError | ValueError | struct.error | IndexError):
        return Finding(f"what answers on that port does not speak Kafka's protocol. {_BROKERS}", passing=True)
    return Finding(f"the connection is made, and then ends: {_text(error)}.", passing=True)


async def _answers_in_the_clear(host: str, port: int) -> bool:
    with contextlib.suppress(OSError, KafkaError, TimeoutError, ValueError, struct.error, IndexError):
        (await _connected(host, port, {})).close()
        return True
    return False


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    except ssl.SSLError as error:
        # A peer that answers with a TLS alert uses TLS.
        return "ALERT" in (error.reason or "")
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _other_mechanisms(host: str, port: int, arguments: Mapping[str, Any]) -> Finding:
    mechanism = arguments.get("sasl_mechanism")
    offered = await _mechanisms(host, port, arguments)
    others = f", only {' or '.join(offered)}" if offered else ""
    return Finding(f"the broker takes no {mechanism}{others}. Set `sasl_mechanism`.", passing=False)


async def _mechanisms(host: str, port: int, arguments: Mapping[str, Any]) -> list[str]:
    """Return the SASL mechanisms that the broker offers; none when it requires no login."""
    protocol = "SSL" if arguments.get("security_protocol", "PLAINTEXT").endswith("SSL") else "PLAINTEXT"
    without_login = {name: value for name, value in arguments.items() if not name.startswith("sasl_")}
    with contextlib.suppress(OSError, KafkaError, TimeoutError, ValueError):
        connection = await _connected(host, port, {**without_login, "security_protocol": protocol})
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await connection.send(SaslHandShakeRequest("none"))
        finally:
            connection.close()
        return [str(mechanism) for mechanism in answer.enabled_mechanisms]
    return []


# --- texts -----------------------------------------------------------------------------------------------------------


def _certificate(host: str, error: ssl.SSLCertVerificationError) -> Finding:
    if error.verify_code in _HOSTNAME_MISMATCHES:
        return Finding(
            f"the broker's certificate is not for {host}. Use a name that it has in `brokers`, or set "
            "`ssl_check_hostname` to false to check only who signed it.",
            passing=False,
        )
    if error.verify_code in _TIME_MISMATCHES:
        return Finding(
            f"the broker's certificate can't be used now: {error.verify_message}. Renew it at the broker; or is the "
            "clock of this machine wrong?",
            passing=False,
        )
    return Finding(
        f"the broker's certificate is signed by nobody that is trusted here: {error.verify_message}. Set `ssl_cafile` "
        "to the certificate of the authority that signed it.",
        passing=False,
    )


def _rejected(arguments: Mapping[str, Any], error: BaseException) -> Finding:
    user, mechanism = arguments.get("sasl_plain_username"), arguments.get("sasl_mechanism")
    return Finding(
        f"the broker rejects user {user} with {mechanism} ({_text(error)}). Check `sasl_username`, `sasl_password` and "
        "`sasl_mechanism`.",
        passing=False,
    )


def _wants_certificate() -> Finding:
    return Finding(
        "the broker ends the connection after TLS was set up, as one does that wants a certificate of ours and gets "
        "none that it trusts. Check `ssl_certfile` and `ssl_keyfile`.",
        passing=False,
    )


async def _connected(host: str, port: int, arguments: Mapping[str, Any]) -> AIOKafkaConnection:
    async with asyncio.timeout(_SECONDS):
        return await create_conn(host, port, client_id="lapse", request_timeout_ms=int(_SECONDS * 1000), **arguments)


def _split(broker: str) -> tuple[str, int]:
    host, _, port = broker.rpartition(":")
    return host.strip("[]"), int(port)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
