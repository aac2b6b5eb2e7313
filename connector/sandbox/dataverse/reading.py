"""GET on rows: sets, single rows, single columns, related rows, counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connector.sandbox.dataverse.call import Call, Segment
from connector.sandbox.dataverse.context import Context, Key, answer, empty, number
from connector.sandbox.dataverse.errors import ODataError, bad_uri, no_property, not_emulated
from connector.sandbox.dataverse.expressions import parse_filter
from connector.sandbox.dataverse.paging import parse_token
from connector.sandbox.dataverse.rendering import etag, plain
from connector.sandbox.dataverse.rowsets import COUNT_LIMIT, Selection
from connector.sandbox.dataverse.shapes import parse_order, parse_shape, parse_top
from connector.sandbox.schema import Column, Table
from connector.sandbox.wire import Response

_TOTAL = "Microsoft.Dynamics.CRM.totalrecordcount"
_EXCEEDED = "Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"
_METADATA = "Microsoft.Dynamics.CRM.globalmetadataversion"
METADATA_VERSION = "68444446"


class Reader:
    """Answers reads of rows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def selection(self, call: Call, table: Table, among: frozenset[str] | None = None) -> Selection:
        """What ``$filter`` and ``$orderby`` select. Raises ODataError (400, 501)."""
        options = call.options
        condition = None
        if "$filter" in options:
            if not options["$filter"].strip():
                raise bad_uri("The value of '$filter' cannot be empty.")
            condition = parse_filter(options["$filter"], call.aliases)
            self._context.predicates.compile(table, condition)
        order = parse_order(options.get("$orderby", ""))
        for item in order:
            self._context.predicates.value(table, item.path)
        return Selection(table, condition, order, among)

    def rows(self, call: Call, table: Table, among: frozenset[str] | None = None) -> Response:
        """A set of rows, or one page of it."""
        context, options, wanted = self._context, call.options, call.preferences
        context.demand("Read", table)
        if "$apply" in options:
            raise not_emulated("$apply")
        shape = parse_shape(context.schema, table, options)
        for item in shape.expands:
            context.demand("Read", item.target)
        selection = self.selection(call, table, among)
        counted = _flag(options.get("$count"))
        cookie = parse_token(options["$skiptoken"]) if "$skiptoken" in options else None
        top = parse_top(options.get("$top"))
        # Documented: $top together with odata.maxpagesize is ignored.
        limited = top is not None and wanted.page_size is None
        size = min(top or 0, context.options.page_size) if limited else context.page_size(call)
        page = context.rowsets.page(selection, size, cookie) if size else None

        document: dict[str, Any] = {
            "@odata.context": f"{call.root}$metadata#{table.entity_set}{shape.context()}",
        }
        total = context.rowsets.count(selection) if counted else -1
        if counted:
            document["@odata.count"] = min(total, COUNT_LIMIT)
        if wanted.annotated(_TOTAL):
            document[f"@{_TOTAL}"] = min(total, COUNT_LIMIT)
        if wanted.annotated(_EXCEEDED):
            document[f"@{_EXCEEDED}"] = total > COUNT_LIMIT
        if wanted.annotated(_METADATA):
            document[f"@{_METADATA}"] = METADATA_VERSION
        document["value"] = context.renderer.rows(shape, page.rows if page else [], wanted, call.root)
        if page and page.cookie and not limited:
            document["@odata.nextLink"] = call.link(skiptoken=page.cookie.token())
        return answer(200, document, *wanted.applied("odata.maxpagesize", "odata.include-annotations"))

    def count(self, call: Call, table: Table, among: frozenset[str] | None = None) -> Response:
        """How many rows a set has, at most 5,000."""
        self._context.demand("Read", table)
        return number(min(self._context.rowsets.count(self.selection(call, table, among)), COUNT_LIMIT))

    def row(self, call: Call, key: Key) -> Response:
        """One row; 304 when the caller has this version already."""
        context, table = self._context, key.table
        context.demand("Read", table)
        refused = {"$filter", "$orderby", "$top", "$count", "$apply"} & set(call.options)
        if refused:
            raise bad_uri(f"The query option '{min(refused)}' can not be used with a single row.")
        shape = parse_shape(context.schema, table, call.options)
        row = self.found(key)
        unconditional = shape.expands or call.preferences.annotations or not table.optimistic_concurrency
        if call.if_none_match == etag(row) and not unconditional:
            return empty(("Content-Type", "application/json; odata.metadata=minimal"), status=304)
        document = {
            "@odata.context": f"{call.root}$metadata#{table.entity_set}{shape.context()}/$entity",
            **context.renderer.row(shape, row, call.preferences, call.root),
        }
        return answer(200, document, ("ETag", etag(row)), *call.preferences.applied("odata.include-annotations"))

    def found(self, key: Key) -> Mapping[str, Any]:
        """The row that a key names. Raises ODataError (404)."""
        row = self._context.store.get(key.table.name, key.row_id) if key.row_id else None
        if row is None:
            raise key.missing(entity=True)
        return row

    def inside(self, call: Call, key: Key, segments: tuple[Segment, ...]) -> Response:
        """A column of a row, its raw value, the row that a lookup names, or the rows that refer to it."""
        context, table, name = self._context, key.table, segments[0].name
        rest = [segment.name for segment in segments[1:]]
        context.demand("Read", table)
        if name in table.properties:
            return self._value(call, key, table.properties[name], rest)
        if name in table.navigations:
            column, target_name = table.navigations[name]
            return self._one(call, key, column, context.schema.table(target_name), rest)
        related = context.schema.collection(table.name, name)
        if related is None:
            raise no_property(name, table.name)
        target, column = related
        if rest not in ([], ["$count"]) or segments[0].key is not None:
            raise not_emulated(f"GET on {call.path}")
        self.found(key)
        found = context.store.find(target.name, column.name, key.row_id)
        among = frozenset(row[target.primary_id] for row in found)
        return self.count(call, target, among) if rest else self.rows(call, target, among)

    def _value(self, call: Call, key: Key, column: Column, rest: list[str]) -> Response:
        value = plain(self.found(key)[column.name])
        if rest not in ([], ["$value"]):
            raise no_property(rest[0], key.table.name)
        if value is None:
            return empty()
        if rest:
            headers = (("OData-Version", "4.0"), ("Content-Type", "text/plain"))
            return Response(200, headers, str(value).encode("utf-8"))
        at = f"{call.root}$metadata#{key.table.entity_set}({key.row_id})/{column.property_name}"
        return answer(200, {"@odata.context": at, "value": value})

    def _one(self, call: Call, key: Key, column: Column, target: Table, rest: list[str]) -> Response:
        related = self.found(key)[column.name]
        if related is None or self._context.store.get(target.name, related) is None:
            return empty()
        if rest == ["$ref"]:
            at = f"{call.root}$metadata#$ref"
            return answer(200, {"@odata.context": at, "@odata.id": f"{call.root}{target.entity_set}({related})"})
        if rest:
            raise not_emulated(f"GET on {call.path}")
        return self.row(call, Key(target, related))


def _flag(text: str | None) -> bool:
    if text in (None, "false"):
        return False
    if text == "true":
        return True
    raise ODataError(400, "0x80060888", f"Invalid value '{text}' for $count query option found.")
