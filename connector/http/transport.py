"""The one way out: every request to Dataverse and Partner Center passes through :class:`Transport`.

A *read* may be repeated until it succeeds; a *write* has one effective attempt, and what its answer means is decided by
the tables in :mod:`connector.http.retry`: done, definitely not done, or unknown. Nothing here follows redirects, keeps
cookies, or reads more than a set number of decoded bytes.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit
from uuid import uuid4

import requests
import urllib3.exceptions
from requests.structures import CaseInsensitiveDict

from connector.errors import OutcomeUnknown, ProtocolError, RemoteError, Transient
from connector.http.auth import BearerAuth, TokenSource
from connector.http.counter import RequestCounter
from connector.http.gate import DeadlinePassed, RateGate
from connector.http.messages import Answer, TransportSettings, hint_for, json_body, request_id_of, wording
from connector.http.origin import Origin
from connector.http.redaction import redact
from connector.http.retry import (
    Again,
    Meaning,
    RetryPolicy,
    meaning_of_read,
    meaning_of_write,
    never_connected,
    parse_retry_after,
    untrusted,
)
from connector.sync.ports import Clock

__all__ = ["Answer", "RequestCounter", "Transport", "TransportSettings", "json_body"]

logger = logging.getLogger(__name__)
_CHUNK = 64 * 1024

ParseError = Callable[[int, bytes], tuple[str, str]]
"""(status, body) → (the service's code, the service's text); must not raise and may return empty strings."""

Classify = Callable[[int, str], type[RemoteError] | None]
"""(status, code) → the error a 4xx or 5xx answer means for this service, or None for the general table."""


def no_error_detail(status: int, body: bytes) -> tuple[str, str]:
    """For services whose errors carry no code."""
    return "", ""


def no_special_case(status: int, code: str) -> type[RemoteError] | None:
    """For services without business codes."""
    return None


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    url: str
    operation: str
    headers: Mapping[str, str]
    body: bytes | None
    kind: str
    correlation: str
    writes: bool


class _Oversized(Exception):
    """An answer went over the cap."""


class _SignIn(Exception):
    """No token could be had now; nothing was sent."""

    def __init__(self, error: Transient) -> None:
        super().__init__(str(error))
        self.error = error


class Transport:
    """Requests to one service under one identity. Thread-safe if its session's adapters are (``make_session``).

    ``gate`` is shared by everything that uses the same environment and identity. ``classify`` overrides the general
    meaning of an error answer (Partner Center has business codes behind 403). ``stop_before`` is the run's deadline:
    no wait passes it. ``correlation_header`` carries a fresh id per call unless the caller gives its own value.
    """

    def __init__(
        self,
        *,
        service: str,
        origin: Origin,
        session: requests.Session,
        auth: TokenSource,
        gate: RateGate,
        clock: Clock,
        counter: RequestCounter,
        settings: TransportSettings | None = None,
        parse_error: ParseError = no_error_detail,
        classify: Classify = no_special_case,
        correlation_header: str = "x-ms-client-request-id",
        stop_before: datetime | None = None,
        jitter: Callable[[], float] | None = None,
        new_id: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self.service = service
        self.origin = origin
        self.gate = gate
        self.clock = clock
        self.counter = counter
        self.settings = settings or TransportSettings()
        self.stop_before = stop_before
        self.policy = RetryPolicy(
            clock,
            attempts=self.settings.attempts,
            first_wait=self.settings.first_wait,
            max_wait=self.settings.max_wait,
            jitter=jitter or random.random,
        )
        self._session = session
        self._tokens = auth
        self._auth = BearerAuth(origin, auth)
        self._parse_error = parse_error
        self._classify = classify
        self._correlation_header = correlation_header
        self._new_id = new_id

    def read(
        self,
        method: str,
        path_or_url: str,
        *,
        operation: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        kind: str | None = None,
        accept: Collection[int] = (),
        check: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """Send a safe request (GET, or a POST that only reads) and return its 2xx answer, however often it takes.

        ``accept`` lists further statuses to return instead of raising. ``check`` looks at the complete answer; if it
        raises ProtocolError or Transient, the request is repeated like a truncated one. Raises Transient when all
        attempts failed or the deadline is near, Rejected, PreconditionFailed, AuthError, ProtocolError.
        """
        call = self._call(method, path_or_url, operation, headers, body, kind, writes=False)

        def attempt(number: int) -> Answer:
            answer = self._attempt(call, number, accept)
            if check is not None:
                try:
                    check(answer)
                except (ProtocolError, Transient) as error:
                    if error.retry_after is not None:
                        self.gate.close_for(error.retry_after)
                    raise Again(error, reason="the answer cannot be used", wait=error.retry_after) from error
            return answer

        return self.policy.run(attempt, stop_before=self.stop_before)

    def write(
        self,
        method: str,
        path_or_url: str,
        *,
        operation: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        kind: str | None = None,
        accept: Collection[int] = (),
        repeat: bool = True,
    ) -> Answer:
        """Send a request that changes something, once.

        Sent again only when the first was definitely not done: 429, no connection, 401 with one fresh token. Without
        ``repeat`` only the last of these: for a body that is out of date as soon as time passes. Raises
        PreconditionFailed (412), Rejected (other 4xx), AuthError, Transient (definitely not done), OutcomeUnknown
        (time-out, reset, truncated answer, 408, 5xx: read back).
        """
        call = self._call(method, path_or_url, operation, headers, body, kind, writes=True)
        if not repeat:
            try:
                return self._attempt(call, 1, accept)
            except Again as again:
                raise again.error from again.error.__cause__
        return self.policy.run(lambda number: self._attempt(call, number, accept), stop_before=self.stop_before)

    def _call(
        self,
        method: str,
        path_or_url: str,
        operation: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        kind: str | None,
        *,
        writes: bool,
    ) -> _Call:
        url = self.origin.resolve(path_or_url)
        own = CaseInsensitiveDict(headers or {})
        correlation = own.setdefault(self._correlation_header, self._new_id())
        own.setdefault("Accept", "application/json")
        own.setdefault("Accept-Encoding", "gzip")
        first = re.split(r"[/(?]", url[len(self.origin.base_url) :].lstrip("/"), maxsplit=1)[0]
        return _Call(method, url, operation, own, body, kind or f"{method} {first}", correlation, writes)

    def _attempt(self, call: _Call, number: int, accept: Collection[int]) -> Answer:
        """One attempt, with at most one fresh token. Raises Again when it may be repeated."""
        answer = self._guarded(call, number)
        if answer.status == 401 and 401 not in accept:
            self._tokens.refresh()
            answer = self._guarded(call, number)
        meaning = meaning_of_write(answer.status) if call.writes else meaning_of_read(answer.status)
        if meaning.error is None or answer.status in accept:
            return answer
        code, text = self._parse_error(answer.status, answer.body)
        special = self._classify(answer.status, code)
        if special is not None:
            meaning = Meaning(special, repeat=not call.writes and issubclass(special, Transient))
        assert meaning.error is not None
        code = redact(code)[:200]  # the service's word, and it may echo what was sent
        wait = parse_retry_after(answer.headers.get("Retry-After"), self.clock.now(), self.settings.max_retry_after)
        if answer.status == 429 or (answer.status == 503 and wait is not None):
            wait = self.policy.backoff(number) if wait is None else wait
            self.gate.close_for(wait)
        error = meaning.error(
            f"{self.service} answered '{call.operation}' with status {answer.status}"
            + (f" ({code})" if code else "")
            + (f": {redact(text)[:500]}" if text else ""),
            service=self.service,
            operation=call.operation,
            status=answer.status,
            code=code,
            text=redact(text)[:2000],
            request_id=request_id_of(answer.headers),
            correlation_id=call.correlation,
            retry_after=wait,
            hint=hint_for(meaning.error, self.service),
        )
        if meaning.repeat:
            raise Again(error, reason=f"status {answer.status}", wait=wait)
        raise error

    def _guarded(self, call: _Call, number: int) -> Answer:
        """One exchange through the gate, with every failure below HTTP given its meaning."""
        try:
            with self.gate.slot(self.stop_before):
                return self._exchange(call, number)
        except DeadlinePassed as passed:
            raise self._error(
                Transient,
                call,
                f"{self.service} may be asked again in {passed.seconds:.0f} s, after this run's deadline",
                retry_after=passed.seconds,
            ) from None
        except _SignIn as failed:
            wait = failed.error.retry_after
            raise Again(failed.error, reason="no token", wait=wait) from failed.error
        except _Oversized as oversized:
            kind = OutcomeUnknown if call.writes else ProtocolError
            raise self._error(kind, call, f"{self.service} answered '{call.operation}' {oversized}") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as failure:
            raise self._broken(call, failure) from failure

    def _broken(self, call: _Call, failure: Exception) -> Exception:
        what = wording(failure)
        if untrusted(failure):
            error: RemoteError = self._error(Transient, call, f"the certificate of {self.service} is not trusted")
            error.hint = "Set ca_bundle to the PEM file of the authority that signs for your proxy or service."
            return error
        if never_connected(failure):
            error = self._error(Transient, call, f"{self.service} cannot be reached for '{call.operation}': {what}")
            error.__cause__ = failure
            return Again(error, reason=what)
        if call.writes:
            return self._error(
                OutcomeUnknown, call, f"the answer of {self.service} to '{call.operation}' was lost: {what}"
            )
        error = self._error(Transient, call, f"{self.service} did not answer '{call.operation}' completely: {what}")
        error.__cause__ = failure
        return Again(error, reason=what)

    def _exchange(self, call: _Call, number: int) -> Answer:
        """Send once and read the whole answer, at most ``max_bytes`` of it after decompression."""
        request = requests.Request(call.method, call.url, headers=call.headers, data=call.body, auth=self._auth)
        try:
            prepared = self._session.prepare_request(request)
        except Transient as error:
            raise _SignIn(error) from error
        # requests re-quotes addresses; links that the service gave must go back byte for byte.
        prepared.url = call.url
        verify = self._session.verify
        options = self._session.merge_environment_settings(call.url, {}, True, verify, None)
        started = self.clock.now()
        self.counter.add(self.service, call.kind)
        status: int | None = None
        request_id = None
        try:
            with closing(
                self._session.send(
                    prepared,
                    timeout=(self.settings.connect_timeout, self.settings.read_timeout),
                    allow_redirects=False,
                    **options,
                )
            ) as response:
                status = response.status_code
                headers = CaseInsensitiveDict(response.headers)
                request_id = request_id_of(headers)
                body = self._body(response, started)
                return Answer(status, headers, body, call.url, self.service, call.operation)
        finally:
            elapsed = (self.clock.now() - started).total_seconds()
            path = urlsplit(call.url).path
            logger.debug(
                "%s %s %s: %s in %.3f s",
                self.service,
                call.method,
                path,
                status or "no answer",
                elapsed,
                extra={
                    "event": "http.request",
                    "service": self.service,
                    "operation": call.operation,
                    "method": call.method,
                    "path": path,
                    "status": status,
                    "attempt": number,
                    "elapsed_ms": round(elapsed * 1000),
                    "correlation_id": call.correlation,
                    "request_id": request_id,
                },
            )

    def _body(self, response: requests.Response, started: datetime) -> bytes:
        parts: list[bytes] = []
        size = 0
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > self.settings.max_bytes:
                raise _Oversized(f"with more than {self.settings.max_bytes} bytes")
            if (self.clock.now() - started).total_seconds() > self.settings.answer_timeout:
                raise requests.exceptions.ReadTimeout("the whole answer took too long")
            parts.append(chunk)
        return b"".join(parts)

    def _error(
        self, kind: type[RemoteError], call: _Call, message: str, *, retry_after: float | None = None
    ) -> RemoteError:
        return kind(
            message,
            service=self.service,
            operation=call.operation,
            correlation_id=call.correlation,
            retry_after=retry_after,
            hint=hint_for(kind, self.service),
        )
