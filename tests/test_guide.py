"""The pages of the docs lead to places that exist: sections, tests and commands that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from streams.cli.root import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that a forge makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_a_section_find_it(page: Path):
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    own = [(page if not file else page.parent / file, anchor) for file, anchor in links if "://" not in file]
    assert [(file.name, anchor) for file, anchor in own if anchor not in anchors(file)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_are_there(page: Path):
    named = re.findall(r"`(tests/[\w/.-]+\.py)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_that_a_page_names_exist(page: Path):
    verbs = set(typer.main.get_command(app).commands)
    named = set(re.findall(r"(?:^|`)(?:\./dev )?lapse ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= verbs


def test_each_guarantee_names_a_test_that_holds_it():
    page = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*.*\|$", page, re.MULTILINE)
    assert len(rows) >= 10
    assert [row for row in rows if "`tests/" not in row] == []


def shell_lines(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_first_command_takes_the_steps_of_the_readme_in_its_order():
    """tests/test_readme.py runs those on a broker, one after the other."""
    page = shell_lines(DOCS / "quickstart.md")
    steps = page[page.index("export LAPSE_BROKERS=127.0.0.1:9092") :]
    readme = shell_lines(ROOT / "README.md")
    begin = readme.index(steps[0])
    assert readme[begin : begin + len(steps)] == steps


def test_the_index_names_every_page():
    index = DOCS / "README.md"
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", index.read_text(encoding="utf-8")))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {index.name}
