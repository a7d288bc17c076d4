"""`lapse import` and `lapse export`: convert files to text, with notes for the user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streams.core.escaping import json_text
from streams.rules.triggers import load_triggers
from streams.rules.zendesk.exporting import export_triggers
from streams.rules.zendesk.exports import ExportError, read_definitions, read_export
from streams.rules.zendesk.importing import Imported, import_triggers
from streams.rules.zendesk.names import Names, names_of
from streams.rules.zendesk.writing import document


@dataclass(frozen=True)
class Converted:
    """The result of a conversion."""

    text: str
    """The content of the output file."""
    messages: tuple[str, ...]
    """A line for everything that was not converted, or works differently."""
    summary: str


def convert_import(
    paths: list[Path], definitions: Path | None = None, categories: Path | None = None, *, sessions_only: bool = False
) -> Converted:
    """Turn Zendesk's exports into the text of a trigger file. Raises `ExportError`."""
    export = read_export(paths, categories)
    names = _names(definitions)
    imported = import_triggers(export, names, sessions_only=sessions_only)
    messages = [*export.remarks]
    source = str(paths[0])
    uses_sessions = any("messaging_session" in str(one.entry) for one in imported)
    messages.extend(_untitled(definitions, names))
    if not names.known and uses_sessions:
        messages.append(
            f"{source}: without --definitions the names of messaging fields are taken as they stand; fetch "
            "GET /api/v2/triggers/definitions.json, whose titles tell what they are"
        )
    without = {
        one.entry["category"]["name"]
        for one in imported
        if "category" in one.entry and one.entry["category"]["name"] not in _category_names(export.categories)
    }
    if without:
        messages.append(
            f"{source}: the positions of categories ({len(without)}) are not in the export, so they sort as they first "
            "come; name GET /api/v2/trigger_categories.json with --categories"
        )
    for one in imported:
        messages.extend(f"{source}: {one.label}: {reason}; kept inactive" for reason in one.reasons)
        messages.extend(f"{source}: {one.label}: {remark}" for remark in one.remarks)
    kept = sum(bool(one.reasons) for one in imported)
    active = sum(one.entry["active"] for one in imported)
    summary = f"{_triggers(len(imported))}: {len(imported) - kept} carried ({active} active), {kept} kept inactive"
    text = document([one.entry for one in imported], [_comments(one) for one in imported], _head(summary))
    return Converted(text, tuple(messages), summary)


def convert_export(path: Path, definitions: Path | None = None) -> Converted:
    """Turn a trigger file into JSON for Zendesk's API: `{"triggers": [...]}`. Raises `ExportError`."""
    names = _names(definitions)
    file = load_triggers(path)
    if file.ruleset is None:
        listed = "\n".join(map(str, file.errors))
        raise ExportError(f"{listed}\n{path}: not usable, see above; `lapse check {path}` says the same")
    exported = export_triggers(file, names)
    messages = [*_untitled(definitions, names)]
    if file.ruleset.cycle == "single_pass":
        messages.append(f"{path}: `cycle: single_pass`: Zendesk goes through its triggers again after each change")
    if file.ruleset.holdout is not None:
        messages.append(f"{path}: `holdout`: Zendesk has none, and its triggers fire on every ticket")
    if file.ruleset.limit is not None:
        messages.append(f"{path}: `limit`: Zendesk has none, and its triggers fire as often as they match")
    messages.extend(
        f"{path}: trigger `{trigger.id}`: `limit`: Zendesk has none, and this trigger fires as often as it matches"
        for trigger in file.ruleset.triggers
        if trigger.limit is not None
    )
    if not names.known and any("messaging_session" in json.dumps(one.trigger) for one in exported):
        messages.append(
            f"{path}: without --definitions messaging fields have Lapse's names, which Zendesk may call otherwise; "
            "fetch GET /api/v2/triggers/definitions.json"
        )
    for one in exported:
        messages.extend(f"{path}: {one.label}: {reason}; exported inactive" for reason in one.reasons)
        messages.extend(f"{path}: {one.label}: {remark}" for remark in one.remarks)
    held = sum(bool(one.reasons) for one in exported)
    summary = f"{_triggers(len(exported))}: {len(exported) - held} as they are, {held} exported inactive"
    text = json_text(json.dumps({"triggers": [one.trigger for one in exported]}, ensure_ascii=False, indent=2)) + "\n"
    return Converted(text, tuple(messages), summary)


def _names(definitions: Path | None) -> Names:
    return names_of(None if definitions is None else read_definitions(definitions))


def _triggers(count: int) -> str:
    return "1 trigger" if count == 1 else f"{count:,} triggers"


def _untitled(definitions: Path | None, names: Names) -> Iterator[str]:
    """Yield notes on titles that a definitions file does not contain, and the reason."""
    if not names.missing:
        return
    titles = " and ".join(f"`{title}`" for title in names.missing)
    likely = ", ".join(f"`{field}` ({title})" for field, title in names.likely.items())
    yield (
        f"{definitions}: no condition is titled {titles}"
        + (f"; what looks like it is {likely}" if likely else "")
        + ". Titles come in the language of the user who asks: fetch the file as a user whose language is English"
    )


def _category_names(categories: dict[str, dict[str, object]]) -> set[object]:
    return {entry.get("name") for entry in categories.values() if entry.get("position") is not None}


def _head(summary: str) -> list[str]:
    return [
        f"Made by `lapse import` from Zendesk's triggers; {summary}.",
        "What could not be carried stands above its trigger, which is inactive, and whole under `zendesk.original`.",
        "",
    ]


def _comments(one: Imported) -> list[str]:
    return [*(f"Not carried: {reason}." for reason in one.reasons), *(f"Mind: {remark}." for remark in one.remarks)]
