"""Faults on purpose: what goes wrong with which request, how often, and what the client then sees."""

from __future__ import annotations

import fnmatch
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import unquote

from connector.sandbox.trace import batch_parts
from connector.sandbox.wire import Request, Response, json_response

ServiceName = Literal["dataverse", "partner_center", "sign_in"]
FaultKind = Literal["lost_response", "lost_request", "status", "slow", "truncated", "replayed", "late"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    ``path`` matches without regard to case if it occurs in the decoded path with its query, or as a glob (``*?[``), or
    as a regular expression that is found in it. A batch is matched by its own path and, if ``path`` is given, by the
    method and target of any part in it. ``skip`` matching requests pass first, then ``times`` (None: for ever) are hit.

    ``lost_request``: closed without being processed. ``lost_response``: processed, then closed without an answer.
    ``status``: answered with it, unprocessed unless ``applied``. ``truncated``: processed, the body cut in the middle.
    ``slow``: processed; with ``seconds`` the answer comes after the clock moved on by so much, without it never.
    ``replayed``: processed twice, answered with the first answer. ``late``: closed without being processed; the request
    arrives ``after`` so much time, and nobody sees what it is answered. From ``until`` on there is no fault any more.
    """

    kind: FaultKind
    service: ServiceName | None = None
    method: str | None = None
    path: str | None = None
    status: int = 500
    body: object = None
    retry_after: float | str | None = None
    skip: int = 0
    times: int | None = 1
    applied: bool = False
    seconds: float | None = None
    after: timedelta | None = None
    until: datetime | None = None

    def matches(self, service: str, request: Request) -> bool:
        """Whether this request is one that the fault is about."""
        if self.service is not None and self.service != service:
            return False
        target = f"{unquote(request.path)}?{unquote(request.query)}" if request.query else unquote(request.path)
        if self._fits(request.method, target):
            return True
        if self.path is None or not request.path.rstrip("/").endswith("/$batch"):
            return False
        return any(self._fits(method, unquote(part)) for method, part in batch_parts(request.body))

    def _fits(self, method: str, target: str) -> bool:
        if self.method is not None and self.method.upper() not in (method.upper(), "*"):
            return False
        return self.path is None or path_matches(self.path, target)


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection closes. ``partial`` is an answer of which only the first half arrives; ``after`` is in seconds."""

    partial: Response | None = None
    after: float = 0.0


class FaultBook:
    """The faults that are set. Thread-safe; the first one that matches and is due is used."""

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._waiting: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        """Set a fault."""
        with self._lock:
            self._waiting.append(_Armed(fault, fault.skip, fault.times))

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._waiting.clear()

    def pending(self) -> list[Fault]:
        """Faults that have not been used up and are not over."""
        with self._lock:
            self._drop_what_is_over()
            return [armed.fault for armed in self._waiting]

    def take(self, service: str, request: Request) -> Fault | None:
        """The fault that hits this request, counted as used; None if it passes."""
        if not self._waiting:
            return None
        with self._lock:
            self._drop_what_is_over()
            for armed in self._waiting:
                if not armed.fault.matches(service, request):
                    continue
                if armed.to_skip > 0:
                    armed.to_skip -= 1
                    continue
                if armed.left is not None:
                    armed.left -= 1
                    if armed.left <= 0:
                        self._waiting.remove(armed)
                return armed.fault
        return None

    def _drop_what_is_over(self) -> None:
        if self._now is not None and any(armed.fault.until is not None for armed in self._waiting):
            now = self._now()
            self._waiting[:] = [
                armed for armed in self._waiting if armed.fault.until is None or now < armed.fault.until
            ]


@dataclass(slots=True)
class _Armed:
    fault: Fault
    to_skip: int
    left: int | None


def path_matches(pattern: str, target: str) -> bool:
    """Substring, glob or regular expression, whichever fits; case does not matter."""
    wanted, found = pattern.lower(), target.lower()
    if wanted in found:
        return True
    if any(mark in wanted for mark in "*?[") and (
        fnmatch.fnmatchcase(found, wanted) or fnmatch.fnmatchcase(found, f"*{wanted}*")
    ):
        return True
    try:
        return re.search(pattern, target, re.IGNORECASE) is not None
    except re.error:
        return False


def status_answer(service: str, fault: Fault) -> Response:
    """The answer of a ``status`` fault: its own body, or the one that the real service gives with that status."""
    headers: list[tuple[str, str]] = []
    retry_after = fault.retry_after
    if retry_after is None and fault.status == 429:
        retry_after = 30
    wait = f"{retry_after:g}" if isinstance(retry_after, int | float) else retry_after
    if wait is not None:
        headers.append(("Retry-After", wait))
    if fault.status == 401 and service != "sign_in":
        headers.append(("WWW-Authenticate", "Bearer"))
    body = fault.body if fault.body is not None else _usual_body(service, fault.status, wait)
    if body is None or body == "":
        return Response(fault.status, tuple(headers))
    if isinstance(body, str):
        kind = "text/html" if body.lstrip().startswith("<") else "text/plain"
        return Response(fault.status, (("Content-Type", f"{kind}; charset=utf-8"), *headers), body.encode("utf-8"))
    return json_response(fault.status, body, *headers)


def _usual_body(service: str, status: int, wait: str | None) -> object:
    if service == "sign_in":
        return _sign_in_body(status)
    if status == 401:
        return None
    if service == "partner_center":
        if status == 429:
            return {"statusCode": 429, "message": f"Rate limit is exceeded. Try again in {wait} seconds."}
        code, text = _PARTNER_CENTER.get(status, ("800003", "The service met an unexpected problem."))
        return {"code": code, "description": text, "data": [], "source": "PartnerFD"}
    code, text = _DATAVERSE.get(status, ("0x80040216", "An unexpected error occurred."))
    return {"error": {"code": code, "message": text}}


def _sign_in_body(status: int) -> Mapping[str, object]:
    if status in (400, 401):
        return {
            "error": "invalid_client",
            "error_description": "AADSTS7000215: Invalid client secret provided. (fault of the sandbox)",
            "error_codes": [7000215],
        }
    return {
        "error": "temporarily_unavailable",
        "error_description": "AADSTS90033: A transient error has occurred. Please try again.",
        "error_codes": [90033],
    }


_PARTNER_CENTER: Mapping[int, tuple[str, str]] = {
    400: ("3000", "Invalid property"),
    403: ("900308", "Insufficient privileges to complete the operation."),
    404: ("1000", "Not found"),
    408: ("900225", "The request took too long."),
    409: ("800082", "Subscription is not ready to be updated. Try again after sometime"),
    412: ("800036", "Pre-condition failed"),
    417: ("800036", "Pre-condition failed"),
}
_DATAVERSE: Mapping[int, tuple[str, str]] = {
    400: ("0x80040203", "Invalid argument."),
    403: ("0x80072560", "The user is not a member of the organization."),
    404: ("0x80040217", "The requested record does not exist."),
    412: (
        "0x80060882",
        "The version of the existing record doesn't match the RowVersion property provided.",
    ),
    429: ("0x80072322", "Number of requests exceeded the limit of 6000 over time window of 300 seconds."),
    503: ("0x8005f103", "The service is temporarily unavailable."),
}
