"""docs/api.md shows what the API answers, member by member."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.web.desk import Desk

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = {
    path: json.loads(block)
    for path, block in re.findall(r"^## GET (\S+)\n.*?^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
}


def differences(shown: Any, real: Any, where: str = "$") -> Iterator[str]:
    """Yield members that only one of the two has. Open objects (fields, order, counts by name) are not looked into."""
    if isinstance(shown, dict) and isinstance(real, dict):
        if where.rsplit(".", 1)[-1] in {"fields", "order", "lapses", "changes", "triggers"}:
            return
        yield from (f"{where}.{name} is not answered" for name in shown.keys() - real.keys())
        yield from (f"{where}.{name} is not shown" for name in real.keys() - shown.keys())
        for name in shown.keys() & real.keys():
            yield from differences(shown[name], real[name], f"{where}.{name}")
    elif isinstance(shown, list) and isinstance(real, list):
        for one, other in zip(shown, real, strict=False):
            yield from differences(one, other, f"{where}[]")
    elif isinstance(shown, dict | list) and real is not None:
        yield f"{where}: {type(shown).__name__} is shown, {type(real).__name__} answered"


@pytest.mark.parametrize("path", EXAMPLES)
async def test_examples_have_the_members_of_the_answer(path: str):
    desk = Desk()
    desk.abandoned("5158", status="new")
    (round_,) = desk.journal.quiet()
    async with desk.server() as server, aiohttp.ClientSession() as client:
        real = path.replace("tickets/ID", "tickets/5158").replace("rounds/ID", f"rounds/{round_.id}")
        async with client.get(server.url.rstrip("/") + real) as answer:
            assert answer.status == 200
            found = await answer.json()
    assert list(differences(EXAMPLES[path], found)) == []


def test_every_path_of_the_server_is_shown():
    desk = Desk()
    paths = {resource.canonical for resource in desk.server()._app().router.resources()}
    shown = set(EXAMPLES) | set(re.findall(r"`(/[^`?]*)[^`]*`", PAGE))
    missing = {path for path in paths if path.replace("{id}", "ID") not in shown and not path.startswith("/assets")}
    assert missing == set()
