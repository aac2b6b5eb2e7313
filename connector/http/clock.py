"""Time as the services see it: a machine whose clock is wrong must not buy seats a day early.

The first answer of a run (the sign-in service's) carries a ``Date``. If the machine's clock is off by more than a few
seconds, everything that the run decides and records follows the service instead. Waiting and durations are not changed.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import requests

from connector.http.session import Observer
from connector.sync.ports import Clock

logger = logging.getLogger(__name__)

TOLERANCE = timedelta(seconds=5)
"""A ``Date`` has whole seconds and the answer took its time: less than this is no difference."""


class ServiceClock:
    """A clock that is set once, by the first answer that is dated. Also watches the session for that answer."""

    def __init__(self, base: Clock, inner: Observer | None = None) -> None:
        self._base = base
        self._inner = inner
        self._offset = timedelta()
        self._is_set = False

    def now(self) -> datetime:
        """The present instant, by the services' time once an answer was seen."""
        return self._base.now() + self._offset

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._base.sleep(seconds)

    def before(self, request: requests.PreparedRequest) -> None:
        """Pass on to whoever else watches the session."""
        if self._inner is not None:
            self._inner.before(request)

    def after(self, response: requests.Response) -> None:
        """Set the clock by the first dated answer."""
        if not self._is_set:
            self._set(response.headers.get("Date"))
        if self._inner is not None:
            self._inner.after(response)

    def _set(self, header: str | None) -> None:
        if header is None:
            return
        try:
            told = parsedate_to_datetime(header)
        except (TypeError, ValueError):
            return
        self._is_set = True
        told = told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)
        offset = told - self._base.now()
        if abs(offset) > TOLERANCE:
            logger.warning("this machine's clock is off by %s; the run follows the sign-in service's time", -offset)
            self._offset = offset
