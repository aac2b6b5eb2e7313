"""Counts what was asked of each service: the budgets of the house are stated in requests."""

from __future__ import annotations

from collections import Counter
from threading import Lock


class RequestCounter:
    """Counts requests that left, by (service, kind), such as ``("dataverse", "$batch")``. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, service: str, kind: str) -> None:
        """Count one request."""
        with self._lock:
            self._counts[(service, kind)] += 1

    def counts(self) -> dict[tuple[str, str], int]:
        """A copy of all counts."""
        with self._lock:
            return dict(self._counts)

    def total(self, service: str | None = None) -> int:
        """All requests, or those to one service."""
        with self._lock:
            return sum(count for (name, _), count in self._counts.items() if service in (None, name))
