"""The commands that the pages show work as they stand, one after the other, and links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NEEDS_BROKER = {"run", "demo", "topics", "capture", "feed", "dead-letters", "state", "rules"}
"""Verbs whose commands tests/test_readme.py and tests/worker start on a broker."""

NEED_BROKER_TOO = {"apply pause", "apply resume"}
"""The same of verbs with others behind them; tests/zendesk starts these."""

EXPECTED_EXIT = re.compile(r"# exits with (\d)")
"""A command that is shown for what it finds says so behind itself."""


def commands(page: Path) -> list[str]:
    """The `./dev lapse` lines of a page, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.removeprefix("./dev lapse ") for line in joined.splitlines() if line.startswith("./dev lapse ")]


ON_A_BROKER = {"changing-rules.md"}
"""Pages whose commands need a broker even where the verb does not: tests/test_changing_rules.py runs them."""

WITH_COMMANDS = [
    page
    for page in PAGES
    if page.name not in ON_A_BROKER and any(shlex.split(c)[0] not in NEEDS_BROKER for c in commands(page))
]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_of_a_page_work_one_after_the_other(page: Path, tmp_path: Path):
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if words[0] in NEEDS_BROKER or " ".join(words[:2]) in NEED_BROKER_TOO:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "streams", *words],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        expected = EXPECTED_EXIT.search(line)
        assert done.returncode == (int(expected[1]) if expected else 0), f"{line}\n{done.stdout}{done.stderr}"


def test_admins_pages_show_commands():
    assert {"from-zendesk.md", "writing-triggers.md"} <= {page.name for page in WITH_COMMANDS}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page: Path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
