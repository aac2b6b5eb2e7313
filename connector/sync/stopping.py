"""When a pass starts no further family: somebody asked it to stop, or its deadline passed.

What is in hand is always finished: a family that is left in the middle is right after the next run, but one that is
finished needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from connector.sync.ports import Clock


class StopRequest:
    """A person's or the system's wish that a run comes to its end. Set from a signal handler, read by all threads."""

    __slots__ = ("_reason",)

    def __init__(self) -> None:
        self._reason: str | None = None

    def ask(self, reason: str) -> None:
        """Ask for the end; the first reason counts."""
        if self._reason is None:
            self._reason = reason

    @property
    def reason(self) -> str | None:
        """Why the run is to end, None as long as nobody asked."""
        return self._reason


def why_stop(stop: StopRequest, clock: Clock, stop_before: datetime | None) -> str | None:
    """Why no further family may be started now; None if one may."""
    if stop.reason is not None:
        return stop.reason
    if stop_before is not None and clock.now() >= stop_before:
        return "run.deadline passed"
    return None


Brake = Callable[[], str | None]
"""Asked before each family: why it may not be started, or None. What it raises ends the run."""
