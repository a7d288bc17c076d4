"""Several steps as one: what goes into the same transaction."""

from __future__ import annotations

from streams.core.partition import Step


def absorb(whole: Step, part: Step) -> None:
    """Add to `whole` the step that was taken right after it; of a row that both changed, the later one stays."""
    whole.next_offsets.update(part.next_offsets)
    whole.stream_time = part.stream_time
    whole.taken += part.taken
    whole.records += part.records
    whole.commands += part.commands
    whole.dead_letters += part.dead_letters
    whole.ticket_rows.update(part.ticket_rows)
    whole.session_rows.update(part.session_rows)
    whole.counts.update(part.counts)
    whole.misrouted.update(part.misrouted)
    whole.facts += part.facts
    whole.pending_rounds = part.pending_rounds
    if whole.oldest_taken is None or (part.oldest_taken is not None and part.oldest_taken < whole.oldest_taken):
        whole.oldest_taken = part.oldest_taken


def bulk(step: Step) -> int:
    """Return about how many bytes a step writes: its rows and dead letters, which alone can be large."""
    rows = sum(len(row) for table in (step.ticket_rows, step.session_rows) for row in table.values() if row is not None)
    return rows + sum(len(letter.record.value or b"") for letter in step.dead_letters)
