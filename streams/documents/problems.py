"""The problems a trigger file can have, with messages that help its author fix them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of problem: its severity and its general message."""

    severity: Severity
    meaning: str


CODES: dict[str, Code] = {
    # the file itself
    "not_found": Code("error", "there is no such file"),
    "is_directory": Code("error", "the path names a directory"),
    "unreadable": Code("error", "the operating system refuses to read the file"),
    "not_utf8": Code("error", "the file is written in another encoding than UTF-8"),
    "not_text": Code("error", "the file holds something else than text"),
    "too_large": Code("error", "the file is larger than 20 MB"),
    "empty": Code("error", "nothing is written in the file"),
    "zendesk_export": Code("error", "the file is Zendesk's own export, which `lapse import` turns into a trigger file"),
    # YAML
    "yaml_syntax": Code("error", "the text is not YAML"),
    "several_documents": Code("error", "the file holds more than one YAML document"),
    "duplicate_key": Code("error", "a key stands twice in one mapping"),
    "complex_key": Code("error", "a key is not a plain word"),
    "merge_key": Code("error", "YAML's merge key `<<`, which trigger files don't have"),
    "unknown_tag": Code("error", "a YAML tag (`!name`), which trigger files don't have"),
    "unknown_alias": Code("error", "an alias (`*name`) whose anchor (`&name`) does not stand above it"),
    "recursive_alias": Code("error", "an alias inside what it stands for"),
    "too_many_aliases": Code("error", "aliases that would blow the file up beyond reason"),
    "too_deep": Code("error", "nested deeper than 64 levels"),
    # shape
    "unknown_key": Code("error", "a key that does not exist at this place"),
    "missing_key": Code("error", "a required key is missing"),
    "wrong_type": Code("error", "a text where a list is needed, and the like"),
    "empty_value": Code("error", "a value that holds nothing"),
    "duplicate_id": Code("error", "two triggers with one id, or two tests with one name"),
    "bad_duration": Code("error", "not a duration such as `30s`"),
    "bad_cycle": Code("error", "`cycle` is neither `restart` nor `single_pass`"),
    # conditions and actions
    "no_condition": Code("error", "a trigger without any condition"),
    "no_action": Code("error", "a trigger without any action"),
    "unknown_field": Code("error", "a condition field that looks misspelt"),
    "similar_field": Code("warning", "a member of tickets whose name is much like a known field's"),
    "unlisted_member": Code("warning", "a condition on a member that Zendesk's tickets do not have"),
    "unknown_operator": Code("error", "an operator that does not exist"),
    "unsuitable_operator": Code("error", "an operator that makes no sense on its field"),
    "missing_value": Code("error", "an operator or an action lacks its value"),
    "superfluous_value": Code("error", "an operator that takes no value has one"),
    "unordered_value": Code("error", "an ordering operator with a value that has no place in the field's order"),
    "unknown_action": Code("error", "an action that does not exist"),
    # mapping files
    "no_members": Code("error", "a topic of a mapping file that says where no member is found"),
    "bad_expression": Code("error", "not a JMESPath expression"),
    "bad_choice": Code("error", "a word that is none of those that can stand there"),
    # tests
    "unknown_trigger": Code("error", "a test names a trigger that the file does not have"),
    "unknown_outcome": Code("error", "a test expects an outcome that does not exist"),
    "failed_test": Code("error", "a test of the file expects something else than what happens"),
    "bad_share": Code("error", "a share that is not a percentage from 0% to 100%"),
    "bad_limit": Code("error", "a limit whose `count` or `per` is none"),
    # advice
    "holds_out_nothing": Code("warning", "a holdout with a share of 0%"),
    "holds_out_everything": Code("warning", "a holdout with a share of 100%: no ticket gets a command"),
    "no_active_trigger": Code("warning", "no trigger of the file is active"),
    "unreachable": Code("warning", "conditions that can never hold together"),
    "overlap": Code("warning", "one lapse can fire two triggers that write the same field"),
    "open_is_not_new": Code("warning", "`status is open` leaves out tickets that are still New"),
    "unknown_value": Code("warning", "a value outside the field's known ones"),
    "unusual_operator": Code("warning", "an operator that is allowed on its field and rarely meant"),
    "separator_in_word": Code("warning", "a comma in a word: words are separated by spaces"),
    "mapping_in_value": Code("warning", "a mapping in a value that is passed on: a text with a colon lacks its quotes"),
    "symbolic_id": Code("warning", "`current_user` and the like where an id is compared or set"),
    "update_field": Code("warning", "a Zendesk condition on the update, which Lapse does not see"),
    "number_spelling": Code("warning", "a number whose spelling is lost, such as 1.10"),
    "duplicate_trigger": Code("warning", "two triggers that ask and do the same"),
    "shadowed": Code("warning", "a trigger that never fires, because an earlier one always leaves what it won't match"),
    "redundant": Code("warning", "a trigger whose work an earlier one has always done already"),
    "overwritten": Code("warning", "a trigger whose work a later one always does over"),
    "repeated_action": Code("warning", "an action whose effect a later one of the same trigger leaves nothing of"),
    "depends_on_trigger": Code("warning", "a trigger that can match only after another one has fired in the round"),
    "chained": Code("warning", "a trigger that fires in the same round because of what another one writes"),
    "ends_session_twice": Code("warning", "`routing_channel` beside `end_messaging_session`: in Zendesk both end it"),
    "cancels_waits": Code("warning", "ending the session cancels triggers of the file that wait longer"),
    "not_all_compared": Code("warning", "too many triggers alike to compare each with each"),
    "bad_allow": Code("warning", "a comment `lapse: allow` that allows nothing"),
    "unlisted_overlaps": Code("warning", "there are more overlaps than are listed"),
}
"""Every code a problem can have."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem at one place; `line` and `column` count from 1.

    >>> str(Problem("rules.yaml", 4, 9, "unknown_key", "unknown key `operatr`; did you mean `operator`?"))
    'rules.yaml:4:9: unknown_key: unknown key `operatr`; did you mean `operator`?'
    """

    file: str
    line: int
    column: int
    code: str
    message: str
    details: tuple[str, ...] = ()
    """Additional lines for problems that need more than one line, such as the result of a failed test."""

    @property
    def severity(self) -> Severity:
        """`error`: the file can't be used; `warning`: it can, but should be reviewed."""
        return CODES[self.code].severity

    def __str__(self) -> str:
        """Render in the format compilers use, so that editors can jump to the place."""
        return f"{self.file}:{self.line}:{self.column}: {self.code}: {self.message}"

    def text(self) -> str:
        """Return the message, followed by its details."""
        return "\n".join((self.message, *self.details))


class Place(Protocol):
    """Anything with a position in a file; both numbers count from 1."""

    @property
    def line(self) -> int:
        """The line number."""

    @property
    def column(self) -> int:
        """The character position within the line."""


class Findings:
    """Collects the problems of one file; a duplicate at the same place is kept once."""

    def __init__(self, file: str) -> None:
        """Start empty; `file` is the file name that problems report."""
        self.file = file
        self._problems: dict[Problem, None] = {}
        self.errors = 0
        """The number of problems that are errors."""

    def add(self, place: Place, code: str, message: str) -> None:
        """Add a problem at the position of `place`. An unknown code is a programming error and raises KeyError."""
        problem = Problem(self.file, place.line, place.column, code, message)
        if problem.severity == "error" and problem not in self._problems:
            self.errors += 1
        self._problems.setdefault(problem)

    @property
    def has_errors(self) -> bool:
        """Whether any problem prevents the file from being used."""
        return self.errors > 0

    def sorted(self) -> list[Problem]:
        """Return all problems in the order of their position in the file."""
        return sorted(self._problems, key=lambda problem: (problem.line, problem.column))


# --- did you mean -----------------------------------------------------------------------------------------------------


def nearest(word: str, candidates: Iterable[str], limit: int = 2) -> str | None:
    """Return the candidate that `word` most likely means; None when none is within `limit` typing errors.

    A typing error is an extra, missing or wrong letter, or two swapped letters. Words of up to four letters allow one.

    >>> nearest("staus", ["type", "status"]), nearest("vip", ["via_id"]), nearest("oprator", ["operator"])
    ('status', None, 'operator')
    """
    if len(word) <= 4:
        limit = min(limit, 1)
    best, best_slips = None, limit + 1
    for candidate in candidates:
        if abs(len(candidate) - len(word)) >= best_slips:
            continue
        slips = _slips(word, candidate)
        if slips < best_slips:
            best, best_slips = candidate, slips
    return best


def did_you_mean(word: str, candidates: Iterable[str], limit: int = 2) -> str:
    """Return `; did you mean ...?` to append to a message, or an empty string."""
    suggestion = nearest(word, candidates, limit)
    return f"; did you mean `{suggestion}`?" if suggestion else ""


def listed(names: Iterable[str]) -> str:
    """Return names as a readable list.

    >>> listed(["all", "any"])
    '`all`, `any`'
    """
    return ", ".join(f"`{name}`" for name in names)


@lru_cache(maxsize=65_536)
def _slips(left: str, right: str) -> int:
    """Return the optimal string alignment distance, cut off where it is too large to matter."""
    if len(left) > 64 or len(right) > 64:
        return 64
    before_last: list[int] = []
    last = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before_last[j - 2] + 1)
            row.append(cost)
        before_last, last = last, row
    return last[-1]
