"""Readers of setting values: text in, value out; invalid text raises ValueError with a message for users.

All of them also accept a value that already has the result type, so that `Settings(join_wait=5)` works in code.
"""

from __future__ import annotations

import ipaddress
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from streams.core import normal
from streams.core.model import SECOND, Micros
from streams.documents import durations
from streams.documents.problems import did_you_mean

BEGINNING: Micros = -(2**63)
"""What `act_from: beginning` means: before every instant."""

NOW: Micros = 2**63 - 1
"""What `act_from: now` means until the worker's first start is known: later than every instant."""

SHORTEST_SESSION, LONGEST_SESSION = SECOND, 1800 * SECOND

LONGEST_TOPIC = 249
_KAFKA_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SUBDOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_BROKER = re.compile(
    r"(?:(?P<scheme>[A-Za-z_]+)://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]+))?"
)
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(%?)", re.ASCII)
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_MAX_PORT = 65_535
_WORDS_FOR_TIMES = {"beginning": BEGINNING, "now": NOW}
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def text(value: Any) -> Any:
    """Return a single text; a list is not accepted."""
    if isinstance(value, list):
        raise ValueError(f"takes one value, and {value} is a list")
    return value.strip() if isinstance(value, str) else value


def secret(value: Any) -> Any:
    """Return a secret that is hidden when displayed."""
    if isinstance(value, list):
        raise ValueError("takes one value, not a list")
    return SecretStr(value) if isinstance(value, str) else value


def secrets(value: Any) -> Any:
    """Return one or more secrets, separated by commas or line breaks, hidden when displayed."""
    return secret("\n".join(map(str, value)) if isinstance(value, list) else value)


def each_secret(several: SecretStr | None) -> list[bytes]:
    """Return the secrets that `secrets` has read.

    >>> each_secret(SecretStr("new, old")), each_secret(None)
    ([b'new', b'old'], [])
    """
    text = "" if several is None else several.get_secret_value()
    return [one.encode() for line in text.splitlines() for part in line.split(",") if (one := part.strip())]


def subdomain(value: Any) -> Any:
    """Return the name of an account at Zendesk.

    >>> subdomain("example")
    'example'
    """
    value = text(value)
    if isinstance(value, str) and _SUBDOMAIN.fullmatch(value) is None:
        raise ValueError(f"`{value}` is no subdomain: write `example` for example.zendesk.com")
    return value


def base_url(value: Any) -> Any:
    """Return a base URL without a slash at its end; plain HTTP for loopback addresses only.

    >>> base_url("https://example.zendesk.com/"), base_url("http://127.0.0.1:8080")
    ('https://example.zendesk.com', 'http://127.0.0.1:8080')
    """
    value = text(value)
    if not isinstance(value, str):
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(f"`{value}` is no base URL such as `https://example.zendesk.com`")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"`{value}` would send a secret unencrypted: use https")
    return value.rstrip("/")


def quota(value: Any) -> Any:
    """Return how many are allowed, at least one."""
    value = text(value)
    if isinstance(value, str):
        if not (value.isascii() and value.isdecimal()):
            raise ValueError(f"`{value}` is no whole number")
        value = int(value)
    if isinstance(value, int) and value < 1:
        raise ValueError(f"`{value}` is too few; it must be 1 or more")
    return value


def boolean(value: Any) -> Any:
    """Return true or false from any of the usual spellings."""
    value = text(value)
    if not isinstance(value, str):
        return value
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError(f"`{value}` is neither `true` nor `false`")


def duration(value: Any) -> Any:
    """Return a duration in microseconds."""
    value = text(value)
    return durations.parse(value) if isinstance(value, str) else value


def positive_duration(value: Any) -> Any:
    """Return a duration above zero in microseconds."""
    found = duration(value)
    if found == 0:
        raise ValueError(f"`{value}` is no time at all; it must be longer than 0")
    return found


def act_from(value: Any) -> Any:
    """Return an instant in microseconds; `beginning` is before all others, `now` after all others.

    >>> act_from("1970-01-01T00:00:01.5Z"), act_from("beginning") == BEGINNING, act_from("now") == NOW
    (1500000, True, True)
    """
    value = text(value)
    if not isinstance(value, str):
        return value
    if value.lower() in _WORDS_FOR_TIMES:
        return _WORDS_FOR_TIMES[value.lower()]
    wanted = "write a time with its offset, such as `2026-03-01T10:00:00Z`, or `beginning`, or `now`"
    if _RFC3339.fullmatch(value) is None:
        hint = did_you_mean(value.lower(), _WORDS_FOR_TIMES)
        raise ValueError(f"`{value}` is not an RFC 3339 time: {wanted}{hint}")
    try:
        instant = datetime.fromisoformat(value.upper())
    except ValueError as error:
        raise ValueError(f"`{value}` is not a time: {error}; {wanted}") from None
    return (instant - _EPOCH) // timedelta(microseconds=1)


def share(value: Any) -> Any:
    """Return a share from 0 to 1.

    >>> share("50%"), share("0.5"), share("50 %"), share("1")
    (0.5, 0.5, 0.5, 1.0)
    """
    value = text(value)
    if not isinstance(value, str):
        return value
    found = _SHARE.fullmatch(value)
    if found is None:
        raise ValueError(f"`{value}` is not a share: write a percentage such as `50%`, or a number from 0 to 1")
    number = float(found[1]) / (100 if found[2] else 1)
    if number > 1:
        hint = "" if found[2] else f"; did you mean `{value}%`?"
        raise ValueError(f"`{value}` is more than everything: write a percentage up to `100%`, or 0 to 1{hint}")
    return number


def names(value: Any) -> Any:
    """Return reasons and similar names, normalised, from comma-separated text or a list."""
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        return value
    found: set[str] = set()
    for part in value:
        spelt = normal.name(str(part))
        if spelt is None:
            raise ValueError(f"`{part}` is no name: nothing is left of it without punctuation")
        found.add(spelt)
    return frozenset(found)


def waits(value: Any) -> Any:
    """Return durations by channel, from `mobile=15m,whatsapp=30m`, a JSON object, or a list of `name=duration`.

    >>> waits("mobile=15m, WhatsApp=30m"), waits('{"mobile": "15m"}'), waits("")
    ({'mobile': 900000000, 'whatsapp': 1800000000}, {'mobile': 900000000}, {})
    """
    if isinstance(value, str):
        value = _entries(value)
    if not isinstance(value, list):
        return value
    found: dict[str, Micros] = {}
    for part in value:
        channel, equals, duration_text = str(part).rpartition("=")
        spelt = normal.name(channel)
        if not equals or spelt is None:
            raise ValueError(f"`{part}` is not a channel with its time, such as `mobile=15m`")
        if spelt in found:
            raise ValueError(f"`{spelt}` is named twice")
        try:
            found[spelt] = positive_duration(duration_text)
        except ValueError as error:
            raise ValueError(f"`{spelt}`: {error}") from None
    return found


def _entries(text: str) -> list[str]:
    if not text.lstrip().startswith("{"):
        return [part.strip() for part in text.split(",") if part.strip()]
    wanted = 'write `{"mobile": "15m"}`, or `mobile=15m`'
    try:
        table = json.loads(text)
    except ValueError as error:
        raise ValueError(f"`{text}` is not JSON ({error}): {wanted}") from None
    if not all(isinstance(value, str) for value in table.values()):
        raise ValueError(f"`{text}`: every time is a text: {wanted}")
    return [f"{channel}={value}" for channel, value in table.items()]


def brokers(value: Any) -> Any:
    """Return `host:port` of each broker, from comma-separated text or a list; the default port is 9092.

    >>> brokers("kafka-1, kafka-2:9093")
    ('kafka-1:9092', 'kafka-2:9093')
    """
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        return value
    found = []
    for part in (str(part).strip() for part in value):
        match = _BROKER.fullmatch(part)
        if match is None:
            raise ValueError(f"`{part}` is not a broker: write `host:port`, several separated by commas")
        if match["scheme"]:
            raise ValueError(f"`{part}`: leave out `{match['scheme']}://`; `security_protocol` says how to connect")
        if match["port"] and not 0 < int(match["port"]) <= _MAX_PORT:
            raise ValueError(f"`{part}`: a port is a number from 1 to {_MAX_PORT}")
        found.append(f"{match['host']}:{match['port'] or 9092}")
    if not found:
        raise ValueError("names no broker: write `host:port`, several separated by commas")
    return tuple(found)


def kafka_name(value: Any) -> Any:
    """Return a name that Kafka accepts for topics and groups."""
    value = text(value)
    if isinstance(value, str) and _KAFKA_NAME.fullmatch(value) is None:
        raise ValueError(f"`{value}` is not a name that Kafka takes: letters, digits, `.`, `_` and `-` are allowed")
    return value


def kafka_prefix(value: Any) -> Any:
    """Return a prefix of such names; it may be empty."""
    return kafka_name(value) if text(value) else ""


def topic_name(value: Any) -> Any:
    """Return the name of a topic that belongs to the user."""
    value = kafka_name(value)
    if isinstance(value, str):
        if value in {".", ".."}:
            raise ValueError(f"`{value}` is not a name that Kafka takes for a topic")
        if value.startswith("__"):
            raise ValueError(f"`{value}`: names that begin with `__` belong to Kafka itself")
        if len(value) > LONGEST_TOPIC:
            raise ValueError(f"has {len(value)} characters; Kafka takes at most {LONGEST_TOPIC}")
    return value


def instance_id(value: Any) -> Any:
    """Return the name of a static member; Kafka accepts the same characters as for a topic."""
    value = text(value)
    return topic_name(value) if value else None


def compression(value: Any) -> Any:
    """Return a codec in Kafka's spelling."""
    value = text(value)
    return _one_of(value, ("none", "gzip", "snappy", "lz4", "zstd"), str(value).lower())


def session_timeout(value: Any) -> Any:
    """Return a session timeout in microseconds, within the range that brokers can be configured to accept."""
    found = duration(value)
    if isinstance(found, int) and not SHORTEST_SESSION <= found <= LONGEST_SESSION:
        raise ValueError(f"`{value}` is out of range: from `1s` to `30m`, and within what the brokers accept")
    return found


def path(value: Any) -> Any:
    """Return a path, whether the file exists or not."""
    value = text(value)
    return Path(value) if value else None


def existing_file(value: Any) -> Any:
    """Return the path of an existing file."""
    found = path(value)
    if found is not None and not found.is_file():
        raise ValueError(f"`{found}` is not a file" if found.exists() else f"there is no file `{found}`")
    return found


def port(value: Any) -> Any:
    """Return a port to listen on."""
    value = text(value)
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= _MAX_PORT):
            raise ValueError(f"`{value}` is not a port: write a number from 0 to {_MAX_PORT}")
        return int(value)
    return value


def host(value: Any) -> Any:
    """Return an address or host name to listen on.

    >>> host("[::1]"), host("localhost")
    ('::1', 'localhost')
    """
    value = text(value)
    if isinstance(value, str) and _HOST.fullmatch(value) is None and not _is_ipv6(value):
        raise ValueError(f"`{value}` is not an address: write one such as `127.0.0.1` or `0.0.0.0`, without port")
    return value.strip("[]") if isinstance(value, str) else value


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).version == 6
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether an address is reachable only from this machine; any name but `localhost` may point elsewhere.

    >>> [is_loopback(host) for host in ("127.0.0.9", "::1", "[::1]", "localhost", "0.0.0.0", "::", "lapse.local")]
    [True, True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _one_of(value: Any, allowed: tuple[str, ...], spelt: str) -> Any:
    if not isinstance(value, str) or spelt in allowed:
        return spelt if isinstance(value, str) else value
    choices = ", ".join(f"`{choice}`" for choice in allowed)
    raise ValueError(f"`{value}` is not one of {choices}{did_you_mean(spelt, allowed)}")


def rules(value: Any) -> Any:
    """Return where the rules come from."""
    value = text(value)
    return _one_of(value, ("file", "topic"), value.lower() if isinstance(value, str) else "")


def first_inactive(value: Any) -> Any:
    """Return what the first `inactive` counts as; `ignore` is another spelling of `first_seen`."""
    value = text(value)
    spelt = value.lower() if isinstance(value, str) else ""
    return _one_of(value, ("lapse", "first_seen"), "first_seen" if spelt == "ignore" else spelt)


def log_level(value: Any) -> Any:
    """Return a level in lower case; `warn` is another spelling of `warning`."""
    value = text(value)
    spelt = str(value).lower()
    return _one_of(value, ("debug", "info", "warning", "error", "critical"), "warning" if spelt == "warn" else spelt)


def log_format(value: Any) -> Any:
    """Return a format in lower case."""
    value = text(value)
    return _one_of(value, ("text", "json"), str(value).lower())


def security_protocol(value: Any) -> Any:
    """Return a protocol in Kafka's spelling."""
    value = text(value)
    return _one_of(value, ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"), str(value).upper().replace("-", "_"))


def sasl_mechanism(value: Any) -> Any:
    """Return a mechanism in Kafka's spelling."""
    value = text(value)
    return _one_of(value, ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), str(value).upper().replace("_", "-"))
