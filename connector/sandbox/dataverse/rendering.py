"""Rows as JSON: properties, annotations, formatted values, expansions ("Select columns", "Formatted values")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from connector.sandbox.dataverse.call import Preferences
from connector.sandbox.dataverse.paging import Cookie, braced
from connector.sandbox.dataverse.predicates import Predicates
from connector.sandbox.dataverse.rowsets import sort_rows
from connector.sandbox.dataverse.shapes import Expand, Shape
from connector.sandbox.schema import Column, Table
from connector.sandbox.store import Store

FORMATTED = "OData.Community.Display.V1.FormattedValue"
LOOKUP_TABLE = "Microsoft.Dynamics.CRM.lookuplogicalname"
LOOKUP_NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"


def etag(row: Mapping[str, Any]) -> str:
    """The ETag of a row: its version, weak."""
    return f'W/"{row["versionnumber"]}"'


def plain(value: Any) -> Any:
    """A kept value as JSON takes it."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


class Renderer:
    """Makes JSON objects of rows."""

    def __init__(self, store: Store, predicates: Predicates) -> None:
        self._store = store
        self._schema = store.schema
        self._predicates = predicates

    def target(self, column: Column, row_id: str) -> str:
        """The table that a lookup's value belongs to; for one without a row the column's first target."""
        if len(column.targets) > 1:
            for name in column.targets:
                if self._store.get(name, row_id) is not None:
                    return name
        return column.targets[0]

    def rows(
        self, shape: Shape, rows: Iterable[Mapping[str, Any]], wanted: Preferences, root: str
    ) -> list[dict[str, Any]]:
        """Several rows of one shape."""
        columns = self._shown(shape)
        formats = wanted.annotated(FORMATTED), wanted.annotated(LOOKUP_NAVIGATION), wanted.annotated(LOOKUP_TABLE)
        return [self._row(shape, columns, row, formats, wanted, root) for row in rows]

    def row(self, shape: Shape, row: Mapping[str, Any], wanted: Preferences, root: str) -> dict[str, Any]:
        """One row."""
        return self.rows(shape, [row], wanted, root)[0]

    def formatted(self, column: Column, row: Mapping[str, Any]) -> str | None:
        """A value as a form shows it (English, United States), or None when it is shown as it is."""
        value = row[column.name]
        if value is None:
            return None
        if column.is_lookup:
            target = self._schema.table(self.target(column, value))
            found = self._store.get(target.name, value)
            return None if found is None else found[target.primary_name]
        if column.type == "Boolean":
            return "Yes" if value else "No"
        if column.options:
            return column.labels.get(value)
        if column.type == "Money":
            return f"{self._symbol(row)}{value:,.2f}" if value >= 0 else f"({self._symbol(row)}{-value:,.2f})"
        if column.type in ("Decimal", "Double"):
            return f"{value:,.{column.precision}f}"
        if column.type in ("Integer", "BigInt"):
            return f"{value:,}"
        if column.type == "DateTime":
            day = f"{value.month}/{value.day}/{value.year}"
            if column.date_only:
                return day
            return f"{day} {value.hour % 12 or 12}:{value.minute:02d} {'AM' if value.hour < 12 else 'PM'}"
        return None

    def _symbol(self, row: Mapping[str, Any]) -> str:
        currency = row.get("transactioncurrencyid")
        found = self._store.get("transactioncurrency", currency) if currency else None
        return (found["currencysymbol"] if found else None) or "$"

    @staticmethod
    def _shown(shape: Shape) -> tuple[Column, ...]:
        table = shape.table
        if shape.columns is None:
            return tuple(table.columns.values())
        shown = {column.name: column for column in shape.columns}
        shown.setdefault(table.primary_id, table.columns[table.primary_id])
        currency = table.columns.get("transactioncurrencyid")
        if currency is not None and any(column.type == "Money" for column in shape.columns):
            shown.setdefault(currency.name, currency)
        return tuple(shown.values())

    def _row(
        self,
        shape: Shape,
        columns: tuple[Column, ...],
        row: Mapping[str, Any],
        formats: tuple[bool, bool, bool],
        wanted: Preferences,
        root: str,
    ) -> dict[str, Any]:
        document: dict[str, Any] = {"@odata.etag": etag(row)}
        formatted, navigation, table_name = formats
        for column in columns:
            name, value = column.property_name, row[column.name]
            if value is not None and formatted:
                text = self.formatted(column, row)
                if text is not None:
                    document[f"{name}@{FORMATTED}"] = text
            if value is not None and column.is_lookup and (navigation or table_name):
                target = self.target(column, value)
                if navigation:
                    document[f"{name}@{LOOKUP_NAVIGATION}"] = column.navigation[target]
                if table_name:
                    document[f"{name}@{LOOKUP_TABLE}"] = target
            document[name] = plain(value)
        for item in shape.expands:
            if item.many:
                document |= self._many(item, shape.table, row, wanted, root)
            else:
                document[item.navigation] = self._one(item, row, wanted, root)
        return document

    def _one(self, item: Expand, row: Mapping[str, Any], wanted: Preferences, root: str) -> dict[str, Any] | None:
        related = row[item.column.name]
        found = self._store.get(item.target.name, related) if related else None
        if found is None:
            return None
        if item.reference:
            return {"@odata.id": f"{root}{item.target.entity_set}({related})"}
        return self.row(item.shape, found, wanted, root)

    def _many(
        self, item: Expand, table: Table, row: Mapping[str, Any], wanted: Preferences, root: str
    ) -> dict[str, Any]:
        found = self._store.find(item.target.name, item.column.name, row[table.primary_id])
        if item.condition is not None:
            test = self._predicates.compile(item.target, item.condition)
            found = [each for each in found if test(each)]
        found = sort_rows(self._predicates, item.target, item.order, found)
        if item.top is not None:
            found = found[: item.top]
        elif wanted.page_size is not None:
            found = found[: wanted.page_size]
        document: dict[str, Any] = {item.navigation: self.rows(item.shape, found, wanted, root)}
        if item.top is None and not item.order and item.condition is None:
            document[f"{item.navigation}@odata.nextLink"] = self._rest(item, table, row, found, root)
        return document

    @staticmethod
    def _rest(item: Expand, table: Table, row: Mapping[str, Any], found: list[Mapping[str, Any]], root: str) -> str:
        """Where the related rows behind those shown are; Dataverse gives the link whether or not there are any."""
        key = item.target.primary_id
        last = {key: braced(found[-1][key])} if found else {}
        first = {key: braced(found[0][key])} if found else {}
        names = item.shape.context()[1:-1]
        select = f"$select={names}&" if names else ""
        address = f"{root}{table.entity_set}({row[table.primary_id]})/{item.navigation}"
        return f"{address}?{select}$skiptoken={Cookie(2, last, first).token()}"
