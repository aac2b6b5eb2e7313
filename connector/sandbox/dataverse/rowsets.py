"""Reading sets of rows: filter, order, count, pages.

Without ``$orderby`` rows come by primary key. The position of the next page is the last row's place in the order, so a
page goes on behind it whatever was added or removed meanwhile ("Page results", "Order rows", "Count rows").
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from connector.sandbox.dataverse.paging import Cookie, braced, unbraced
from connector.sandbox.dataverse.predicates import Predicates
from connector.sandbox.dataverse.shapes import Order
from connector.sandbox.dataverse.values import from_text
from connector.sandbox.schema import Column, Table
from connector.sandbox.store import Store, index_key

COUNT_LIMIT = 5000
Rows = list[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a table, in which order. ``among`` limits it to some ids (related rows)."""

    table: Table
    condition: Any = None
    order: tuple[Order, ...] = ()
    among: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page; ``cookie`` leads to the next one."""

    rows: Rows
    cookie: Cookie | None


class RowSets:
    """Selects rows of a store."""

    def __init__(self, store: Store, predicates: Predicates, *, reorder_ties: Callable[[], bool]) -> None:
        self._store = store
        self._predicates = predicates
        self._reorder_ties = reorder_ties

    def matching(self, selection: Selection, after: str = "") -> Iterable[Mapping[str, Any]]:
        """Rows that match, by primary key, those behind ``after`` only. Lazy."""
        table = selection.table
        test = None if selection.condition is None else self._predicates.compile(table, selection.condition)
        offered = None if selection.condition is None else self._predicates.candidates(table, selection.condition)
        ids: Iterable[str]
        if selection.among is not None:
            ids = sorted(each for each in selection.among if each > after)
        elif offered is not None:
            ids = sorted(each for each in offered if each > after)
        else:
            ids = self._store.ids(table.name, after)
        for row_id in ids:
            row = self._store.get(table.name, row_id)
            if row is not None and (test is None or test(row)):
                yield row

    def count(self, selection: Selection) -> int:
        """How many rows match."""
        if selection.condition is None and selection.among is None:
            return self._store.count(selection.table.name)
        return sum(1 for _ in self.matching(selection))

    def page(self, selection: Selection, size: int, cookie: Cookie | None) -> Page:
        """One page of at most ``size`` rows, the first one or the one that a cookie leads to."""
        number = cookie.page if cookie else 1
        if not selection.order:
            last = (cookie.last.get(selection.table.primary_id) or "") if cookie else ""
            found = list(islice(self.matching(selection, unbraced(last)), size + 1))
            return self._cut(selection, found, size, number)
        rows = sort_rows(self._predicates, selection.table, selection.order, self.matching(selection))
        if self._reorder_ties() and selection.order[-1].path.parts != (selection.table.primary_id,):
            rows = self._shuffled(selection, rows, number)
            return self._cut(selection, rows[(number - 1) * size :][: size + 1], size, number)
        start = 0
        if cookie is not None:
            names = self._cookie_names(selection)
            start = (cookie.page - 1) * size if names is None else self._position(selection, rows, cookie)
        return self._cut(selection, rows[start : start + size + 1], size, number)

    def _cut(self, selection: Selection, found: Rows, size: int, number: int) -> Page:
        rows = found[:size]
        if len(found) <= size:
            return Page(rows, None)
        names = self._cookie_names(selection) or [selection.table.primary_id]
        last, first = (dict(zip(names, _texts(names, row, selection), strict=True)) for row in (rows[-1], rows[0]))
        return Page(rows, Cookie(number + 1, last, first))

    @staticmethod
    def _cookie_names(selection: Selection) -> list[str] | None:
        """The columns of the order and the primary key; None when the order leads to other tables (no cookie then)."""
        if any(len(item.path.parts) > 1 for item in selection.order):
            return None
        names = [_column(selection.table, item).name for item in selection.order]
        return list(dict.fromkeys([*names, selection.table.primary_id]))

    def _position(self, selection: Selection, rows: Rows, cookie: Cookie) -> int:
        key = selection.table.primary_id
        columns = [(_column(selection.table, item), item.descending) for item in selection.order]
        columns.append((selection.table.columns[key], False))
        place = [_sortable(_kept(column, cookie.last.get(column.name))) for column, _ in columns]
        for position, row in enumerate(rows):
            for (column, descending), other in zip(columns, place, strict=True):
                own = _sortable(row[column.name])
                if own != other:
                    behind = (own < other) if descending else (own > other)
                    break
            else:
                behind = False
            if behind:
                return position
        return len(rows)

    def _shuffled(self, selection: Selection, rows: Rows, number: int) -> Rows:
        """Rows that the order does not tell apart, in another sequence on every page, as the real service may do."""
        key = selection.table.primary_id
        mixed = sorted(rows, key=lambda row: hashlib.sha256(f"{number}{row[key]}".encode()).digest())
        return sort_rows(self._predicates, selection.table, selection.order, mixed)


def sort_rows(predicates: Predicates, table: Table, order: Sequence[Order], rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Rows in an order; empty values come first, ties stay as they are."""
    result = list(rows)
    for item in reversed(order):
        read, _ = predicates.value(table, item.path)
        result.sort(key=partial(_sorted_by, read), reverse=item.descending)
    return result


def _sorted_by(read: Callable[[Mapping[str, Any]], Any], row: Mapping[str, Any]) -> tuple[bool, Any]:
    return _sortable(read(row))


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, index_key(value) if value is not None else 0)


def _column(table: Table, item: Order) -> Column:
    name = item.path.parts[0]
    return table.properties.get(name) or table.navigations[name][0]


def _texts(names: Sequence[str], row: Mapping[str, Any], selection: Selection) -> list[str | None]:
    texts: list[str | None] = []
    for name in names:
        value = row[name]
        if value is None:
            texts.append(None)
        elif selection.table.columns[name].is_lookup or name == selection.table.primary_id:
            texts.append(braced(value))
        else:
            texts.append(value.isoformat() if hasattr(value, "isoformat") else str(value))
    return texts


def _kept(column: Column, text: str | None) -> Any:
    if text is None:
        return None
    return from_text(column, unbraced(text) if column.is_lookup or column.primary_id else text)
