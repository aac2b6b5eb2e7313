"""What an answer means and whether to ask again: one table for reads, one for writes, one policy for both.

Two questions are kept apart everywhere: *may it be repeated?* and *is the outcome known?* A status that no table lists
falls through to the careful answer: a read is not understood, a write is unknown.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeVar

import requests
import tenacity
import urllib3.exceptions

from connector.errors import (
    AuthError,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    RemoteError,
    Transient,
)
from connector.sync.ports import Clock

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one HTTP status means: ``error`` is None for success; ``repeat`` says that sending it again is safe."""

    error: type[RemoteError] | None
    repeat: bool = False


_DONE = Meaning(None)
_LATER = Meaning(Transient, repeat=True)

READ_MEANINGS: Mapping[int, Meaning] = {
    400: Meaning(Rejected),
    401: Meaning(AuthError),
    403: Meaning(AuthError),
    404: Meaning(Rejected),
    405: Meaning(Rejected),
    408: _LATER,
    409: Meaning(Rejected),
    410: Meaning(Rejected),
    412: Meaning(PreconditionFailed),
    413: Meaning(Rejected),
    414: Meaning(Rejected),
    415: Meaning(Rejected),
    417: Meaning(PreconditionFailed),
    422: Meaning(Rejected),
    425: _LATER,
    429: _LATER,
    500: _LATER,
    502: _LATER,
    503: _LATER,
    504: _LATER,
}
"""Status of a safe request → meaning. 501 and 505 are left out on purpose: asking again changes nothing."""

WRITE_MEANINGS: Mapping[int, Meaning] = {
    400: Meaning(Rejected),
    401: Meaning(AuthError),
    403: Meaning(AuthError),
    404: Meaning(Rejected),
    405: Meaning(Rejected),
    409: Meaning(Rejected),
    410: Meaning(Rejected),
    412: Meaning(PreconditionFailed),
    413: Meaning(Rejected),
    414: Meaning(Rejected),
    415: Meaning(Rejected),
    417: Meaning(PreconditionFailed),
    422: Meaning(Rejected),
    429: _LATER,
}
"""Status of a write → meaning. 408 and every 5xx are left out: a gateway's time-out does not say what happened."""


def meaning_of_read(status: int) -> Meaning:
    """The meaning of a safe request's status; ProtocolError for a status that is not listed."""
    if 200 <= status < 300:
        return _DONE
    return READ_MEANINGS.get(status, Meaning(ProtocolError))


def meaning_of_write(status: int) -> Meaning:
    """The meaning of a write's status; a 4xx is a definite no, anything else that is not listed is unknown."""
    if 200 <= status < 300:
        return _DONE
    listed = WRITE_MEANINGS.get(status)
    if listed is not None:
        return listed
    return Meaning(Rejected) if 400 <= status < 500 and status not in (408, 425, 499) else Meaning(OutcomeUnknown)


def parse_retry_after(value: str | None, now: datetime, longest: float) -> float | None:
    """Seconds to wait from a ``Retry-After`` header (seconds or an HTTP date), between 0 and ``longest``.

    A date in the past is 0. None when the header is missing or says nothing that can be understood.
    """
    if value is None or not value.strip():
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
            if at.tzinfo is None:
                at = at.replace(tzinfo=UTC)
            seconds = (at - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    if seconds != seconds:  # NaN compares unequal to itself
        return None
    return min(max(seconds, 0.0), longest)


def _links(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it wraps in its arguments or as its reason (requests → urllib3 → socket)."""
    pending: list[BaseException] = [error]
    for _ in range(12):
        if not pending:
            return
        current = pending.pop(0)
        yield current
        wrapped = (*current.args, getattr(current, "reason", None), getattr(current, "original_error", None))
        pending.extend(item for item in wrapped if isinstance(item, BaseException))


def never_connected(error: BaseException) -> bool:
    """Whether a failed request certainly never reached the service: no connection was made at all."""
    no_connection = (
        requests.exceptions.ConnectTimeout,
        requests.exceptions.ProxyError,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.NameResolutionError,
        urllib3.exceptions.ConnectTimeoutError,
    )
    return any(isinstance(link, no_connection) for link in _links(error)) or untrusted(error)


def untrusted(error: BaseException) -> bool:
    """Whether the server's certificate was refused: nothing was sent, and asking again will not help."""
    return any(isinstance(link, ssl.SSLCertVerificationError) for link in _links(error))


class Again(Exception):
    """One attempt failed in a way that may be repeated; ``error`` is what to raise when no attempt is left."""

    def __init__(self, error: RemoteError, *, reason: str, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.reason = reason
        self.wait = wait


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential waits with jitter, never shorter than the service asked for, never past the run's deadline.

    ``jitter`` returns a number in [0, 1); times in seconds.
    """

    clock: Clock
    attempts: int = 5
    first_wait: float = 1.0
    max_wait: float = 60.0
    jitter: Callable[[], float] = random.random

    def backoff(self, attempt: int) -> float:
        """The wait after the given attempt (1, 2, …) when the service named none: half fixed, half random."""
        step = min(self.max_wait, self.first_wait * 2.0 ** min(attempt - 1, 30))
        return step / 2 + step / 2 * self.jitter()

    def run(self, attempt: Callable[[int], T], *, stop_before: datetime | None) -> T:
        """Call ``attempt(number)`` until it returns, raises something final, or no attempt or time is left."""

        def failure(state: tenacity.RetryCallState) -> Again:
            raised = state.outcome.exception() if state.outcome is not None else None
            assert isinstance(raised, Again)
            return raised

        def wait(state: tenacity.RetryCallState) -> float:
            asked = failure(state).wait
            if asked is None:
                return self.backoff(state.attempt_number)
            return asked + min(1.0, asked * 0.1) * self.jitter()

        def stop(state: tenacity.RetryCallState) -> bool:
            if state.attempt_number >= self.attempts:
                return True
            return stop_before is not None and self.clock.now() + timedelta(seconds=state.upcoming_sleep) > stop_before

        def before_sleep(state: tenacity.RetryCallState) -> None:
            again = failure(state)
            logger.warning(
                "%s: %s; attempt %d, waiting %.1f s",
                again.error.operation,
                again.reason,
                state.attempt_number,
                state.upcoming_sleep,
                extra={"event": "http.retry", "service": again.error.service, "wait_s": state.upcoming_sleep},
            )

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Again),
            wait=wait,
            stop=stop,
            sleep=self.clock.sleep,
            before_sleep=before_sleep,
            reraise=True,
        )
        number = 0

        def numbered() -> T:
            nonlocal number
            number += 1
            return attempt(number)

        try:
            return retrying(numbered)
        except Again as again:
            raise again.error from again.error.__cause__
