"""CreateMultiple, UpdateMultiple, UpsertMultiple and BulkDelete ("Use bulk operation messages", "Delete data in bulk").

On a standard table one request is one transaction: any error undoes all of it and does not tell which row was wrong.
The emulated BulkDelete has done its job before it answers with the job's id.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from connector.sandbox.dataverse.call import Call
from connector.sandbox.dataverse.context import Context, Key, answer, empty
from connector.sandbox.dataverse.errors import (
    INVALID_ARGUMENT,
    ODataError,
    bad_payload,
    no_resource,
    no_segment,
    not_emulated,
)
from connector.sandbox.dataverse.predicates import PREFIX
from connector.sandbox.dataverse.values import from_text
from connector.sandbox.dataverse.writing import Writer
from connector.sandbox.schema import Table
from connector.sandbox.store import index_key
from connector.sandbox.wire import Response


class Bulk:
    """Answers the bulk messages."""

    def __init__(self, context: Context, writer: Writer) -> None:
        self._context = context
        self._writer = writer

    def act(self, call: Call, table: Table, name: str) -> Response:
        """An action bound to an entity set. Raises ODataError."""
        action = name.removeprefix(PREFIX)
        if action == "DeleteMultiple":
            raise ODataError(400, "0x80040216", "DeleteMultiple has not yet been implemented.")
        if action not in ("CreateMultiple", "UpdateMultiple", "UpsertMultiple"):
            raise not_emulated(f"the action {name}")
        if call.method != "POST":
            raise no_resource(call.address)
        targets = self._targets(call, table)
        if action == "CreateMultiple":
            return self._create(call, table, targets)
        with self._writer.transaction(call, table):
            self._context.demand("Write", table)
            keys = [self._key(table, target, call) for target in targets]
            self._unique(table, keys)
            if action == "UpdateMultiple":
                self._update(call, table, targets, keys)
            else:
                self._upsert(call, table, targets, keys)
        return empty()

    def delete(self, call: Call) -> Response:
        """``BulkDelete``: rows that query expressions of simple conditions select."""
        document = call.document("bulkdelete")
        queries = document.get("QuerySet")
        if not isinstance(queries, list) or not queries or not all(isinstance(each, dict) for each in queries):
            raise bad_payload("bulkdelete", "Microsoft.OData.ODataException: QuerySet is missing.")
        with self._context.store.transaction():
            for query in queries:
                table = self._context.schema.tables.get(str(query.get("EntityName")))
                if table is None:
                    raise ODataError(400, "0x80041102", f"The entity '{query.get('EntityName')}' was not found.")
                self._context.demand("Delete", table)
                with self._writer.transaction(call, table):
                    for row_id in self._selected(table, query.get("Criteria") or {}):
                        self._context.store.delete(table.name, row_id)
        kind = f"{call.root}$metadata#{PREFIX}BulkDeleteResponse"
        return answer(200, {"@odata.context": kind, "JobId": str(uuid.uuid4())})

    def _create(self, call: Call, table: Table, targets: list[dict[str, Any]]) -> Response:
        self._context.demand("Create", table)
        with self._writer.transaction(call, table):
            ids = [
                self._writer.insert(call, table, self._writer.payload.values(call, table, target)) for target in targets
            ]
        kind = f"{call.root}$metadata#{PREFIX}CreateMultipleResponse"
        return answer(200, {"@odata.context": kind, "Ids": ids})

    def _update(self, call: Call, table: Table, targets: list[dict[str, Any]], keys: list[Key]) -> None:
        missing = [key for key in keys if key.row_id is None or self._context.store.get(table.name, key.row_id) is None]
        if missing:
            names = ", ".join(key.row_id or str(key.values) for key in missing)
            raise ODataError(404, "0x80040217", f"{table.name} With Ids = {names} Do Not Exist")
        for target, key in zip(targets, keys, strict=True):
            self._writer.change(call, table, key.row_id or "", self._values(call, table, target, key))

    def _upsert(self, call: Call, table: Table, targets: list[dict[str, Any]], keys: list[Key]) -> None:
        for target, key in zip(targets, keys, strict=True):
            values = self._values(call, table, target, key)
            if key.row_id and self._context.store.get(table.name, key.row_id) is not None:
                self._writer.change(call, table, key.row_id, values)
            else:
                self._context.demand("Create", table)
                self._writer.insert(call, table, {**(key.values or {}), **values}, key.row_id)

    def _values(self, call: Call, table: Table, target: dict[str, Any], key: Key) -> dict[str, Any]:
        values = self._writer.payload.values(call, table, target)
        return {name: value for name, value in values.items() if name not in (key.values or {})}

    def _targets(self, call: Call, table: Table) -> list[dict[str, Any]]:
        targets = call.document(table.name).get("Targets")
        if not isinstance(targets, list) or not targets or not all(isinstance(each, dict) for each in targets):
            raise bad_payload(table.name, "Microsoft.OData.ODataException: Targets must be a list of rows.")
        for target in targets:
            kind = str(target.get("@odata.type", "")).removeprefix("#")
            if kind != PREFIX + table.name:
                raise bad_payload(
                    table.name,
                    "Microsoft.OData.ODataException: Every target needs the annotation '@odata.type' with the value "
                    f"'{PREFIX}{table.name}'.",
                )
        return targets

    def _key(self, table: Table, target: Mapping[str, Any], call: Call) -> Key:
        if "@odata.id" in target:
            key = self._context.reference(str(target["@odata.id"]), call.root)
            if key.table.name == table.name:
                return key
        elif isinstance(target.get(table.primary_id), str):
            return Key(table, from_text(table.columns[table.primary_id], target[table.primary_id]))
        for columns in table.keys.values():
            if all(isinstance(target.get(column), str) for column in columns):
                values = {column: target[column] for column in columns}
                return Key(table, self._context.store.by_key(table.name, values), values)
        raise ODataError(400, INVALID_ARGUMENT, f"A target of {table.name} carries no primary key and no '@odata.id'.")

    @staticmethod
    def _unique(table: Table, keys: list[Key]) -> None:
        named = [
            key.row_id or tuple(sorted((name, index_key(value)) for name, value in (key.values or {}).items()))
            for key in keys
        ]
        if len(set(named)) != len(named):
            raise ODataError(400, INVALID_ARGUMENT, f"The targets hold the same {table.name} more than once.")

    def _selected(self, table: Table, criteria: Mapping[str, Any]) -> list[str]:
        conditions = criteria.get("Conditions") or []
        if criteria.get("Filters") or str(criteria.get("FilterOperator", "And")) != "And" or not conditions:
            raise not_emulated("this kind of criteria in BulkDelete")
        tests = []
        for condition in conditions:
            column = table.columns.get(str(condition.get("AttributeName")))
            if column is None:
                raise no_segment(str(condition.get("AttributeName")))
            if condition.get("Operator") not in ("In", "Equal"):
                raise not_emulated(f"the operator {condition.get('Operator')} in BulkDelete")
            texts = [str(item.get("Value") if isinstance(item, dict) else item) for item in condition.get("Values", [])]
            tests.append((column.name, {from_text(column, text) for text in texts}))
        rows = self._context.store.rows(table.name)
        return [row[table.primary_id] for row in rows if all(index_key(row[name]) in wanted for name, wanted in tests)]
