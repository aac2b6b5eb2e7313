"""Dataverse's own query functions, such as ``Microsoft.Dynamics.CRM.In`` ("Web API query function reference").

Each takes the column, the values as text and the present moment, and gives a test of the column's value. Days are days
of UTC. FetchXML's operators of the same meaning use them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from connector.sandbox.dataverse.errors import bad_uri, not_emulated
from connector.sandbox.dataverse.values import from_text
from connector.sandbox.schema import TEXT_TYPES, Column
from connector.sandbox.store import APPLICATION_USER_ID, index_key

ValueTest = Callable[[Any], bool]
Function = Callable[[Column, Sequence[str], datetime], ValueTest]


def _parsed(column: Column, texts: Sequence[str]) -> list[Any]:
    return [from_text(column, text) for text in texts]


def _folded(column: Column) -> Callable[[Any], Any]:
    return index_key if column.type in TEXT_TYPES else lambda value: value


def _in(column: Column, texts: Sequence[str], _: datetime) -> ValueTest:
    wanted, fold = set(_parsed(column, texts)), _folded(column)
    return lambda value: fold(value) in wanted


def _between(column: Column, texts: Sequence[str], _: datetime) -> ValueTest:
    low, high = _parsed(column, texts)[:2]
    fold = _folded(column)
    return lambda value: value is not None and low <= fold(value) <= high


def _inverse(function: Function) -> Function:
    def inverse(column: Column, texts: Sequence[str], now: datetime) -> ValueTest:
        test = function(column, texts, now)
        return lambda value: not test(value)

    return inverse


def _range(bounds: Callable[[Sequence[str], datetime], tuple[datetime | None, datetime | None]]) -> Function:
    def function(_: Column, texts: Sequence[str], now: datetime) -> ValueTest:
        start, end = bounds(texts, now.astimezone(UTC))

        def test(value: Any) -> bool:
            if value is None:
                return False
            moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
            return (start is None or moment >= start) and (end is None or moment < end)

        return test

    return function


def _day(moment: datetime, days: int = 0) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days)


def _on(texts: Sequence[str]) -> datetime:
    day = date.fromisoformat(texts[0][:10])
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _older(unit: timedelta) -> Function:
    return _range(lambda texts, now: (None, now - int(texts[0]) * unit))


def _last(unit: timedelta) -> Function:
    return _range(lambda texts, now: (now - int(texts[0]) * unit, now))


def _next(unit: timedelta) -> Function:
    return _range(lambda texts, now: (now, now + int(texts[0]) * unit))


_MINUTE, _HOUR, _DAY, _WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)

QUERY_FUNCTIONS: Mapping[str, Function] = {
    "In": _in,
    "NotIn": _inverse(_in),
    "Between": _between,
    "NotBetween": _inverse(_between),
    "EqualUserId": lambda *_: lambda value: value == APPLICATION_USER_ID,
    "NotEqualUserId": lambda *_: lambda value: value != APPLICATION_USER_ID,
    "Today": _range(lambda _, now: (_day(now), _day(now, 1))),
    "Yesterday": _range(lambda _, now: (_day(now, -1), _day(now))),
    "Tomorrow": _range(lambda _, now: (_day(now, 1), _day(now, 2))),
    "Last7Days": _range(lambda _, now: (_day(now, -7), now)),
    "Next7Days": _range(lambda _, now: (now, _day(now, 8))),
    "On": _range(lambda texts, _: (_on(texts), _on(texts) + timedelta(days=1))),
    "NotOn": _inverse(_range(lambda texts, _: (_on(texts), _on(texts) + timedelta(days=1)))),
    "OnOrAfter": _range(lambda texts, _: (_on(texts), None)),
    "OnOrBefore": _range(lambda texts, _: (None, _on(texts) + timedelta(days=1))),
    "OlderThanXMinutes": _older(_MINUTE),
    "OlderThanXHours": _older(_HOUR),
    "OlderThanXDays": _older(_DAY),
    "OlderThanXWeeks": _older(_WEEK),
    "LastXHours": _last(_HOUR),
    "LastXDays": _last(_DAY),
    "LastXWeeks": _last(_WEEK),
    "NextXHours": _next(_HOUR),
    "NextXDays": _next(_DAY),
    "NextXWeeks": _next(_WEEK),
}


def query_function(name: str, column: Column, texts: Sequence[str], now: datetime) -> ValueTest:
    """The test that a query function makes of its arguments. Raises ODataError (501 unknown, 400 wrong arguments)."""
    function = QUERY_FUNCTIONS.get(name)
    if function is None:
        raise not_emulated(f"the query function {name}")
    try:
        return function(column, texts, now)
    except (ValueError, IndexError, OverflowError) as wrong:
        raise bad_uri(f"The values {list(texts)} are not valid for the query function {name}.") from wrong
