"""The marker: which child logs a parent's quantity already carries, in the parent's own Order Reference.

It is written in the *same* PATCH as the quantity, so the two can never be out of step, and the CRM copies it to the
licence change log that it makes for the parent. With it a crash between the parent and the provider is understood
without our journal, even when logs that come earlier in the order arrived meanwhile (design §4 step 1).

Form: ``ls1:`` and four base64url characters (24 bits) per carried log, in order. A marker is *cumulative*: it names every
child log that the quantity contains and that was not settled when it was written. It is never trusted by itself: the
named logs that are still open must add up exactly to what the arithmetic has to explain.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from connector.domain.model import LicenseChangeLog, LogId

PREFIX = "ls1:"
ROW_PREFIX = "ls2:"
"""How the marker on a parent's row begins; the instant of the oldest change that it names follows."""
_WIDTH = 4
_MINUTES_SINCE = datetime(2020, 1, 1, tzinfo=UTC)
_MINUTES = re.compile(re.escape(ROW_PREFIX) + r"([0-9a-z]{1,8});")


def reference(log_id: LogId) -> str:
    """The four characters that stand for a log."""
    return urlsafe_b64encode(sha256(log_id.encode()).digest()[:3]).decode()


def capacity(column_length: int) -> int:
    """How many logs fit into an Order Reference column of that many characters."""
    return max(0, (column_length - len(PREFIX)) // _WIDTH)


def encode(logs: Sequence[LicenseChangeLog]) -> str:
    """The marker for these logs, in their order."""
    return PREFIX + "".join(reference(log.id) for log in logs)


def is_marker(text: str | None) -> bool:
    """Whether an Order Reference was written by linksub (and not, say, a purchase order number of a person)."""
    return text is not None and text.startswith(PREFIX) and (len(text) - len(PREFIX)) % _WIDTH == 0


def decode(text: str | None, candidates: Iterable[LicenseChangeLog]) -> tuple[LicenseChangeLog, ...] | None:
    """The candidates that a marker names, in the candidates' order; None if the text is not a marker.

    References that no candidate has are ignored: their logs were settled since. Two candidates that share a reference
    make the marker ambiguous, which reads as None too: better held than guessed.
    """
    if text is None or not is_marker(text):
        return None
    body = text[len(PREFIX) :]
    named = {body[at : at + _WIDTH] for at in range(0, len(body), _WIDTH)}
    found = [log for log in candidates if reference(log.id) in named]
    if len({reference(log.id) for log in found}) != len(found):
        return None
    return tuple(found)


def oldest(text: str | None) -> datetime | None:
    """When the oldest change was made that the marker on a row names, down to the minute; None for any other text."""
    found = _MINUTES.match(text or "")
    if found is None:
        return None
    try:
        return _MINUTES_SINCE + timedelta(minutes=int(found[1], 36))
    except OverflowError:
        return None
