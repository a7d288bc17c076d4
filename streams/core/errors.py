"""How a worker ends: each class says which exit code it means, each text what a person can do."""

from __future__ import annotations

from typing import ClassVar


class LapseError(Exception):
    """The worker has to stop; the text is all that its user is shown."""

    exit_code: ClassVar[int] = 1


class Refused(LapseError):
    """Settings or topics are wrong: it would end the same way at the next start."""

    exit_code = 2


class Failed(LapseError):
    """Something around us failed for longer than we wait, or in a way that waiting does not cure."""


class Fenced(Exception):
    """This producer epoch is over: another one has begun, or the broker gave the transaction up.

    Nothing of the step was written. The partition's producer and tables are of no use any more.
    """
