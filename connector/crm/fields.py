"""Single values of a Dataverse row, read in every plausible form; what makes no sense is None and said, never zero.

Facts about forms: Microsoft docs, "Web API types and operations" (dates with and without time, zone and seven-digit
fractions; decimals for whole numbers; lookups as GUIDs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from connector.crm.metadata import Table
from connector.domain.model import Price

MOST_SEATS = 10_000_000
"""A quantity beyond this is a mistake, not an order (Partner Center sells far fewer per subscription)."""

_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# ISO 4217 currencies whose minor unit is not a hundredth.
# fmt: off
_WITHOUT_MINOR = frozenset((
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW",
    "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF",
))
_THOUSANDTHS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))
# fmt: on


def guid(value: object) -> str | None:
    """A GUID in lower case without braces, or None."""
    if not isinstance(value, str):
        return None
    text = value.strip().strip("{}").lower()
    return text if _GUID.fullmatch(text) else None


@dataclass(slots=True)
class Fields:
    """The values of one row by linksub's words; ``problems`` gathers what could not be understood.

    ``zone`` is the tenant's time zone: it tells a date that was stored as local midnight from an instant.
    """

    table: Table
    row: Mapping[str, Any]
    zone: ZoneInfo
    problems: list[str] = field(default_factory=list)

    def raw(self, word: str) -> Any:
        """The value as it came; None for a column that the organisation lacks."""
        column = self.table.columns.get(word)
        return None if column is None else self.row.get(column.property)

    def id(self) -> str | None:
        """The primary key, or None if the row has none that is a GUID."""
        return guid(self.row.get(self.table.primary_id))

    def etag(self) -> str:
        """The row's ETag, empty if it came without one (then it cannot be written)."""
        value = self.row.get("@odata.etag")
        return value if isinstance(value, str) else ""

    def text(self, word: str) -> str | None:
        """Text without surrounding white space; empty is None."""
        value = self.raw(word)
        if value is None:
            return None
        if not isinstance(value, str):
            self._odd(word, value)
            return None
        return value.strip() or None

    def as_written(self, word: str) -> str | None:
        """Text exactly as it stands, for a column that may be written back."""
        value = self.raw(word)
        if value is not None and not isinstance(value, str):
            self._odd(word, value)
            return None
        return value or None

    def lookup(self, word: str) -> str | None:
        """The GUID that a lookup holds."""
        value = self.raw(word)
        found = guid(value)
        if value is not None and found is None:
            self._odd(word, value)
        return found

    def quantity(self, word: str, *, signed: bool = False) -> int | None:
        """Whole seats, also from 25.0 or "25"; None and a problem for anything else, missing included."""
        value = self.raw(word)
        if value is None:
            self.problems.append(f"{word} is empty")
            return None
        number = self._whole(value)
        if number is None or abs(number) > MOST_SEATS:
            self._odd(word, value)
            return None
        if number < 0 and not signed:
            self.problems.append(f"{word} is negative ({number})")
            return None
        return number

    def days(self, word: str) -> int | None:
        """A number of days, or None when empty."""
        value = self.raw(word)
        if value is None:
            return None
        number = self._whole(value)
        if number is None or not 0 <= number <= 10_000:
            self._odd(word, value)
            return None
        return number

    def flag(self, word: str) -> bool:
        """A yes/no column; empty is no."""
        value = self.raw(word)
        if value in (None, False, 0):
            return False
        if value in (True, 1):
            return True
        self._odd(word, value)
        return False

    def choice(self, word: str, *, silent: bool = False) -> str | None:
        """The mapping's key of a choice value; None when empty or unknown (the latter a problem unless ``silent``)."""
        value = self.raw(word)
        if value is None:
            return None
        column = self.table.columns[word]
        number = self._whole(value)
        known = column.choice
        key = known.keys.get(number) if known is not None and number is not None else None
        if key is None and not silent:
            label = known.labels.get(number) if known is not None and number is not None else None
            named = f"{label!r} ({value})" if label else repr(value)
            self.problems.append(f"{word} is {named}, which the mapping does not know")
        return key

    def label(self, word: str) -> str | None:
        """The organisation's own label of a choice value, or None."""
        number = self._whole(self.raw(word))
        column = self.table.columns.get(word)
        return None if number is None or column is None or column.choice is None else column.choice.labels.get(number)

    def instant(self, word: str) -> datetime | None:
        """An instant in UTC; without a zone it is taken as UTC, a bare date as its midnight in UTC."""
        value = self._moment(word)
        if value is None or isinstance(value, datetime):
            return value
        return datetime.combine(value, time(), UTC)

    def day(self, word: str) -> date | None:
        """A date; from an instant the date that it was stored for: UTC at midnight UTC, else the tenant's."""
        value = self._moment(word)
        if isinstance(value, datetime):
            return value.date() if value.time() == time() else value.astimezone(self.zone).date()
        return value

    def day_or_instant(self, word: str) -> date | datetime | None:
        """A date, also when it was stored as midnight (UTC or the tenant's); otherwise the instant.

        A date column of Dataverse may come as midnight. Taken as an instant it would let a change go out up to a day
        before the clock time that the tenant has set for it, so midnight is read as the date.
        """
        value = self._moment(word)
        if isinstance(value, datetime):
            if value.time() == time():
                return value.date()
            local = value.astimezone(self.zone)
            if local.time() == time():
                return local.date()
        return value

    def _moment(self, word: str) -> date | datetime | None:
        value = self.raw(word)
        if value is None or value == "":
            return None
        try:
            if not isinstance(value, str):
                raise ValueError
            text = value.strip()
            if _DATE.fullmatch(text):
                return date.fromisoformat(text)
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self._odd(word, value)
            return None

    @staticmethod
    def _whole(value: object) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            number = Decimal(str(value).strip())
            return int(number) if number.is_finite() and number == number.to_integral_value() else None
        except (InvalidOperation, ValueError, OverflowError):
            return None

    def _odd(self, word: str, value: object) -> None:
        self.problems.append(f"{word} is {str(value)[:60]!r}, which makes no sense here")


def price_per_month(amount: object, unit: str | None, currency: str | None) -> Price | None:
    """A cost per seat in minor units per month (a year's divided by 12, half up), or None if anything is missing."""
    if isinstance(amount, bool) or not isinstance(amount, int | float | str) or unit not in ("month", "year"):
        return None
    code = (currency or "").strip().upper()
    if not re.fullmatch(r"[A-Z]{3}", code):
        return None
    try:
        value = Decimal(str(amount))
    except InvalidOperation:
        return None
    if not value.is_finite() or not 0 <= value < Decimal(10) ** 12:
        return None
    exponent = 0 if code in _WITHOUT_MINOR else 3 if code in _THOUSANDTHS else 2
    minor = value.scaleb(exponent) / (12 if unit == "year" else 1)
    return Price(int(minor.quantize(Decimal(1), rounding=ROUND_HALF_UP)), code)
