"""Service protection limits: requests, execution time and concurrency in a sliding window of 300 seconds.

Numbers, codes and messages: "Service protection API limits". The window runs by the sandbox's clock.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from connector.sandbox.dataverse.context import DataverseOptions
from connector.sandbox.dataverse.errors import ODataError

WINDOW = timedelta(seconds=300)


class Throttle:
    """Counts requests of the one application user on the one web server."""

    def __init__(self, now: Callable[[], datetime], options: DataverseOptions) -> None:
        self._now = now
        self._options = options
        self._lock = threading.Lock()
        self._served: deque[tuple[datetime, float]] = deque()
        self._spent = 0.0
        self._running = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Let one request in. Raises ODataError (429) with ``Retry-After`` in seconds."""
        with self._lock:
            self._admit()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What is left, as the service tells it for debugging."""
        with self._lock:
            requests = max(0, self._options.request_limit - len(self._served))
            seconds = max(0.0, self._options.execution_time_limit - self._spent)
        return (
            ("x-ms-ratelimit-burst-remaining-xrm-requests", str(requests)),
            ("x-ms-ratelimit-time-remaining-xrm-requests", f"{seconds:,.2f}"),
        )

    def _admit(self) -> None:
        now, options = self._now(), self._options
        while self._served and self._served[0][0] <= now - WINDOW:
            self._spent -= self._served.popleft()[1]
        if self._running >= options.concurrency_limit:
            limit = options.concurrency_limit
            raise _too_many("0x80072326", f"Number of concurrent requests exceeded the limit of {limit}.", 1)
        if len(self._served) >= options.request_limit:
            surplus = len(self._served) - options.request_limit
            raise _too_many(
                "0x80072322",
                f"Number of requests exceeded the limit of {options.request_limit} over time window of 300 seconds.",
                self._wait(now, surplus),
            )
        if self._served and self._spent >= options.execution_time_limit:
            raise _too_many(
                "0x80072321",
                "Combined execution time of incoming requests exceeded limit of "
                f"{options.execution_time_limit * 1000:,.0f} milliseconds over time window of 300 seconds. Decrease "
                "number of concurrent requests or reduce the duration of requests and try again later.",
                self._wait(now, 0),
            )
        self._served.append((now, options.seconds_per_request))
        self._spent += options.seconds_per_request

    def _wait(self, now: datetime, surplus: int) -> int:
        """Whole seconds until the request at this place has left the window."""
        place = min(surplus, len(self._served) - 1)
        if place < 0:
            return int(WINDOW.total_seconds())
        return max(1, math.ceil((self._served[place][0] + WINDOW - now).total_seconds()))


def _too_many(code: str, message: str, wait: int) -> ODataError:
    return ODataError(429, code, message, ("Retry-After", str(wait)))
