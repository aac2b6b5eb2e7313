"""The one clock of a sandbox: it stands still until somebody moves it; what is due happens on the way."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Observer(Protocol):
    """Something with appointments: renewals of the provider, jobs of the CRM."""

    def next_due(self) -> datetime | None:
        """The earliest instant at which something is to happen, or None. May lie in the past: then it is overdue."""

    def run_due(self, now: datetime) -> None:
        """Do everything that is due at ``now``. Afterwards ``next_due()`` must be later than ``now``."""


class SandboxClock:
    """Aware UTC time that only :meth:`advance`, :meth:`set` and :meth:`sleep` move, and never backwards.

    Moving it stops at every appointment of every observer, in order of time, so that a renewal at midnight and a job
    at 00:05 see the world in the order in which the real services would.
    """

    def __init__(self, start: datetime) -> None:
        self._now = as_utc(start)
        self._moving = threading.RLock()
        self._observers: list[Observer] = []

    def now(self) -> datetime:
        """The present instant."""
        return self._now

    def observe(self, observer: Observer) -> None:
        """Ask ``observer`` for its appointments from now on."""
        self._observers.append(observer)

    def advance(self, by: timedelta) -> datetime:
        """Move on by a length of time; returns the new instant. Raises ValueError for a negative length."""
        with self._moving:
            return self.set(self._now + by)

    def sleep(self, seconds: float) -> None:
        """What a client that waits on this clock calls: nothing sleeps, the clock moves on."""
        self.advance(timedelta(seconds=seconds))

    def set(self, instant: datetime) -> datetime:
        """Move on to an instant; returns it. Raises ValueError when it lies in the past."""
        target = as_utc(instant)
        with self._moving:
            if target < self._now:
                raise ValueError(f"the sandbox's clock never runs backwards: it is {self._now}, asked for {target}")
            while (due := self._earliest()) is not None and due <= target:
                self._now = max(self._now, due)
                self._run_due()
            self._now = target
            return target

    def _earliest(self) -> datetime | None:
        return min((due for observer in self._observers if (due := observer.next_due()) is not None), default=None)

    def _run_due(self) -> None:
        now = self._now
        for observer in self._observers:
            due = observer.next_due()
            if due is None or due > now:
                continue
            observer.run_due(now)
            left = observer.next_due()
            if left is not None and left <= now:
                raise RuntimeError(f"{type(observer).__name__} left something undone that was due at {left}")


def as_utc(instant: datetime) -> datetime:
    """An aware instant in UTC. An instant without a zone is taken as UTC, which is what both services do."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def wire_instant(instant: datetime) -> str:
    """ISO 8601 with ``Z`` and whole seconds, as traces and reports print it."""
    return as_utc(instant).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
