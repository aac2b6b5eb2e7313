"""Requests that the network keeps for a while: the client gave up on them long before the service sees them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.sandbox.wire import Request

USUAL_DELAY = timedelta(minutes=40)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request that arrives at an instant. ``signed_in``: its token was good when it was sent."""

    due: datetime
    service: str
    request: Request
    signed_in: bool


class Deliveries:
    """What is on its way, in the order of sending. An observer of the clock; thread-safe."""

    def __init__(self, deliver: Callable[[Delivery], None]) -> None:
        self.waiting: tuple[Delivery, ...] = ()
        self._deliver = deliver
        self._lock = threading.Lock()

    def put_off(self, delivery: Delivery) -> None:
        """Keep a request until its instant."""
        with self._lock:
            self.waiting = (*self.waiting, delivery)

    def next_due(self) -> datetime | None:
        """When the next request arrives."""
        return min((delivery.due for delivery in self.waiting), default=None)

    def run_due(self, now: datetime) -> None:
        """Hand over what arrives now, in the order of arrival."""
        with self._lock:
            due = sorted((delivery for delivery in self.waiting if delivery.due <= now), key=lambda each: each.due)
            self.waiting = tuple(delivery for delivery in self.waiting if delivery.due > now)
        for delivery in due:
            self._deliver(delivery)
