"""How Partner Center says no: its error body, what each answer means for a quantity change, and what a person can do.

A code alone means nothing (2006 is listed under two statuses), so everything here is keyed by status *and* code.
Whatever is not listed is a definite no and never tried again. Sources: Microsoft's "Partner Center REST error codes",
"Headers", "API throttling guidance" and "Manage subscriptions" (renewal day); the sorting into kinds is linksub's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from connector.errors import AuthError, PreconditionFailed, Rejected, RemoteError, Transient
from connector.http.transport import Answer
from connector.providers.partner_center.codes import CODES, Kind

SERVICE = "partner_center"
_LONGEST_DESCRIPTION = 1024

_ERROR_CLASS: dict[Kind, type[RemoteError]] = {
    Kind.FINAL: Rejected,
    Kind.CONFIGURATION: AuthError,
    Kind.LATER: Transient,
    Kind.REREAD: PreconditionFailed,
}

_LEFT_TO_HTTP = frozenset({408, 412, 425, 429, 499})


def parse_error(status: int, body: bytes) -> tuple[str, str]:
    """The service's own code, as text, and its description; both empty when the body is not one of its error bodies.

    The code is documented as a string and printed as a number, so both are read. A throttling answer (429) has another
    shape, ``{"statusCode": 429, "message": "…"}``: its number is the HTTP status again and is not taken for a code.
    """
    try:
        error = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(error, dict):
        return "", ""
    fields = {str(key).lower(): value for key, value in error.items()}
    raw_code = fields.get("code")
    code = "" if isinstance(raw_code, bool) or not isinstance(raw_code, int | str) else str(raw_code).strip()
    text = next((fields[name] for name in ("description", "message") if isinstance(fields.get(name), str)), "")
    return code, text.strip()[:_LONGEST_DESCRIPTION]


def is_json(answer: Answer) -> None:
    """Let a read be repeated whose body was cut short. Raises ProtocolError."""
    answer.json()


def classify(status: int, code: str) -> type[RemoteError] | None:
    """The error that an answer with this status and code is; None leaves it to what HTTP itself says about the status.

    None is returned for throttling (429), for 412, and where the service may or may not have acted (408, 5xx). Every
    other refusal that is not listed is final. A 403 without a code did not come from the commerce rules, so it is a
    question of permission; one with an unlisted code concerns this change only.
    """
    if status in _LEFT_TO_HTTP or status >= 500:
        return None
    row = CODES.get((status, code))
    if row is not None:
        return _ERROR_CLASS[row.kind]
    if status == 401 or (status == 403 and not code):
        return AuthError
    return Rejected if 400 <= status < 500 else None


def wait_seconds(status: int, code: str) -> float | None:
    """How long to leave a subscription alone after this answer, in seconds; None when waiting is not what helps."""
    row = CODES.get((status, code))
    return row.wait if row is not None else None


def explain_code(status: int, code: str) -> str | None:
    """What the answer means for a quantity change and what to do about it; None for an answer that is not listed."""
    row = CODES.get((status, code))
    return f"{row.meaning} {row.remedy}" if row is not None else None


def remaining_seats(status: int, code: str, text: str) -> int | None:
    """How many seats the customer may still get, where the refusal says so (403/800088); otherwise None.

    The limit is pooled over the customer's subscriptions to the product and over partners.
    """
    if (status, code) != (403, "800088"):
        return None
    match = re.search(r"remaining limit of\s+(\d{1,9})\b", text)
    return int(match.group(1)) if match else None


@contextmanager
def explained(request_id: str | None = None) -> Iterator[None]:
    """Give errors that pass through what only Partner Center's catalogue knows: a remedy, and how long to wait.

    ``request_id`` is what the request carried; it stands in where no answer named one.
    """
    try:
        yield
    except RemoteError as error:
        error.request_id = error.request_id or request_id
        if error.status is not None:
            _enrich(error, error.status)
        raise


def _enrich(error: RemoteError, status: int) -> None:
    meaning = explain_code(status, error.code)
    if meaning is not None:
        # The catalogue knows more than a general hint of the transport can.
        error.hint = meaning
    remaining = remaining_seats(status, error.code, error.text)
    if remaining is not None:
        error.hint = f"{error.hint} Seats still possible for this customer: {remaining}."
    wait = wait_seconds(status, error.code)
    if isinstance(error, Transient) and wait is not None:
        error.retry_after = max(wait, error.retry_after or 0.0)
