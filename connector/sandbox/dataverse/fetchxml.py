"""A part of FetchXML: columns, nested filters, order, pages by number and cookie ("Use FetchXML to retrieve data").

Link-entities, aggregates and distinct are refused with 501.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

from connector.sandbox.dataverse.call import Call
from connector.sandbox.dataverse.context import MAX_PAGE_SIZE, Context, answer
from connector.sandbox.dataverse.errors import ODataError, not_emulated
from connector.sandbox.dataverse.expressions import Path
from connector.sandbox.dataverse.functions import query_function
from connector.sandbox.dataverse.paging import Cookie, parse_inner
from connector.sandbox.dataverse.predicates import Test
from connector.sandbox.dataverse.rowsets import Selection
from connector.sandbox.dataverse.shapes import Order, Shape
from connector.sandbox.dataverse.values import from_text, like
from connector.sandbox.schema import TEXT_TYPES, Column, Table
from connector.sandbox.store import index_key
from connector.sandbox.wire import Response

_COOKIE = "Microsoft.Dynamics.CRM.fetchxmlpagingcookie"
_MORE = "Microsoft.Dynamics.CRM.morerecords"
_FUNCTIONS = {
    "in": "In",
    "not-in": "NotIn",
    "between": "Between",
    "not-between": "NotBetween",
    "eq-userid": "EqualUserId",
    "ne-userid": "NotEqualUserId",
    "today": "Today",
    "yesterday": "Yesterday",
    "tomorrow": "Tomorrow",
    "last-seven-days": "Last7Days",
    "next-seven-days": "Next7Days",
    "on": "On",
    "not-on": "NotOn",
    "on-or-after": "OnOrAfter",
    "on-or-before": "OnOrBefore",
    "last-x-hours": "LastXHours",
    "last-x-days": "LastXDays",
    "last-x-weeks": "LastXWeeks",
    "next-x-hours": "NextXHours",
    "next-x-days": "NextXDays",
    "next-x-weeks": "NextXWeeks",
    "olderthan-x-minutes": "OlderThanXMinutes",
    "olderthan-x-hours": "OlderThanXHours",
    "olderthan-x-days": "OlderThanXDays",
    "olderthan-x-weeks": "OlderThanXWeeks",
}


class FetchReader:
    """Answers ``?fetchXml=``."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def rows(self, call: Call, table: Table) -> Response:
        """One page of what the query selects. Raises ODataError (400, 403, 501)."""
        context, wanted = self._context, call.preferences
        context.demand("Read", table)
        fetch, entity = _parsed(call.options["fetchXml"])
        if entity.get("name") != table.name:
            if entity.get("name") not in context.schema.tables:
                raise ODataError(400, "0x80041102", f"The entity with a name = '{entity.get('name')}' was not found.")
            raise ODataError(400, "0x80060888", "Entity Name in FetchXml doesn't match with the one in the URI.")
        shape = Shape(table, _attributes(table, entity))
        order = tuple(
            Order(Path((_column(table, item.get("attribute")).property_name,)), item.get("descending") == "true")
            for item in entity.findall("order")
        )
        tests = [self._filter(table, item) for item in entity.findall("filter")]
        matching = [row for row in context.rowsets.matching(Selection(table)) if all(test(row) for test in tests)]
        among = frozenset(row[table.primary_id] for row in matching)
        selection = Selection(table, order=order, among=among)
        number, size = _number(fetch, "page", 1), _number(fetch, "count", context.options.page_size)
        if fetch.get("top"):
            number, size = 1, _number(fetch, "top", 0)
        cookie = Cookie(number) if number > 1 else None
        if number > 1 and fetch.get("paging-cookie"):
            cookie = parse_inner(str(fetch.get("paging-cookie")), page=number)
        if cookie is not None and not cookie.last:
            cookie = self._place(selection, number, size)
        page = context.rowsets.page(selection, min(size, MAX_PAGE_SIZE), cookie)
        more = page.cookie is not None and not fetch.get("top")

        document: dict[str, Any] = {"@odata.context": f"{call.root}$metadata#{table.entity_set}{shape.context()}"}
        if more and page.cookie is not None and wanted.annotated(_COOKIE):
            document[f"@{_COOKIE}"] = page.cookie.annotation()
        if wanted.annotated(_MORE):
            document[f"@{_MORE}"] = more
        document["value"] = context.renderer.rows(shape, page.rows, wanted, call.root)
        return answer(200, document, *wanted.applied("odata.include-annotations"))

    def _place(self, selection: Selection, number: int, size: int) -> Cookie | None:
        """Where a page begins that was asked for by its number alone."""
        cookie: Cookie | None = None
        for _ in range(number - 1):
            page = self._context.rowsets.page(selection, size, cookie)
            if page.cookie is None:
                last = {selection.table.primary_id: "{ffffffff-ffff-ffff-ffff-ffffffffffff}"}
                return Cookie(number, last) if not selection.order else page.cookie
            cookie = page.cookie
        return cookie

    def _filter(self, table: Table, element: ElementTree.Element) -> Test:
        tests: list[Test] = []
        for child in element:
            if child.tag == "filter":
                tests.append(self._filter(table, child))
            elif child.tag == "condition":
                tests.append(self._condition(table, child))
            else:
                raise not_emulated(f"<{child.tag}> inside a FetchXML filter")
        if element.get("type") == "or":
            return lambda row: any(test(row) for test in tests)
        return lambda row: all(test(row) for test in tests)

    def _condition(self, table: Table, element: ElementTree.Element) -> Test:
        if element.get("entityname") or element.get("valueof"):
            raise not_emulated("conditions on other tables or columns in FetchXML")
        column = _column(table, element.get("attribute"))
        operator = element.get("operator") or "eq"
        texts = [child.text or "" for child in element.findall("value")]
        if element.get("value") is not None:
            texts.insert(0, str(element.get("value")))
        name = column.name
        if operator in _FUNCTIONS:
            test = query_function(_FUNCTIONS[operator], column, texts, self._context.now())
            return lambda row: test(row[name])
        return _comparison(column, operator, texts)


def _comparison(column: Column, operator: str, texts: list[str]) -> Test:
    name = column.name
    if operator in ("null", "not-null"):
        return lambda row: (row[name] is None) is (operator == "null")
    if not texts:
        raise ODataError(400, "0x80040203", f"The condition on '{name}' needs a value.")
    patterns = {"like": "{}", "not-like": "{}", "begins-with": "{}%", "not-begin-with": "{}%"}
    patterns |= {"ends-with": "%{}", "not-end-with": "%{}"}
    if operator in patterns:
        if column.type not in TEXT_TYPES:
            raise ODataError(400, "0x80040203", f"The operator '{operator}' is not valid for column '{name}'.")
        matches, positive = like(patterns[operator].format(texts[0])), not operator.startswith("not-")
        return lambda row: (row[name] is not None and matches(row[name])) is positive
    wanted = from_text(column, texts[0])
    compare: dict[str, Callable[[Any], bool]] = {
        "eq": lambda value: value == wanted,
        "ne": lambda value: value != wanted,
        "neq": lambda value: value != wanted,
        "gt": lambda value: value is not None and value > wanted,
        "ge": lambda value: value is not None and value >= wanted,
        "lt": lambda value: value is not None and value < wanted,
        "le": lambda value: value is not None and value <= wanted,
    }
    if operator not in compare:
        raise not_emulated(f"the FetchXML operator '{operator}'")
    test = compare[operator]

    def holds(row: Mapping[str, Any]) -> bool:
        return test(index_key(row[name]))

    return holds


def _parsed(text: str) -> tuple[ElementTree.Element, ElementTree.Element]:
    try:
        fetch = ElementTree.fromstring(text)  # noqa: S314 - own sandbox, own caller, and expat bounds expansion
    except ElementTree.ParseError as wrong:
        raise ODataError(400, "0x80040201", f"Invalid XML: {wrong}.") from wrong
    entity = fetch.find("entity")
    if fetch.tag != "fetch" or entity is None:
        raise ODataError(400, "0x80041102", "A fetch with an entity was expected.")
    for name in ("aggregate", "distinct", "returntotalrecordcount"):
        if fetch.get(name, "false") not in ("false", "0"):
            raise not_emulated(f"'{name}' in FetchXML")
    if entity.find("link-entity") is not None:
        raise not_emulated("link-entity in FetchXML")
    return fetch, entity


def _attributes(table: Table, entity: ElementTree.Element) -> tuple[Column, ...] | None:
    columns = tuple(_column(table, item.get("name")) for item in entity.findall("attribute"))
    return columns if columns and entity.find("all-attributes") is None else None


def _column(table: Table, name: str | None) -> Column:
    column = table.columns.get(name or "")
    if column is None:
        message = f"'{table.name}' entity doesn't contain attribute with Name = '{name}'."
        raise ODataError(400, "0x80041103", message)
    return column


def _number(fetch: ElementTree.Element, name: str, default: int) -> int:
    text = fetch.get(name) or str(default)
    if not text.isdigit() or int(text) < 1:
        raise ODataError(400, "0x80040203", f"Invalid value '{text}' for '{name}' in FetchXML.")
    return int(text)
