"""Answers about definitions: EntityDefinitions and what hangs below them, relationships, changes, ``$metadata``.

Nothing is paged. ``$select`` shows what it names and always the MetadataId; typed details of columns need a cast
("Query table definitions using the Web API").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from connector.sandbox.dataverse.call import Call, Segment
from connector.sandbox.dataverse.context import Context, answer
from connector.sandbox.dataverse.edmx import edmx
from connector.sandbox.dataverse.errors import bad_uri, no_property, no_row, no_segment, not_emulated
from connector.sandbox.dataverse.expressions import Both, Compare, Either, Literal, Not, Path, parse_filter
from connector.sandbox.dataverse.expressions import Call as Function
from connector.sandbox.dataverse.metadata_documents import (
    COMMON,
    PREFIX,
    kind_of,
    table_document,
)
from connector.sandbox.dataverse.reading import METADATA_VERSION
from connector.sandbox.dataverse.shapes import parse_top, split_top
from connector.sandbox.wire import Response

Document = Mapping[str, Any]
_ROOTS = frozenset(
    {
        "$metadata",
        "EntityDefinitions",
        "RelationshipDefinitions",
        "GlobalOptionSetDefinitions",
        "RetrieveMetadataChanges",
    }
)
_ORDER: Mapping[str, Any] = {
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}


class Metadata:
    """Answers GETs of definitions."""

    def __init__(self, context: Context) -> None:
        schema = context.schema
        self._schema = schema
        self._tables = {table.name: table_document(schema, table) for table in schema}

    @staticmethod
    def concerns(name: str) -> bool:
        """Whether a first segment is about definitions."""
        return name in _ROOTS

    def answer(self, call: Call, segments: tuple[Segment, ...]) -> Response:
        """The answer to a GET. Raises ODataError (400, 404, 501)."""
        first = segments[0]
        if first.name == "$metadata":
            body = edmx(self._schema, annotated=call.options.get("annotations") == "true")
            return Response(200, (("Content-Type", "application/xml"), ("OData-Version", "4.0")), body)
        if first.name == "RetrieveMetadataChanges":
            return self._changes(call, first)
        if first.name == "GlobalOptionSetDefinitions":
            if first.key is not None:
                raise no_row("optionset", first.key)
            return self._list(call, "GlobalOptionSetDefinitions", [], "OptionSetMetadataBase", None)
        if first.name == "RelationshipDefinitions":
            return self._relationships(call, segments)
        if first.key is None:
            if len(segments) > 1:
                raise no_segment(segments[1].name)
            return self._list(call, "EntityDefinitions", list(self._tables.values()), "EntityMetadata", None)
        table = _one(list(self._tables.values()), first, "LogicalName", missing=_no_table)
        if len(segments) == 1:
            return self._single(call, "EntityDefinitions", table, "EntityMetadata", None)
        return self._below(call, table, segments[1:])

    def _relationships(self, call: Call, segments: tuple[Segment, ...]) -> Response:
        documents = [document for table in self._tables.values() for document in table["_ManyToOneRelationships"]]
        if segments[0].key is None:
            return self._list(call, "RelationshipDefinitions", documents, "RelationshipMetadataBase", None)
        found = _one(documents, segments[0], "SchemaName", missing=_no_relationship)
        return self._single(call, "RelationshipDefinitions", found, "RelationshipMetadataBase", None)

    def _below(self, call: Call, table: Document, segments: tuple[Segment, ...]) -> Response:
        name, context = segments[0].name, f"EntityDefinitions('{table['LogicalName']}')"
        if f"_{name}" not in table:
            if name in table and len(segments) == 1:
                return answer(200, {"@odata.context": f"{call.root}$metadata#{context}/{name}", "value": table[name]})
            raise no_property(name, "EntityMetadata")
        documents: list[Document] = list(table[f"_{name}"])
        context = f"{context}/{name}"
        kind = {"Attributes": "AttributeMetadata", "Keys": "EntityKeyMetadata"}.get(name, "RelationshipMetadataBase")
        if segments[0].key is not None:
            key = "SchemaName" if name.endswith("Relationships") else "LogicalName"
            found = _one(documents, segments[0], key, missing=_missing_in(str(table["LogicalName"])))
            return self._detail(call, context, found, kind, segments[1:])
        cast = segments[1].name if len(segments) > 1 else None
        if cast is None:
            return self._list(call, context, documents, kind, COMMON if name == "Attributes" else None)
        if name != "Attributes" or not cast.startswith(PREFIX):
            raise no_segment(cast)
        documents = [document for document in documents if document["@odata.type"] == f"#{cast}"]
        if len(segments) > 2:
            raise no_segment(segments[2].name)
        if segments[1].key is not None:
            found = _one(documents, segments[1], "LogicalName", missing=_missing_in(str(table["LogicalName"])))
            return self._single(call, f"{context}/{cast}", found, cast.removeprefix(PREFIX), None)
        return self._list(call, f"{context}/{cast}", documents, cast.removeprefix(PREFIX), None, typed=True)

    def _detail(self, call: Call, context: str, found: Document, kind: str, rest: tuple[Segment, ...]) -> Response:
        if not rest:
            return self._single(call, context, found, kind, COMMON if kind == "AttributeMetadata" else None)
        cast = rest[0].name
        if cast.startswith(PREFIX):
            if found.get("@odata.type") != f"#{cast}":
                raise no_row(cast.removeprefix(PREFIX), str(found["MetadataId"]))
            context, rest = f"{context}/{cast}", rest[1:]
            if not rest:
                return self._single(call, context, found, cast.removeprefix(PREFIX), None, typed=True)
        inner = found.get(f"_{rest[0].name}")
        if inner is None or len(rest) > 2:
            raise no_segment(rest[0].name)
        if len(rest) == 1:
            return self._single(call, f"{context}/{rest[0].name}", inner, "OptionSetMetadata", None)
        if rest[1].name not in inner:
            raise no_segment(rest[1].name)
        at = f"{call.root}$metadata#{context}/{rest[0].name}/{rest[1].name}"
        return answer(200, {"@odata.context": at, "value": inner[rest[1].name]})

    def _list(
        self,
        call: Call,
        context: str,
        documents: list[Document],
        kind: str,
        selectable: frozenset[str] | None,
        *,
        typed: bool = False,
    ) -> Response:
        options = call.options
        refused = {"$orderby", "$apply", "$skiptoken", "$deltatoken"} & set(options)
        if refused:
            raise bad_uri(f"The query option '{min(refused)}' isn't supported for metadata.")
        if "$filter" in options:
            tree = parse_filter(options["$filter"], call.aliases)
            documents = [document for document in documents if _holds(tree, document, kind)]
        documents = documents[: parse_top(options.get("$top"))]
        shown = [_shown(document, options, kind, selectable, typed=typed) for document in documents]
        counted = {"@odata.count": len(shown)} if options.get("$count") == "true" else {}
        return answer(200, {"@odata.context": _context(call, context), **counted, "value": shown})

    def _single(
        self,
        call: Call,
        context: str,
        document: Document,
        kind: str,
        selectable: frozenset[str] | None,
        *,
        typed: bool = False,
    ) -> Response:
        shown = _shown(document, call.options, kind, selectable, typed=typed)
        return answer(200, {"@odata.context": f"{_context(call, context)}/$entity", **shown})

    def _changes(self, call: Call, segment: Segment) -> Response:
        """RetrieveMetadataChanges without a time stamp: all that the query selects, as if it had just changed."""
        text = (segment.key or "").partition("=")[2].strip()
        try:
            query = json.loads(call.aliases.get(text, text))
        except ValueError as wrong:
            raise bad_uri(f"The Query parameter of RetrieveMetadataChanges is not JSON: {wrong}.") from wrong
        found = []
        for table in _conditioned(self._tables.values(), query.get("Criteria")):
            names = _names(query)
            document = _picked(table, None if names is None else [name for name in names if name != "Attributes"])
            if names is None or "Attributes" in names:
                inner = query.get("AttributeQuery") or {}
                columns = _conditioned(table["_Attributes"], inner.get("Criteria"))
                document["Attributes"] = [
                    {"@odata.type": column["@odata.type"], **_picked(column, _names(inner))} for column in columns
                ]
            found.append(document)
        kind = f"{call.root}$metadata#{PREFIX}RetrieveMetadataChangesResponse"
        stamp = f"{METADATA_VERSION}!01/01/2026 00:00:00"
        document = {
            "@odata.context": kind,
            "EntityMetadata": found,
            "ServerVersionStamp": stamp,
            "DeletedMetadata": None,
        }
        return answer(200, document)


def _context(call: Call, context: str) -> str:
    names = [name.strip() for name in call.options.get("$select", "").split(",") if name.strip()]
    names += split_top(call.options.get("$expand", "").replace("$select=", ""), ",")
    return f"{call.root}$metadata#{context}" + (f"({','.join(names)})" if names else "")


def _one(documents: list[Document], segment: Segment, name: str, *, missing: Any) -> Document:
    text = (segment.key or "").strip()
    parts = segment.parts()
    if parts is not None:
        if set(parts) == {"MetadataId"}:
            text, name = parts["MetadataId"], "MetadataId"
        elif set(parts) == {name}:
            text = parts[name]
        else:
            raise bad_uri(f"The key in the request URI is not valid for resource '{segment.name}'.")
    else:
        try:
            text, name = str(UUID(text)), "MetadataId"
        except ValueError as wrong:
            raise bad_uri(f"Bad Request - Error in query syntax: '{segment.name}({text})'.") from wrong
    for document in documents:
        if document[name] == text:
            return document
    raise missing(text)


def _no_table(text: str) -> Exception:
    return no_row("EntityMetadata", text, entity=True)


def _no_relationship(text: str) -> Exception:
    return no_row("RelationshipMetadata", text, entity=True)


def _missing_in(table: str) -> Any:
    return lambda text: no_row(f"{table} attribute", text, entity=True)


def _shown(
    document: Document, options: Mapping[str, str], kind: str, selectable: frozenset[str] | None, *, typed: bool = False
) -> dict[str, Any]:
    names = [name.strip() for name in options.get("$select", "").split(",") if name.strip()]
    shown = {"@odata.type": document["@odata.type"]} if "@odata.type" in document and not typed else {}
    shown |= _picked(document, [*names, "MetadataId"] if names else None, kind=kind, selectable=selectable)
    for item in split_top(options.get("$expand", ""), ","):
        name, _, rest = item.partition("(")
        inner = {}
        for option in split_top(rest.removesuffix(")"), ";"):
            key, _, value = option.partition("=")
            inner[key] = value
        if set(inner) - {"$select", "$filter"}:
            raise not_emulated(f"the options {sorted(inner)} inside $expand of metadata")
        if f"_{name}" not in document:
            raise no_property(name, kind)
        related = document[f"_{name}"]
        if isinstance(related, list):
            if "$filter" in inner:
                tree = parse_filter(inner["$filter"], {})
                related = [each for each in related if _holds(tree, each, kind)]
            shown[name] = [_shown(each, inner, name, None) for each in related]
        else:
            shown[name] = None if related is None else _shown(related, inner, name, None)
    return shown


def _picked(
    document: Document, names: Iterable[str] | None, *, kind: str = "", selectable: frozenset[str] | None = None
) -> dict[str, Any]:
    if names is None:
        return {name: value for name, value in document.items() if not name.startswith(("_", "@"))}
    picked = {}
    for name in names:
        if selectable is not None and name not in selectable:
            raise no_property(name, kind)
        if name in document and not name.startswith(("_", "@")):
            picked[name] = document[name]
        elif kind:
            raise no_property(name, kind)
    return picked


def _holds(tree: Any, document: Document, kind: str) -> bool:
    if isinstance(tree, Both):
        return all(_holds(part, document, kind) for part in tree.conditions)
    if isinstance(tree, Either):
        return any(_holds(part, document, kind) for part in tree.conditions)
    if isinstance(tree, Not):
        return not _holds(tree.condition, document, kind)
    if isinstance(tree, Function) and tree.name in ("contains", "startswith", "endswith") and len(tree.arguments) == 2:
        text, wanted = str(_read(tree.arguments[0], document, kind)), str(_read(tree.arguments[1], document, kind))
        return {"contains": wanted in text, "startswith": text.startswith(wanted), "endswith": text.endswith(wanted)}[
            tree.name
        ]
    if not isinstance(tree, Compare):
        raise not_emulated("this kind of $filter on metadata")
    left, right = _read(tree.left, document, kind), _read(tree.right, document, kind)
    if tree.operator in ("eq", "ne"):
        return bool((left == right) is (tree.operator == "eq"))
    return left is not None and right is not None and bool(_ORDER[tree.operator](left, right))


def _read(item: Any, document: Document, kind: str) -> Any:
    if isinstance(item, Literal):
        return item.value
    if not isinstance(item, Path):
        raise not_emulated("this kind of $filter on metadata")
    value: Any = document
    for part in item.parts:
        if not isinstance(value, Mapping) or part not in value or part.startswith("_"):
            raise no_property(part, kind)
        value = value[part]
    return value


def _names(query: Mapping[str, Any]) -> list[str] | None:
    properties = query.get("Properties") or {}
    return None if properties.get("AllProperties") else properties.get("PropertyNames")


def _conditioned(documents: Iterable[Document], criteria: Mapping[str, Any] | None) -> list[Document]:
    found = list(documents)
    for condition in (criteria or {}).get("Conditions") or []:
        value = condition.get("Value")
        wanted = value.get("Value") if isinstance(value, dict) else value
        name, operator = condition.get("PropertyName"), condition.get("ConditionOperator")
        if operator not in ("Equals", "NotEquals"):
            raise not_emulated(f"the condition operator {operator} in RetrieveMetadataChanges")
        found = [each for each in found if (each.get(name) == wanted) is (operator == "Equals")]
    if (criteria or {}).get("Filters"):
        raise not_emulated("nested filters in RetrieveMetadataChanges")
    return found


__all__ = ["Metadata", "kind_of"]
