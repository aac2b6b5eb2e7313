"""What goes out and comes back: answers, the limits they are read under, and the words for what went wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from connector.errors import AuthError, OutcomeUnknown, ProtocolError, RemoteError, Transient
from connector.http.redaction import redact
from connector.http.retry import never_connected

REQUEST_ID_HEADERS = ("x-ms-service-request-id", "REQ_ID", "MS-RequestId", "x-ms-request-id")


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Limits of one service. Times in seconds. ``max_bytes`` counts decoded bytes of one answer."""

    connect_timeout: float = 10.0
    read_timeout: float = 120.0
    max_bytes: int = 64 * 1024 * 1024
    attempts: int = 5
    """How often a safe request is sent at most."""
    max_retry_after: float = 900.0
    """A ``Retry-After`` beyond this is cut to it: a service must not be able to park a run for a day."""
    first_wait: float = 1.0
    """Wait before the second attempt when the service says nothing; doubles each time."""
    max_wait: float = 60.0
    """The longest wait of our own making."""
    answer_timeout: float = 600.0
    """How long one whole answer may take, however steadily it drips."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; header names compare without regard to case, ``body`` is decoded (no gzip)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    service: str = "remote"
    operation: str = ""

    def json(self) -> Any:
        """The body as JSON. Raises ProtocolError when it is not."""
        try:
            return json.loads(self.body.decode("utf-8-sig"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise ProtocolError(
                f"{self.service} answered '{self.operation}' with status {self.status} and a body that is not JSON",
                service=self.service,
                operation=self.operation,
                status=self.status,
            ) from error


def json_body(value: object) -> bytes:
    """A JSON body in UTF-8 (send ``Content-Type: application/json`` with it)."""
    return json.dumps(value).encode("ascii")


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The id under which the service knows a request, if the answer names one."""
    return next((redact(headers[name])[:200] for name in REQUEST_ID_HEADERS if name in headers), None)


def wording(failure: Exception) -> str:
    """What went wrong below HTTP, in words that hold no address (an address may hold a filter on a customer)."""
    if isinstance(failure, requests.exceptions.Timeout):
        return "time-out"
    if isinstance(failure, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return "the answer was cut short or damaged"
    if isinstance(failure, requests.exceptions.ProxyError):
        return "the proxy cannot be reached"
    if isinstance(failure, requests.exceptions.SSLError):
        return "TLS failed"
    if never_connected(failure):
        return "no connection"
    return "the connection broke"


def hint_for(kind: type[RemoteError], service: str) -> str | None:
    """What a person should do about a kind of error."""
    if issubclass(kind, AuthError):
        return f"Check the roles and permissions of the application in {service}."
    if issubclass(kind, OutcomeUnknown):
        return "Whether it was done is not known: the next run reads back before it sends anything."
    if issubclass(kind, Transient):
        return "Nothing needs repair here: run again later."
    return None
