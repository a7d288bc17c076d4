"""Files that are no trigger files: one line that says what is wrong, where, and what to do. Never a traceback."""

from __future__ import annotations

import gzip
import time
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.rules.check import MAX_SHOWN, check_files

GOOD = """\
triggers:
  - id: a
    title: Kündigung im Gespräch
    conditions: {all: [{field: status, operator: is, value: pending}]}
    actions: [{field: priority, value: low}]
"""
BOMB = "x0: &x0 [a, a, a, a, a, a, a, a, a]\n" + "".join(
    f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
SOUND = {
    "with a byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "with Windows' ends of line": GOOD.replace("\n", "\r\n").encode(),
    "with old Apple's ends of line": GOOD.replace("\n", "\r").encode(),
    "without an end of line": GOOD.rstrip().encode(),
}
BAD = {
    "empty": (b"", "1:1: empty: the file is empty; it needs a list `triggers`"),
    "blank": (b" \n\n# nothing yet\n", "1:1: empty: the file is empty; it needs a list `triggers`"),
    "a byte order mark alone": (b"\xef\xbb\xbf", "1:1: empty: "),
    "an open quote": (GOOD.replace("Kü", '"Kü').encode(), "3:12: yaml_syntax: found unexpected end of stream (while"),
    "an open bracket": (GOOD.replace("pending}]}", "pending}]").encode(), ": yaml_syntax: did not find expected"),
    "a missing colon": (GOOD.replace("    title:", "    title").encode(), "is the `:` missing behind a key"),
    "a document mark alone": (b"---\n", "1:1: empty: "),
    "uneven indentation": (GOOD.replace("    title", "   title").encode(), "3:4: yaml_syntax: "),
    "a colon too many": (
        GOOD.replace("Kündigung", "Kündigung: ja").encode(),
        "is a `:` inside a text that lacks quotes",
    ),
    "tabs": (
        GOOD.replace("    title", "\ttitle").encode(),
        "3:1: yaml_syntax: a tab indents this line; YAML wants spaces",
    ),
    "a duplicate key": (
        GOOD.replace("    title", "    id: b\n    title").encode(),
        "3:5: duplicate_key: `id` stands on line 2",
    ),
    "50 MB of text": (b"# nothing\n" * 5_000_000, "1:1: too_large: larger than 20 MB: is this the right file?"),
    "50 MB of nothing": (bytes(50_000_000), "1:1: too_large: "),
    "a bomb of aliases": (
        BOMB.encode(),
        "too_many_aliases: the aliases of this file stand for more than 100000 values",
    ),
    "deep brackets": (b"[" * 1_000_000, "1:65: too_deep: nested deeper than 64 levels"),
    "deep mappings": ("\n".join(" " * n + "a:" for n in range(2_000)).encode(), "65:65: too_deep: "),
    "a NUL": (GOOD.replace("Gespräch", "Gespr\0ch").encode(), "3:30: not_text: a NUL byte stands here"),
    "NULs alone": (bytes(100), "1:1: not_text: a NUL byte stands here"),
    "a control character": (
        GOOD.replace("Gespräch", "Gespr\x07ch").encode(),
        "3:30: yaml_syntax: the character U+0007",
    ),
    "Windows-encoded": (
        GOOD.encode("cp1252"),
        "3:13: not_utf8: byte 0xFC is not UTF-8: the file looks Windows-encoded (`ü`",
    ),
    "UTF-16": (GOOD.encode("utf-16"), "1:1: not_utf8: written as UTF-16 (Windows calls it Unicode); save it as UTF-8"),
    "UTF-16, big end first": (b"\xfe\xff" + GOOD.encode("utf-16-be"), "1:1: not_utf8: written as UTF-16"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "1:1: not_utf8: written as UTF-16"),
    "UTF-16 without a mark, big end first": (GOOD.encode("utf-16-be"), "1:1: not_utf8: written as UTF-16"),
    "UTF-32": (GOOD.encode("utf-32"), "1:1: not_utf8: written as UTF-32; save it as UTF-8"),
    "compressed": (gzip.compress(GOOD.encode()), "1:1: not_text: this is compressed with gzip: unpack it first"),
    "a list": (
        b"- id: a\n- id: b\n",
        "1:1: wrong_type: a trigger file is a mapping, and this is a list: write `triggers:`",
    ),
    "a word": (
        b"hello\n",
        "1:1: wrong_type: a trigger file is a mapping with `cycle`, `holdout`, `limit`, `triggers`, `tests`",
    ),
    "a web page": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "1:1: wrong_type: "),
    "several documents": (GOOD.encode() + b"---\n" + GOOD.encode(), "6:1: several_documents: "),
    "broken JSON": (b'{"triggers": [{"id": "a"}', "yaml_syntax: did not find expected ',' or ']'"),
    "Zendesk's export": (
        b'{"triggers": [], "count": 0, "next_page": null}',
        "turn it into a trigger file with `lapse import`",
    ),
    "the triggers of Zendesk's export": (
        b'{"triggers": [{"id": 1, "url": "u", "raw_title": "t", "category_id": "2", "default": false}]}',
        "turn it into a trigger file with `lapse import`",
    ),
    "one trigger of Zendesk's": (b'{"trigger": {"id": 1}}', "turn it into a trigger file with `lapse import`"),
    "Python objects": (b"triggers: !!python/object/apply:os.system []\n", "1:11: unknown_tag: the tag"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_trigger_file_gets_one_line_that_says_so(kind, tmp_path: Path):
    content, says = BAD[kind]
    path = tmp_path / "rules.yaml"
    path.write_bytes(content)
    begun = time.monotonic()
    done = CliRunner().invoke(app, ["check", str(path)])
    assert time.monotonic() - begun < 5
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code == 1
    problem, summary = done.output.splitlines()
    assert problem.startswith(f"{path}:")
    assert says in problem
    assert len(problem) < 500
    assert summary == "1 file, 0 triggers (0 active), 0 tests run: 1 error, 0 warnings"


@pytest.mark.parametrize("kind", SOUND)
def test_ends_of_lines_and_a_byte_order_mark_do_not_matter(kind, tmp_path: Path):
    path = tmp_path / "rules.yaml"
    path.write_bytes(SOUND[kind])
    report = check_files([path])
    assert report.problems == ()
    assert report.files[0].ruleset is not None
    assert report.files[0].ruleset.triggers[0].title == "Kündigung im Gespräch"


def test_a_directory_a_missing_file_and_one_that_is_locked_are_named(tmp_path: Path):
    assert str(check_files([tmp_path]).problems[0]).endswith(
        ":1:1: is_directory: this is a directory; name the file in it"
    )
    assert str(check_files([tmp_path / "none"]).problems[0]).endswith(":1:1: not_found: no such file")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert check_files([loop]).problems[0].code == "unreadable"
    assert check_files(["a\0b"]).problems[0].code == "unreadable"


def test_an_archive_is_named(tmp_path: Path):
    path = tmp_path / "rules.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rules.yaml", GOOD)
    assert "a ZIP archive or an Office document" in check_files([path]).problems[0].message


def test_bad_files_do_not_keep_others_from_being_checked(tmp_path: Path):
    (tmp_path / "bad.yaml").write_bytes(b"\0")
    (tmp_path / "good.yaml").write_text(GOOD)
    report = check_files([tmp_path / "bad.yaml", tmp_path / "good.yaml"])
    assert [problem.code for problem in report.problems] == ["not_text"]
    assert report.summary() == "2 files, 1 trigger (1 active), 0 tests run: 1 error, 0 warnings"


@pytest.mark.timeout(60)
def test_a_problem_in_every_line_is_not_shown_for_ever(tmp_path: Path):
    path = tmp_path / "rules.yaml"
    path.write_text("triggers:\n" + "- x\n" * 20_000)
    report = check_files([path])
    lines = report.text().splitlines()
    assert len(lines) == MAX_SHOWN + 2
    assert lines[-2] == "and 19000 problems more; --format json names them all"
    assert len(report.json()["problems"]) == 20_000


def test_standard_input_is_checked_like_a_file():
    done = CliRunner().invoke(app, ["check", "-"], input=GOOD.replace("priority", "prioriti").encode())
    assert done.exit_code == 1
    assert done.output.startswith("<stdin>:5:23: unknown_action: there is no action `prioriti`; did you mean")
    done = CliRunner().invoke(app, ["check", "-"], input=GOOD.encode("utf-16"))
    assert done.output.startswith("<stdin>:1:1: not_utf8: written as UTF-16")


def test_what_a_terminal_would_obey_is_spelt_out(tmp_path: Path):
    path = tmp_path / "rules.yaml"
    path.write_text('triggers:\n  - {id: "a\\e[31m\\nb", x: 1}\n')
    first, *_ = CliRunner().invoke(app, ["check", str(path)]).output.splitlines()
    assert "the trigger `a\\x1b[31m\\nb` has no condition" in first
