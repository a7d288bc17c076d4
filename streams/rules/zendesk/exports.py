"""Reads responses of Zendesk's API: triggers in either form of paging, categories, definitions.

Shapes: `GET /api/v2/triggers.json` is `{"triggers": [...]}` with `count`, `next_page` or `meta`, `links`;
`GET /api/v2/triggers/ID.json` is `{"trigger": {...}}`; `GET /api/v2/trigger_categories.json` is
`{"trigger_categories": [...]}`; `GET /api/v2/triggers/definitions.json` is `{"definitions": {...}}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.core.errors import LapseError
from streams.documents.problems import Findings
from streams.documents.reading import decode
from streams.rules.zendesk.shapes import CUT, Unreadable, entries, flag, is_cut, shown, unwrapped

MAX_BYTES = 100_000_000
"""Far above the size of any account's triggers; a larger file is something else."""


class ExportError(LapseError):
    """A file that is not a response of Zendesk's API; the message names the file, line, column and what to do."""


@dataclass
class Export:
    """All triggers of some files, in the order of the files."""

    triggers: list[dict[str, Any]] = field(default_factory=list)
    categories: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id; from side-loads in the pages and from a separate file."""
    remarks: list[str] = field(default_factory=list)
    """Notes for the user: missing pages, duplicate triggers."""


def read_export(paths: list[Path], categories: Path | None = None) -> Export:
    """Read triggers from pages in one or several files. Raises `ExportError`."""
    export = Export()
    known: set[str] = set()
    unread: str | None = None
    for path in paths:
        found = False
        for number, page in enumerate(_pages(path), start=1):
            if not isinstance(page, dict | list) and found:
                raise ExportError(f"{path}:1:1: page {number} is no answer of Zendesk's API: {shown(page)}")
            for trigger in _triggers(page, path):
                found = True
                trigger_id = str(trigger.get("id", ""))
                if trigger_id and trigger_id in known:
                    export.remarks.append(f"{path}: trigger {trigger_id} came twice; the first one counts")
                    continue
                known.add(trigger_id)
                export.triggers.append(trigger)
            export.categories.update(_categories(page))
            unread = _next_page(page)
            found = found or (isinstance(page, dict) and "triggers" in page)
        if not found:
            raise ExportError(f"{path}:1:1: {_what_it_is(path)}; expected the answer of GET /api/v2/triggers.json")
    if unread:
        export.remarks.append(f"{paths[-1]}: there is another page, at {unread}: fetch it too and name both files")
    if categories is not None:
        read = {key: value for page in _pages(categories) for key, value in _categories(page).items()}
        if not read:
            raise ExportError(f"{categories}:1:1: no categories; expected GET /api/v2/trigger_categories.json")
        export.categories.update(read)
    return export


def read_definitions(path: Path) -> dict[str, Any]:
    """Read `GET /api/v2/triggers/definitions.json`. Raises `ExportError`."""
    for page in _pages(path):
        found = page.get("definitions", page) if isinstance(page, dict) else None
        if isinstance(found, dict) and any(isinstance(found.get(key), list) for key in ("conditions_all", "actions")):
            return found
    raise ExportError(f"{path}:1:1: no definitions; expected the answer of GET /api/v2/triggers/definitions.json")


# --- pages -----------------------------------------------------------------------------------------------------------


def _pages(path: Path) -> Iterator[Any]:
    """Yield the JSON documents of a file: a single one, a list of pages, or several in sequence."""
    text = _text(path)
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            page, at = decoder.raw_decode(text, at)
        except _WrittenTwiceError as error:
            message = f"`{error}` is written twice in one object: which of the two counts?"
            raise ExportError(f"{path}:1:1: {message}") from None
        except json.JSONDecodeError as error:
            if text.lstrip()[:1] == "<":
                message = "an HTML page, not JSON: was the request logged in? Fetch it with an API token or OAuth"
                raise ExportError(f"{path}:1:1: {message}") from None
            hint = "; it looks like CSV: fetch the JSON that Zendesk's API answers" if _is_csv(text) else ""
            raise ExportError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}{hint}") from None
        except ValueError as error:
            raise ExportError(f"{path}:1:1: not JSON: {str(error)[:80]}") from None
        except RecursionError:
            raise ExportError(f"{path}:1:1: nested too deeply to be an export") from None
        if isinstance(page, list) and not any(isinstance(entry, dict) and _is_trigger(entry) for entry in page):
            yield from page
        else:
            yield page


class _WrittenTwiceError(Exception):
    """An object has a duplicate member."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _WrittenTwiceError(next(name for name in names if names.count(name) > 1))
    return made


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is no JSON number")


def _is_csv(text: str) -> bool:
    first = text.lstrip().partition("\n")[0]
    return first.count(",") + first.count(";") >= 2 and not first.startswith(("{", "["))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ExportError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ExportError(f"{path}: this is a directory; name the file in it") from None
    except OSError as error:
        raise ExportError(f"{path}: can't be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ExportError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB: is this the right file?")
    findings = Findings(str(path))
    text = decode(data, findings)
    if text is None:
        raise ExportError(str(findings.sorted()[0]))
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise ExportError(f"{path}:1:1: the file is empty")
    return text


def _is_trigger(entry: dict[str, Any]) -> bool:
    return "actions" in entry and ("conditions" in entry or "all" in entry or "any" in entry)


def _triggers(page: Any, path: Path) -> Iterator[dict[str, Any]]:
    if isinstance(page, dict) and "error" in page and "triggers" not in page:
        error = page.get("description") or page["error"]
        text = error.get("message") or error.get("title") if isinstance(error, dict) else error
        raise ExportError(f"{path}:1:1: Zendesk answered with an error: {text}")
    found: Any = [page]
    if isinstance(page, list):
        found = page
    elif isinstance(page, dict) and "triggers" in page:
        found = unwrapped(page["triggers"])
        if isinstance(found, dict) and found and all(key.isascii() and key.isdigit() for key in found):
            found = entries(found)
    elif isinstance(page, dict) and "trigger" in page:
        found = [page["trigger"]]
    elif not (isinstance(page, dict) and _is_trigger(page)):
        return
    if not isinstance(found, list):
        raise ExportError(f"{path}:1:1: `triggers` is no list")
    for number, trigger in enumerate(found, start=1):
        if is_cut(trigger):
            raise ExportError(f"{path}:1:1: entry {number} of `triggers` is the text {shown(trigger)}: {CUT}")
        if not isinstance(trigger, dict) or not _is_trigger(trigger):
            raise ExportError(f"{path}:1:1: entry {number} of `triggers` has no `conditions` and `actions`")
        yield trigger


def _categories(page: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(page, dict):
        return {}
    entries = page.get("trigger_categories") or page.get("categories") or []
    if isinstance(page.get("trigger_category"), dict):
        entries = [page["trigger_category"]]
    return {str(entry["id"]): entry for entry in entries if isinstance(entry, dict) and "id" in entry}


def _next_page(page: Any) -> str | None:
    if not isinstance(page, dict):
        return None
    meta, links = page.get("meta"), page.get("links")
    if isinstance(meta, dict) and _says_yes(meta.get("has_more")):
        following = links.get("next") if isinstance(links, dict) else None
        return str(following or f"page[after]={meta.get('after_cursor')}")
    following = page.get("next_page")
    return str(following) if following and str(following).lower() not in _NO_PAGE else None


_NO_PAGE = frozenset({"null", "none", "nil", "false", "0"})
"""Values that scripts write when there is no next page."""


def _says_yes(value: Any) -> bool:
    try:
        return value is not None and flag(value)
    except Unreadable:
        return True  # better a superfluous note than a missing one


def _what_it_is(path: Path) -> str:
    for page in _pages(path):
        if isinstance(page, dict):
            return f"a JSON object with {', '.join(f'`{key}`' for key in list(page)[:5]) or 'nothing in it'}"
        return f"a JSON {'list' if isinstance(page, list) else 'value'}"
    return "nothing"
