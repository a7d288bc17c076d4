"""Escaping of text from records and files for a terminal or a log.

The author of a field must not be able to clear the reader's screen, set the title of the window, or forge a line.
Everything written to a terminal or a log goes through this module.
"""

from __future__ import annotations

import re

_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_BREAKS = "\u2028\u2029"
_UNPRINTABLE = "\ufeff\ufff9-\ufffb\ud800-\udfff"
_CONTROL = re.compile(rf"[\x00-\x1f\x7f-\x9f{_DIRECTION}{_BREAKS}{_UNPRINTABLE}]")
_CONTROL_BUT_LINE_FEED = re.compile(rf"[\x00-\x09\x0b-\x1f\x7f-\x9f{_DIRECTION}{_BREAKS}{_UNPRINTABLE}]")
_CONTROL_IN_JSON = re.compile(rf"[\x7f-\x9f{_DIRECTION}{_BREAKS}{_UNPRINTABLE}]")
"""JSON already escapes the others in its strings; between its tokens they are white space and must stay."""


def has_control(text: str) -> bool:
    r"""Return whether a text contains anything that `one_line` would escape.

    >>> has_control("open"), has_control("a\tb")
    (False, True)
    """
    return _CONTROL.search(text) is not None


def one_line(text: str) -> str:
    r"""Return a text with control characters, line breaks and direction marks escaped.

    >>> one_line("a\x1b[2Jb\r\nc\u202e")
    'a\\x1b[2Jb\\r\\nc\\u202e'
    """
    return _CONTROL.sub(_escaped, text)


def lines(text: str) -> str:
    r"""Do what `one_line` does for a text of several lines: line feeds are not escaped.

    >>> lines("first\nsecond\x07")
    'first\nsecond\\x07'
    """
    return _CONTROL_BUT_LINE_FEED.sub(_escaped, text)


def json_text(text: str) -> str:
    r"""Return JSON with those control characters escaped that JSON itself allows unescaped.

    >>> json_text('{"a": "\u202e\x7f"}')
    '{"a": "\\u202e\\u007f"}'
    """
    return _CONTROL_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
