"""The values that scenario files are written in: aliases, instants, days, lengths of time, words."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from connector.sandbox.clock import as_utc


class Strict(BaseModel):
    """A mapping of a scenario: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


def _alias(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("YAML reads this as true or false; put it in quotes")
    return str(value) if isinstance(value, int) else value


def _instant(value: object) -> object:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            raise ValueError("not a timestamp such as 2026-03-02T14:00:00Z") from None
    if isinstance(value, datetime):
        return as_utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError("not a timestamp such as 2026-03-02T14:00:00Z")


def _day(value: object) -> object:
    if isinstance(value, str):
        try:
            return as_utc(datetime.fromisoformat(value.strip().replace("Z", "+00:00"))).date()
        except ValueError:
            raise ValueError("not a date such as 2026-12-31") from None
    if isinstance(value, datetime):
        return as_utc(value).date()
    if isinstance(value, date):
        return value
    raise ValueError("not a date such as 2026-12-31")


_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?")


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return timedelta(seconds=value)
    match = _DURATION.fullmatch(value.replace(" ", "").lower()) if isinstance(value, str) and value.strip() else None
    if match is None or not any(match.groups()):
        raise ValueError("not a length of time such as 45s, 10m, 1h30m or 7d")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta():
        raise ValueError("must be longer than nothing")
    return value


def _yes_no(value: object) -> object:
    # YAML 1.1 reads a bare yes and no as true and false; both spellings mean the same here.
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _effective(value: object) -> object:
    if isinstance(value, str):
        word = value.strip().lower().replace(" ", "_").replace("-", "_")
        if word in ("immediately", "now"):
            return "immediately"
        if word in ("on_renewal", "renewal"):
            return "on_renewal"
    try:
        return _day(value)
    except ValueError:
        raise ValueError("must be immediately, on_renewal or a date such as 2026-03-20") from None


def _guid(value: object) -> object:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise ValueError("not a GUID such as 11111111-1111-4111-8111-111111111111") from None


Alias = Annotated[str, BeforeValidator(_alias), Field(min_length=1)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Day = Annotated[date, BeforeValidator(_day)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Span = Annotated[Duration, AfterValidator(_positive)]
"""A length of time that is longer than nothing."""
Pushes = Annotated[Literal["yes", "no", "late"], BeforeValidator(_yes_no)]
Copies = Annotated[Literal["yes", "no", "altered"], BeforeValidator(_yes_no)]
ParentLog = Literal["makes", "late", "not_applicable", "none"]
Effect = Literal["parent_raised", "purchased", "scheduled", "acknowledged"]
"""What a call of a client did, as far as scenarios name it."""
Journal = Literal["shared", "own", "lost", "older"]
HostName = Annotated[str, BeforeValidator(_alias), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
Guid = Annotated[str, BeforeValidator(_guid)]
Effective = Annotated[date | Literal["immediately", "on_renewal"], BeforeValidator(_effective)]
ProviderKey = Literal["partner_center", "linked", "manual", "do_nothing", "rest"]
Reduction = Literal["allowed", "disallowed", "within_window"]
State = Literal["active", "suspended", "inactive"]
CloudStatus = Literal["active", "suspended", "expired", "disabled", "deleted", "pending", "none"]
Term = Literal["P1M", "P1Y", "P3Y"]
