"""The JSON of a write as values of columns ("Create a table row", "Associate table rows").

Lookups are written through their navigation property with ``@odata.bind``; columns that only the service writes are
passed over, as the service does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from uuid import UUID

from connector.sandbox.dataverse.call import Call
from connector.sandbox.dataverse.context import Context, Key
from connector.sandbox.dataverse.errors import PAYLOAD_ERROR, ODataError, bad_payload, not_emulated
from connector.sandbox.schema import CHOICE_TYPES, NUMBER_TYPES, TEXT_TYPES, Column, Table

_BIND = "@odata.bind"
_OFFSET = re.compile(r"(Z|[+-]\d{2}:\d{2})$", re.IGNORECASE)


class Payload:
    """Reads bodies of writes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def values(self, call: Call, table: Table, document: Mapping[str, Any]) -> dict[str, Any]:
        """Column values for a row. Raises ODataError (400, 403, 404)."""
        found: dict[str, Any] = {}
        for name, value in document.items():
            if name.endswith(_BIND):
                column, related = self._bound(call, table, name.removesuffix(_BIND), value)
                found[column.name] = related
            elif "@" in name:
                continue
            elif name in table.columns and not table.columns[name].is_lookup:
                column = table.columns[name]
                if not column.read_only:
                    found[name] = kept(column, value)
            elif name in table.navigations:
                if value is not None:
                    raise not_emulated("creating related rows together with a row (deep insert)")
                found[table.navigations[name][0].name] = None
            else:
                raise _unknown(table, name)
        return found

    def related(self, call: Call, text: Any, table: Table) -> Key:
        """The existing row that a reference names; ``$1`` names the row of an earlier part of the change set."""
        if not isinstance(text, str):
            raise bad_payload(table.name, "Microsoft.OData.ODataException: A reference must be a text.")
        if text.startswith("$"):
            if text not in call.references:
                raise missing_reference(text)
            text = call.references[text]
        key = self._context.reference(text, call.root)
        self._context.demand("AppendTo", key.table)
        if key.row_id is None or self._context.store.get(key.table.name, key.row_id) is None:
            raise key.missing()
        return key

    def _bound(self, call: Call, table: Table, navigation: str, value: Any) -> tuple[Column, str | None]:
        if navigation not in table.navigations:
            raise ODataError(
                400,
                PAYLOAD_ERROR,
                f"An undeclared property '{navigation}' which only has property annotations in the payload but no "
                "property value was found in the payload. In OData, only declared navigation properties and declared "
                "named streams can be represented as properties without values.",
            )
        column, target = table.navigations[navigation]
        if value is None:
            return column, None
        self._context.demand("Append", table)
        key = self.related(call, value, table)
        if key.table.name != target:
            raise bad_payload(
                table.name,
                f"Microsoft.OData.ODataException: '{navigation}' refers to {target}, not to {key.table.name}.",
            )
        return column, key.row_id


def missing_reference(text: str) -> ODataError:
    """400 for ``$n`` that no earlier part of the change set carries."""
    return ODataError(400, PAYLOAD_ERROR, f"Content-ID Reference: '{text}' does not exist in the batch context.")


def kept(column: Column, value: Any) -> Any:
    """A JSON value as the column keeps it; its range and options are the store's to check. Raises ODataError (400)."""
    if value is None or value == "":
        return None
    if column.type in TEXT_TYPES and isinstance(value, str):
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise _mismatch(column, ascii(value), "Edm.String")
        return value
    if column.type == "Boolean" and isinstance(value, bool):
        return value
    if column.type == "Uniqueidentifier" and isinstance(value, str):
        try:
            return str(UUID(value))
        except ValueError as wrong:
            raise _mismatch(column, value, "Edm.Guid") from wrong
    if column.type == "DateTime":
        return _moment(column, value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if column.type in ("Money", "Decimal", "Double"):
            return value
        if isinstance(value, int) and column.type in NUMBER_TYPES | CHOICE_TYPES:
            return value
    raise _mismatch(column, value, "Edm.String" if column.type in TEXT_TYPES else column.type)


def _moment(column: Column, value: Any) -> Any:
    kind = "Edm.Date" if column.date_only else "Edm.DateTimeOffset"
    if not isinstance(value, str):
        raise _mismatch(column, value, kind)
    try:
        if column.date_only:
            return date.fromisoformat(value)
        if not _OFFSET.search(value):
            raise ValueError("no offset")
        return datetime.fromisoformat(value.upper())
    except ValueError as wrong:
        raise _mismatch(column, value, kind) from wrong


def _mismatch(column: Column, value: Any, kind: str) -> ODataError:
    return bad_payload(
        column.table,
        f"Microsoft.OData.ODataException: Cannot convert the literal '{value}' of property '{column.name}' to the "
        f"expected type '{kind}'.",
    )


def _unknown(table: Table, name: str) -> ODataError:
    if name in table.properties:
        return ODataError(
            400,
            PAYLOAD_ERROR,
            "CRM do not support direct update of Entity Reference properties, Use Navigation properties instead.",
        )
    return ODataError(
        400,
        "0x0",
        "An error occurred while validating input parameters: Microsoft.Crm.CrmException: "
        f"Invalid property '{name}' was found in entity 'Microsoft.Dynamics.CRM.{table.name}'. ---> "
        "Microsoft.OData.ODataException: Does not support untyped value in non-open type.",
    )
