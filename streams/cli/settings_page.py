"""Prints docs/settings.md: `python -m streams.cli.settings_page > docs/settings.md`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from streams.cli.setting_flags import default_text
from streams.settings.settings import SECRET_FILES, Cost, Settings

INTRODUCTION = """\
# Settings

Made from `streams/settings/settings.py` by `python -m streams.cli.settings_page`; do not edit.

A setting can be given in four places. The first one that has it wins:

1. a flag: `--join-wait 1m`
2. an environment variable: `LAPSE_JOIN_WAIT=1m`
3. `lapse.yaml` in the current directory, or the file that `--config` names: `join_wait: 1m`
4. its default

Durations are written `500ms`, `30s`, `5m`, `1h` or `30d`. All errors in settings are shown at once, each with the place
that it came from; the exit code is 2 then. `lapse run --help`, `lapse ingest --help` and `lapse apply --help` show
the flags. What follows from the settings that matter in operation is described in [operations](operations.md).

| setting | default | takes | effect |
|---|---|---|---|"""

TAKES = {
    "act_from": "an RFC 3339 time, or a word that the effect names",
    "instance_id": "letters, digits, `.`, `_`, `-`",
    "session_timeout": "a duration from `1s` to `30m`",
    "topic_name": "letters, digits, `.`, `_`, `-`",
    "subdomain": "a name, such as `example`",
    "base_url": "a URL, such as `https://example.zendesk.com`",
    "quota": "a whole number, 1 or more",
    "boolean": "`true` or `false`",
    "brokers": "`host:port`, comma-separated; without a port 9092",
    "duration": "a duration, `0s` or more",
    "existing_file": "path of a file that exists",
    "host": "an address or host name, without port",
    "kafka_name": "letters, digits, `.`, `_`, `-`",
    "kafka_prefix": "letters, digits, `.`, `_`, `-`",
    "names": "names, comma-separated",
    "path": "path of a file",
    "port": "`0` to `65535`",
    "positive_duration": "a duration, more than `0s`",
    "secret": "text; hidden in errors and logs",
    "secrets": "texts, comma-separated; hidden in errors and logs",
    "share": "`0` to `1`, or `0%` to `100%`",
    "text": "text",
    "waits": "channels with durations of more than `0s`: `mobile=15m`, comma-separated, a JSON object, or a table",
}
"""The values that each reader in `streams.settings.values` accepts, by the reader's name."""


SECRETS = """
## Secrets in files

A secret can also be given as the path of a file that holds it, as containers mount them. A line break at the end of the
file does not belong to the secret.

| setting | holds |
|---|---|"""

COSTS = """
## What they cost
"""


def page() -> str:
    """Return the page as Markdown."""
    rows = (_row(name, field) for name, field in Settings.model_fields.items())
    files = (f"| `{name}` | `{secret}` |" for name, secret in SECRET_FILES.items())
    return "\n".join([INTRODUCTION, *rows, SECRETS, *files, COSTS, "\n\n".join(_costs())]) + "\n"


def _costs() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Cost):
                yield "\n".join(textwrap.wrap(f"**`{name}`**: {mark.text}", 120, break_on_hyphens=False))


def _row(name: str, field: FieldInfo) -> str:
    default = default_text(field)
    return f"| `{name}` | {default and f'`{default}`'} | {takes(field)} | {field.description} |"


def takes(field: FieldInfo) -> str:
    """Return the range of a setting's values, in words."""
    choices = list(_choices(field.annotation))
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    # The last reader in the metadata is applied first.
    readers = [getattr(reader, "func", None) for reader in reversed(field.metadata)]
    return next((TAKES[reader.__name__] for reader in readers if reader and reader.__name__ in TAKES), "text")


def _choices(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            if part is not NoneType:
                yield from _choices(part)


if __name__ == "__main__":
    print(page(), end="")
