"""Turns the tree of a ``$filter`` into a test of rows, and finds the rows that an index can offer for it.

Texts compare without regard to case, ``ne`` holds for empty columns too, other comparisons never do; ``%``, ``_`` and
``[ ]`` are wildcards inside contains, startswith and endswith ("Filter rows").
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from connector.sandbox.dataverse.errors import bad_uri, no_property, not_emulated
from connector.sandbox.dataverse.expressions import Both, Call, Compare, Either, Literal, Not, Path, Related
from connector.sandbox.dataverse.functions import query_function
from connector.sandbox.dataverse.values import coerce, edm_type, like
from connector.sandbox.schema import TEXT_TYPES, Column, Table
from connector.sandbox.store import Store, index_key

RowValue = Callable[[Mapping[str, Any]], Any]
Test = Callable[[Mapping[str, Any]], bool]

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_KIND_NAMES = {
    "guid": "Edm.Guid",
    "datetime": "Edm.DateTimeOffset",
    "date": "Edm.Date",
    "number": "Edm.Int32",
    "string": "Edm.String",
    "boolean": "Edm.Boolean",
    "enum": "Edm.String",
    "list": "Collection(Edm.String)",
}
_OPERATOR_NAMES = {
    "eq": "Equal",
    "ne": "NotEqual",
    "gt": "GreaterThan",
    "ge": "GreaterThanOrEqual",
    "lt": "LessThan",
    "le": "LessThanOrEqual",
}
PREFIX = "Microsoft.Dynamics.CRM."


class Predicates:
    """Compiles filters for rows of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._schema = store.schema

    def compile(self, table: Table, tree: Any) -> Test:
        """A test for rows of the table. Raises ODataError (400 for what is wrong, 501 for what is not emulated)."""
        return self._test(table, tree, None)

    def candidates(self, table: Table, tree: Any) -> set[str] | None:
        """Ids among which all matching rows are, from indexes and the primary key; None when every row must be read."""
        if isinstance(tree, Both):
            found = [ids for ids in (self.candidates(table, part) for part in tree.conditions) if ids is not None]
            return min(found, key=len) if found else None
        if isinstance(tree, Either):
            parts = [self.candidates(table, part) for part in tree.conditions]
            return (
                None if any(ids is None for ids in parts) else set().union(*(ids for ids in parts if ids is not None))
            )
        if isinstance(tree, Compare) and tree.operator == "eq":
            for path, literal in ((tree.left, tree.right), (tree.right, tree.left)):
                if isinstance(path, Path) and isinstance(literal, Literal) and len(path.parts) == 1:
                    return self._indexed(table, path.parts[0], [literal.value])
        if (
            isinstance(tree, Call)
            and tree.name == PREFIX + "In"
            and {"PropertyName", "PropertyValues"} <= set(tree.named)
        ):
            values = [item.value for item in tree.named["PropertyValues"].value]
            return self._indexed(table, str(tree.named["PropertyName"].value), values)
        return None

    def _indexed(self, table: Table, name: str, values: list[Any]) -> set[str] | None:
        column = table.properties.get(name) or table.columns.get(name)
        if column is None or any(value is None for value in values):
            return None
        if column.primary_id:
            return {str(value).lower() for value in values}
        found: set[str] = set()
        for value in values:
            key = int(value) if column.type == "Picklist" and str(value).lstrip("-").isdigit() else value
            ids = self._store.indexed(table.name, column.name, str(key).lower() if column.is_lookup else key)
            if ids is None:
                return None
            found |= ids
        return found

    def value(self, table: Table, path: Path) -> tuple[RowValue, Column]:
        """How to read a path from a row of the table, and the column that it ends at."""
        *steps, last = path.parts
        chain: list[tuple[str, str]] = []
        at = table
        for step in steps:
            if step not in at.navigations:
                raise no_property(step, at.name)
            lookup, target = at.navigations[step]
            chain.append((lookup.name, target))
            at = self._schema.table(target)
        column = at.properties.get(last)
        if column is None:
            if last in at.navigations and not steps:
                column = at.navigations[last][0]
            else:
                raise no_property(last, at.name)
        name = column.name
        if not chain:
            return (lambda row: row[name]), column

        def follow(row: Mapping[str, Any]) -> Any:
            current = row
            for lookup_name, target_name in chain:
                found = self._store.get(target_name, current[lookup_name]) if current[lookup_name] else None
                if found is None:
                    return None
                current = found
            return current[name]

        return follow, column

    def _test(self, table: Table, tree: Any, variable: str | None) -> Test:
        if isinstance(tree, Both):
            tests = [self._test(table, part, variable) for part in tree.conditions]
            return lambda row: all(test(row) for test in tests)
        if isinstance(tree, Either):
            tests = [self._test(table, part, variable) for part in tree.conditions]
            return lambda row: any(test(row) for test in tests)
        if isinstance(tree, Not):
            inverse = self._test(table, tree.condition, variable)
            return lambda row: not inverse(row)
        if isinstance(tree, Compare):
            return self._compare(table, tree, variable)
        if isinstance(tree, Call):
            return self._call(table, tree, variable)
        if isinstance(tree, Related):
            return self._related(table, tree)
        if isinstance(tree, Literal) and tree.kind == "boolean":
            return lambda _: bool(tree.value)
        if isinstance(tree, Path):
            read, column = self.value(table, _without(tree, variable))
            if column.type == "Boolean":
                return lambda row: bool(read(row))
        raise bad_uri("The $filter expression must evaluate to a single boolean value.")

    def _compare(self, table: Table, tree: Compare, variable: str | None) -> Test:
        left, right = tree.left, tree.right
        if isinstance(left, Literal) and isinstance(right, Path):
            swapped = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
            return self._compare(table, Compare(swapped.get(tree.operator, tree.operator), right, left), variable)
        if isinstance(left, (Call, Related)) and isinstance(right, Literal) and right.kind == "boolean":
            test, wanted = self._test(table, left, variable), right.value == (tree.operator == "eq")
            return lambda row: test(row) is wanted
        if not isinstance(left, Path):
            raise not_emulated("this kind of comparison in $filter")
        read, column = self.value(table, _without(left, variable))
        if isinstance(right, Path):
            other, other_column = self.value(table, _without(right, variable))
            if edm_type(column) != edm_type(other_column):
                raise _incompatible(tree.operator, edm_type(column), edm_type(other_column))
            return _comparison(tree.operator, lambda row: index_key(read(row)), lambda row: index_key(other(row)))
        if not isinstance(right, Literal):
            raise not_emulated("this kind of comparison in $filter")
        try:
            value = coerce(column, right)
        except ValueError as wrong:
            raise _incompatible(tree.operator, edm_type(column), _KIND_NAMES[right.kind]) from wrong
        reader = (lambda row: index_key(read(row))) if column.type in TEXT_TYPES else read
        return _comparison(tree.operator, reader, lambda _: value)

    def _call(self, table: Table, tree: Call, variable: str | None) -> Test:
        if tree.name in ("contains", "startswith", "endswith"):
            if len(tree.arguments) != 2 or not isinstance(tree.arguments[0], Path):
                raise bad_uri(f"No function signature for the function with name '{tree.name}' matches the arguments.")
            read, column = self.value(table, _without(tree.arguments[0], variable))
            wanted = tree.arguments[1]
            if column.type not in TEXT_TYPES or not isinstance(wanted, Literal) or wanted.kind != "string":
                raise bad_uri(f"No function signature for the function with name '{tree.name}' matches the arguments.")
            return _text_test(tree.name, read, wanted.value)
        if tree.name.startswith(PREFIX):
            if "PropertyName" not in tree.named:
                raise bad_uri(f"The function '{tree.name}' needs the parameter PropertyName.")
            name = str(tree.named["PropertyName"].value)
            found = table.properties.get(name) or table.columns.get(name)
            if found is None:
                raise no_property(name, table.name)
            texts = _texts(tree.named)
            column_name = found.name
            test = query_function(tree.name.removeprefix(PREFIX), found, texts, self._store.now())
            return lambda row: test(row[column_name])
        navigation, _, kind = tree.name.rpartition("/")
        if kind == "any" and navigation and not tree.arguments:
            return self._related(
                table, Related(Path(tuple(navigation.split("/"))), False, "", Literal("boolean", True))
            )
        raise bad_uri(f"An unknown function with name '{tree.name}' was found.")

    def _related(self, table: Table, tree: Related) -> Test:
        if len(tree.navigation.parts) != 1:
            raise not_emulated("lambda operators behind a navigation path")
        found = self._schema.collection(table.name, tree.navigation.parts[0])
        if found is None:
            raise no_property(tree.navigation.parts[0], table.name)
        other, column = found
        test = self._test(other, tree.condition, tree.variable)
        key = table.primary_id
        decide = all if tree.every else any
        return lambda row: decide(test(each) for each in self._store.find(other.name, column.name, row[key]))


def _texts(named: Mapping[str, Literal]) -> list[str]:
    values: list[Literal] = []
    for name, literal in named.items():
        if name != "PropertyName":
            values += literal.value if literal.kind == "list" else [literal]
    return [value.value.isoformat() if isinstance(value.value, date) else str(value.value) for value in values]


def _without(path: Path, variable: str | None) -> Path:
    if not variable:
        return path
    if path.parts[0] != variable or len(path.parts) < 2:
        raise not_emulated("references to outer properties inside lambda operators")
    return Path(path.parts[1:])


def _incompatible(name: str, left: str, right: str) -> Exception:
    return bad_uri(
        f"A binary operator with incompatible types was detected. Found operand types '{left}' and '{right}' for "
        f"operator kind '{_OPERATOR_NAMES[name]}'."
    )


def _comparison(name: str, left: RowValue, right: RowValue) -> Test:
    if name == "eq":
        return lambda row: bool(left(row) == right(row))
    if name == "ne":
        return lambda row: bool(left(row) != right(row))
    compare = _OPERATORS[name]

    def test(row: Mapping[str, Any]) -> bool:
        a, b = left(row), right(row)
        return a is not None and b is not None and bool(compare(a, b))

    return test


def _text_test(name: str, read: RowValue, wanted: str) -> Test:
    if set(wanted) & set("%_["):
        before, after = ("" if name == "startswith" else "%"), ("" if name == "endswith" else "%")
        matches = like(before + wanted + after)
        return lambda row: (text := read(row)) is not None and matches(text)
    folded = wanted.casefold()
    method = {"contains": str.__contains__, "startswith": str.startswith, "endswith": str.endswith}[name]
    return lambda row: (text := read(row)) is not None and bool(method(text.casefold(), folded))
