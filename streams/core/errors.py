"""Errors that end a worker, and errors after which a partition is reopened.

Every error shown to a user is a `LapseError`: its text says what the user can do, its class determines the exit code.
"""

from __future__ import annotations


class LapseError(Exception):
    """The process has to stop; the user is shown only the text."""

    exit_code: int = 1


class Refused(LapseError):
    """Settings or topics are wrong: the next start would fail in the same way."""

    exit_code = 2


class Failed(LapseError):
    """Something outside the process failed for longer than the timeout, or in a way that waiting does not resolve."""


class Unreachable(Failed):
    """No broker answered within the timeout."""


class NewerRow(Exception):
    """A row that only a newer version of Lapse can have written; the text says what is unknown in it.

    The code that runs the partition makes a `Failed` of it, which names the topic.
    """


class ReopenPartition(Exception):
    """A partition's producer and tables can no longer be used; the partition can continue once it is reopened.

    This is never shown to a user: the code that runs the partition closes it and opens it again.
    """


class Fenced(ReopenPartition):
    """This producer epoch has ended: a newer one has begun, or the broker aborted the transaction.

    Nothing of the transaction was written.
    """


class CommitFailed(ReopenPartition):
    """A commit failed or its result is unknown; the committed offsets show whether it succeeded."""
