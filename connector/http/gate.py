"""One gate per environment and identity: how many may send at once, how many per minute, and when nobody may.

Service limits count per identity, not per call site, so everything that signs in as the same identity shares one gate
(Microsoft docs: "Service protection API limits", Partner Center "API throttling guidance").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Condition, Lock

from connector.sync.ports import Clock


class DeadlinePassed(Exception):
    """The gate would open only after the run's deadline, ``seconds`` from now."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the gate opens in {seconds:.0f} s, after the deadline")
        self.seconds = seconds


class RateGate:
    """Bounded concurrency, a closed time after a 429, and at most ``requests_per_minute`` in any 60 seconds.

    A 429 halves the concurrency, twenty answers in a row give one slot back, up to the limit. Thread-safe.
    """

    def __init__(self, clock: Clock, *, concurrency: int = 4, requests_per_minute: int | None = None) -> None:
        if concurrency < 1 or (requests_per_minute is not None and requests_per_minute < 1):
            raise ValueError("a gate lets at least one request through")
        self._clock = clock
        self._limit = concurrency
        self._slots = concurrency
        self._in_use = 0
        self._calm = 0
        self._free = Condition()
        self._per_minute = requests_per_minute
        self._sent: deque[datetime] = deque()
        self._closed_until: datetime | None = None
        self._times = Lock()

    @property
    def concurrency(self) -> int:
        """How many requests may be under way now."""
        with self._free:
            return self._slots

    def set_concurrency(self, limit: int) -> None:
        """Set the upper bound of requests under way, such as from Dataverse's ``x-ms-dop-hint``; at least 1."""
        with self._free:
            self._limit = self._slots = max(1, limit)
            self._free.notify_all()

    def close_for(self, seconds: float) -> None:
        """Nobody sends for ``seconds`` (a 429 arrived); a shorter time never shortens a longer one."""
        now = self._clock.now()
        until = now + timedelta(seconds=seconds)
        with self._times:
            # Requests that were already under way bring one 429 each: together they are one sign of overload.
            first = self._closed_until is None or self._closed_until <= now
            if self._closed_until is None or until > self._closed_until:
                self._closed_until = until
        if first:
            with self._free:
                self._slots = max(1, self._slots // 2)
                self._calm = 0

    @contextmanager
    def slot(self, stop_before: datetime | None = None) -> Iterator[None]:
        """Hold one slot while a request is under way; waits until it may be sent.

        Raises DeadlinePassed instead of waiting past ``stop_before``.
        """
        with self._free:
            while self._in_use >= self._slots:
                self._free.wait()
            self._in_use += 1
        try:
            self._wait_until_open(stop_before)
            yield
        finally:
            with self._free:
                self._in_use -= 1
                self._calm += 1
                if self._calm >= 20 and self._slots < self._limit:
                    self._slots += 1
                    self._calm = 0
                self._free.notify_all()

    def _wait_until_open(self, stop_before: datetime | None) -> None:
        while True:
            with self._times:
                now = self._clock.now()
                wait = self._seconds_until_open(now)
                if wait <= 0:
                    if self._per_minute is not None:
                        self._sent.append(now)
                    return
            if stop_before is not None and now + timedelta(seconds=wait) > stop_before:
                raise DeadlinePassed(wait)
            self._clock.sleep(wait)

    def _seconds_until_open(self, now: datetime) -> float:
        wait = 0.0
        if self._closed_until is not None:
            wait = (self._closed_until - now).total_seconds()
            if wait <= 0:
                self._closed_until = None
        if self._per_minute is not None:
            minute = timedelta(seconds=60)
            while self._sent and now - self._sent[0] >= minute:
                self._sent.popleft()
            if len(self._sent) >= self._per_minute:
                wait = max(wait, (self._sent[0] + minute - now).total_seconds())
        return wait
