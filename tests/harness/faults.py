"""What goes wrong with one HTTP call, and how the client sees it. Sources: reliability facts §1.3 (F1-F8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Crash(BaseException):
    """The process dies here. Not an Exception, so that no handler of the connector can survive it."""


class Kind(StrEnum):
    """The nine faults of issue 4."""

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    LOST_ANSWER = "answer lost"
    LOST_REQUEST = "request lost"
    THROTTLED = "429"
    ERROR_DONE = "500 that did it"
    ERROR_NOT_DONE = "500 that did not"
    TRUNCATED = "truncated body"
    PRECONDITION = "412"

    @property
    def is_done(self) -> bool:
        """Whether the service carried the call out all the same."""
        return self in (Kind.CRASH_AFTER, Kind.LOST_ANSWER, Kind.ERROR_DONE, Kind.TRUNCATED)


ON_READS = (Kind.CRASH_AFTER, Kind.LOST_ANSWER, Kind.THROTTLED, Kind.PRECONDITION)
"""One of each class of faults that a read can tell apart.

A read changes nothing, so whether the service saw it makes no difference: both crashes are one class, and so are the
five ways in which an answer is missing or useless (all are repeated).
"""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault at the ``call``-th HTTP call of a scenario, counted from 1 over all of its passes."""

    call: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind.value} at call {self.call}"
