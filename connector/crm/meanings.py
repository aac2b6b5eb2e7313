"""What Dataverse's error answers mean, whole ones and those inside a batch."""

from __future__ import annotations

import json
from datetime import datetime

from connector.crm.batch import Part
from connector.errors import (
    AuthError,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    RemoteError,
    Transient,
)
from connector.http.redaction import redact
from connector.http.retry import meaning_of_read, meaning_of_write, parse_retry_after

SERVICE = "dataverse"
_DUPLICATE = frozenset({"0x80040237", "0x80060892", "0x80040333"})
_BUSY = frozenset(
    {"0x80044150", "0x80044151", "0x80048544", "0x80048551", "0x80048553", "0x80048559", "0x80048561", "0x80044339"}
)
_THROTTLED = frozenset({"0x80072321", "0x80072322", "0x80072326"})


def parse_dataverse_error(status: int, body: bytes) -> tuple[str, str]:
    """(code, text) of an error body; codes are often empty and gateways answer in HTML, so nothing is relied on."""
    try:
        error = json.loads(body.decode("utf-8-sig"))["error"]
        return str(error.get("code") or ""), str(error.get("message") or "")
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""


def classify_dataverse(status: int, code: str) -> type[RemoteError] | None:
    """Where a code says more than its status: duplicates behind 412, transient database trouble behind 400."""
    known = code.lower()
    if status == 412 and known in _DUPLICATE:
        return Rejected
    # 429 itself is left to HTTP's meaning: definitely not done, and sent again once the pause is over.
    if 400 <= status < 500 and status != 429 and known in _BUSY | _THROTTLED:
        return Transient
    return None


def meaning_of_part(part: Part, *, writes: bool) -> tuple[type[RemoteError], bool]:
    """(error, may be repeated) of an inner answer that is not a success."""
    code, _ = parse_dataverse_error(part.status, part.body)
    special = classify_dataverse(part.status, code)
    if special is not None:
        return special, issubclass(special, Transient)
    meaning = meaning_of_write(part.status) if writes else meaning_of_read(part.status)
    return meaning.error or ProtocolError, meaning.repeat


def failure_of(part: Part, operation: str, *, now: datetime, longest_wait: float, writes: bool = False) -> RemoteError:
    """The error that an inner answer means, with what the service said."""
    kind, _ = meaning_of_part(part, writes=writes)
    code, text = parse_dataverse_error(part.status, part.body)
    code, text = redact(code)[:200], redact(text)
    hints: dict[type[RemoteError], str] = {
        AuthError: "Check the security role of the application user in Dataverse.",
        PreconditionFailed: "Somebody changed the row meanwhile: it is read and decided again.",
        OutcomeUnknown: "Whether it was done is not known: the next run reads back before it sends anything.",
    }
    return kind(
        f"{SERVICE} answered '{operation}' with status {part.status}"
        + (f" ({code})" if code else "")
        + (f": {text[:500]}" if text else ""),
        service=SERVICE,
        operation=operation,
        status=part.status,
        code=code,
        text=text[:2000],
        request_id=redact(part.headers.get("x-ms-service-request-id") or part.headers.get("req_id") or "") or None,
        retry_after=parse_retry_after(part.headers.get("retry-after"), now, longest_wait),
        hint=hints.get(kind),
    )


def not_understood(operation: str, what: str) -> ProtocolError:
    """The answer has a form that is not understood."""
    return ProtocolError(f"{SERVICE} answered '{operation}' with {what}", service=SERVICE, operation=operation)


def not_known(operation: str, what: str) -> OutcomeUnknown:
    """Whether a write was done cannot be seen."""
    return OutcomeUnknown(
        f"whether '{operation}' was done is not known: {what}",
        service=SERVICE,
        operation=operation,
        hint="The next run reads back before it sends anything.",
    )


def refused(operation: str, what: str) -> ProtocolError:
    """Nothing was sent, for what was to be sent is not right."""
    return ProtocolError(f"refused '{operation}' {what}", service=SERVICE, operation=operation)
