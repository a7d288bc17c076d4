"""How a worker ends, and how a partition begins anew.

Every error that a user is shown is a `LapseError`: its text says what a person can do, its class the exit code.
"""

from __future__ import annotations


class LapseError(Exception):
    """The process has to stop; the text is all that its user is shown."""

    exit_code: int = 1


class Refused(LapseError):
    """Settings or topics are wrong: it would end the same way at the next start."""

    exit_code = 2


class Failed(LapseError):
    """Something around us failed for longer than we wait, or in a way that waiting does not cure."""


class Unreachable(Failed):
    """No broker answered for as long as we wait."""


class ReopenPartition(Exception):
    """A partition's producer and tables are of no more use; a partition that is opened anew can go on.

    Nobody is shown this: whoever runs the partition closes it and opens it again.
    """


class Fenced(ReopenPartition):
    """This producer epoch is over: another one has begun, or the broker gave the transaction up.

    Nothing of the transaction was written.
    """


class CommitFailed(ReopenPartition):
    """A transaction could not be committed, or nobody knows whether it was: the committed offsets will tell."""
