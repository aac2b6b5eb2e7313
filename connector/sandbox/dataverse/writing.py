"""POST, PATCH, PUT and DELETE on single rows, with the conditions of ``If-Match`` and ``If-None-Match``.

Sources: "Update and delete table rows", "Use Upsert", "Perform conditional operations", "Associate table rows".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from connector.sandbox.dataverse.call import Call, Segment
from connector.sandbox.dataverse.context import Context, Key, answer, empty
from connector.sandbox.dataverse.errors import (
    ODataError,
    as_answers,
    bad_payload,
    exists_already,
    missing_privilege,
    no_property,
    version_mismatch,
)
from connector.sandbox.dataverse.payload import Payload, kept
from connector.sandbox.dataverse.rendering import etag
from connector.sandbox.dataverse.shapes import parse_shape
from connector.sandbox.schema import Column, Table
from connector.sandbox.store import APPLICATION_USER_ID, index_key
from connector.sandbox.wire import Response


class Writer:
    """Answers writes of single rows."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.payload = Payload(context)

    @contextmanager
    def transaction(self, call: Call, table: Table) -> Iterator[None]:
        """One write with everything that plug-ins add to it; without plug-ins when the caller may and asks so."""
        store, headers = self._context.store, call.headers
        bypass = "customsync" in headers.get("mscrm.bypassbusinesslogicexecution", "").lower()
        bypass = bypass or headers.get("mscrm.bypasscustompluginexecution", "").lower() == "true"
        if bypass and not self._context.options.may_bypass_plugins:
            raise missing_privilege("prvBypassCustomBusinessLogic", APPLICATION_USER_ID)
        with store.without_plugins() if bypass else store.transaction(), as_answers(table):
            yield

    def create(self, call: Call, table: Table) -> Response:
        """POST to an entity set."""
        self._context.demand("Create", table)
        with self.transaction(call, table):
            row_id = self.insert(call, table, self.payload.values(call, table, call.document(table.name)))
        return self._written(call, Key(table, row_id), created=True, by_key=False)

    def insert(self, call: Call, table: Table, values: Mapping[str, Any], row_id: str | None = None) -> str:
        """Add a row after duplicate detection, when the caller turned that on; returns its id."""
        self._detect_duplicates(call, table, values, None)
        given = {name: value for name, value in values.items() if name != table.primary_id}
        return self._context.store.create(table.name, given, row_id or values.get(table.primary_id))

    def change(self, call: Call, table: Table, row_id: str, values: Mapping[str, Any]) -> None:
        """Change a row. Raises ODataError (400) for a status reason that does not belong to the state."""
        given = {name: value for name, value in values.items() if name != table.primary_id}
        row = self._context.store.get(table.name, row_id)
        if row is not None and given.get("statuscode") is not None:
            state = given.get("statecode", row["statecode"])
            options = {option.value: option.state for option in table.columns["statuscode"].options}
            reason = given["statuscode"]
            if reason in options and options[reason] != state:
                raise ODataError(
                    400, "0x80048408", f"{reason} is not a valid status code for state code {state} on {table.name}."
                )
        self._detect_duplicates(call, table, given, row_id)
        self._context.store.update(table.name, row_id, given)

    def patch(self, call: Call, key: Key) -> Response:
        """PATCH of a row: update, or create when it is missing and no ``If-Match`` forbids that."""
        table = key.table
        with self.transaction(call, table):
            values = self.payload.values(call, table, call.document(table.name))
            row = self._context.store.get(table.name, key.row_id) if key.row_id else None
            if row is None:
                if call.if_match is not None:
                    raise key.missing()
                self._context.demand("Create", table)
                row_id = self.insert(call, table, {**(key.values or {}), **values}, key.row_id)
                return self._written(call, Key(table, row_id), created=True, by_key=key.values is not None)
            self._conditions(call, table, row)
            self._context.demand("Write", table)
            row_id = row[table.primary_id]
            self.change(call, table, row_id, {k: v for k, v in values.items() if k not in (key.values or {})})
            return self._written(call, Key(table, row_id), created=False, by_key=key.values is not None)

    def delete(self, call: Call, key: Key) -> Response:
        """DELETE of a row."""
        table = key.table
        with self.transaction(call, table):
            self._context.demand("Delete", table)
            row = self._present(call, key)
            self._context.store.delete(table.name, row[table.primary_id])
        return empty()

    def column(self, call: Call, key: Key, column: Column) -> Response:
        """PUT ``{"value": …}`` to a column of a row, or DELETE, which empties it."""
        table = key.table
        if column.is_lookup or column.read_only or column.primary_id:
            raise ODataError(405, "0x80060888", f"The property '{column.property_name}' cannot be written this way.")
        with self.transaction(call, table):
            self._context.demand("Write", table)
            value = None
            if call.method == "PUT":
                document = call.document(table.name)
                if "value" not in document:
                    raise bad_payload(table.name, "Microsoft.OData.ODataException: The property 'value' is missing.")
                value = kept(column, document["value"])
            row = self._present(call, key)
            self.change(call, table, row[table.primary_id], {column.name: value})
        return empty()

    def reference(self, call: Call, key: Key, segment: Segment) -> Response:
        """PUT, POST or DELETE of ``…/<navigation>/$ref``: set or empty a lookup, from either side."""
        table, name = key.table, segment.name
        with self.transaction(call, table):
            self._context.demand("Append", table)
            row = self._present(call, key)
            if name in table.navigations:
                column, _ = table.navigations[name]
                related = None if call.method == "DELETE" else self._named(call, table).row_id
                self._context.store.update(table.name, row[table.primary_id], {column.name: related})
                return empty()
            found = self._context.schema.collection(table.name, name)
            if found is None:
                raise no_property(name, table.name)
            other, column = found
            if call.method == "DELETE":
                one = self._context.key(other, segment) if segment.key else self._named(call, table)
                value = None
            else:
                one, value = self._named(call, table), row[table.primary_id]
            if one.table.name != other.name:
                raise bad_payload(table.name, f"Microsoft.OData.ODataException: '{name}' refers to {other.name}.")
            self._context.store.update(other.name, one.row_id or "", {column.name: value})
        return empty()

    def _named(self, call: Call, table: Table) -> Key:
        text = call.aliases.get("@odata.id") or call.options.get("$id")
        return self.payload.related(call, text or call.document(table.name).get("@odata.id"), table)

    def _present(self, call: Call, key: Key) -> Mapping[str, Any]:
        row = self._context.store.get(key.table.name, key.row_id) if key.row_id else None
        if row is None:
            raise key.missing(entity=call.if_match is None)
        self._conditions(call, key.table, row)
        return row

    @staticmethod
    def _conditions(call: Call, table: Table, row: Mapping[str, Any]) -> None:
        if call.if_none_match == "*":
            raise exists_already()
        wanted = call.if_match
        if wanted is None or wanted.strip() == "*":
            return
        if not table.optimistic_concurrency:
            raise ODataError(400, "0x8006088d", f"Optimistic concurrency isn't enabled for entity type {table.name}.")
        if wanted.strip() != etag(row):
            raise version_mismatch()

    def _detect_duplicates(self, call: Call, table: Table, values: Mapping[str, Any], own: str | None) -> None:
        if call.headers.get("mscrm.suppressduplicatedetection", "").lower() != "false":
            return
        for column in self._context.options.duplicate_rules.get(table.name, ()):
            value = values.get(column)
            if value is None:
                continue
            rivals = self._context.store.find(table.name, column, index_key(value))
            if any(row[table.primary_id] != own for row in rivals):
                message = (
                    "A record was not created or updated because a duplicate of the current record already exists."
                )
                raise ODataError(412, "0x80040333", message)

    def _written(self, call: Call, key: Key, *, created: bool, by_key: bool) -> Response:
        row_id = key.row_id or ""
        address = f"{call.root}{key.table.entity_set}({row_id})"
        if by_key:
            address = call.root + call.path
        if call.preferences.representation:
            shape = parse_shape(self._context.schema, key.table, call.options)
            row = self._context.store.get(key.table.name, row_id)
            if row is None:
                raise key.missing(entity=True)
            document = {
                "@odata.context": f"{call.root}$metadata#{key.table.entity_set}{shape.context()}/$entity",
                **self._context.renderer.row(shape, row, call.preferences, call.root),
            }
            applied = call.preferences.applied("return", "odata.include-annotations")
            location = (("Location", address),) if call.in_batch and created else ()
            return answer(201 if created else 200, document, ("ETag", etag(row)), *applied, *location)
        location = (("Location", address),) if call.in_batch and created else ()
        return empty(*location, ("OData-EntityId", address))
