"""``$select`` and ``$expand``: which columns and related rows an answer holds ("Select columns", "Join tables")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connector.sandbox.dataverse.errors import bad_uri, no_property
from connector.sandbox.dataverse.expressions import Path, parse_filter
from connector.sandbox.schema import Column, Schema, Table

MAX_EXPANDS = 15


@dataclass(frozen=True, slots=True)
class Order:
    """One item of ``$orderby``."""

    path: Path
    descending: bool


@dataclass(frozen=True, slots=True)
class Expand:
    """A navigation property to follow: single-valued (``many`` false) or collection-valued."""

    navigation: str
    many: bool
    column: Column
    target: Table
    shape: Shape
    condition: Any = None
    order: tuple[Order, ...] = ()
    top: int | None = None
    reference: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """Columns (None: all) and expansions of one table."""

    table: Table
    columns: tuple[Column, ...] | None
    expands: tuple[Expand, ...] = ()

    def context(self) -> str:
        """The part of ``@odata.context`` in parentheses; empty when nothing was selected."""
        names = [column.property_name for column in self.columns or ()]
        names += [f"{item.navigation}({item.shape.context()[1:-1]})" for item in self.expands]
        return f"({','.join(names)})" if names else ""


def parse_shape(schema: Schema, table: Table, options: Mapping[str, str]) -> Shape:
    """Read ``$select`` and ``$expand``. Raises ODataError (400)."""
    expands = tuple(_expand(schema, table, item) for item in split_top(options.get("$expand", ""), ","))
    if len(expands) > MAX_EXPANDS:
        raise bad_uri(f"The number of $expand options exceeds the maximum of {MAX_EXPANDS}.")
    return Shape(table, _columns(table, options.get("$select")), expands)


def parse_order(text: str) -> tuple[Order, ...]:
    """Read ``$orderby``. Raises ODataError (400)."""
    found = []
    for item in split_top(text, ","):
        words = item.split()
        if not words or len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
            raise bad_uri(f"Syntax error at position 0 in '{text}'.")
        found.append(Order(Path(tuple(words[0].split("/"))), words[-1] == "desc"))
    return tuple(found)


def parse_top(text: str | None) -> int | None:
    """Read ``$top``. Raises ODataError (400)."""
    if text is None:
        return None
    if not text.strip().isdigit():
        raise bad_uri(
            f"Invalid value '{text}' for $top query option found. The $top query option needs a non-negative integer."
        )
    return int(text)


def split_top(text: str, separator: str) -> list[str]:
    """Parts of a text at separators that stand in no quotes or parentheses."""
    parts, start, depth, quoted = [], 0, 0, False
    for position, char in enumerate(text):
        if char == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def _columns(table: Table, text: str | None) -> tuple[Column, ...] | None:
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if not names or names == ["*"]:
        return None
    found: dict[str, Column] = {}
    for name in names:
        column = table.properties.get(name)
        if column is None and name in table.columns:
            column = table.columns[name]
        if column is None and name in table.navigations:
            column = table.navigations[name][0]
        if column is None:
            raise no_property(name, table.name)
        found[column.name] = column
    return tuple(found.values())


def _expand(schema: Schema, table: Table, text: str) -> Expand:
    name, bracket, rest = text.partition("(")
    name = name.strip()
    reference = name.endswith("/$ref")
    name = name.removesuffix("/$ref")
    options: dict[str, str] = {}
    if bracket:
        if not rest.rstrip().endswith(")"):
            raise bad_uri(f"Syntax error: character ')' expected in '{text}'.")
        for item in split_top(rest.rstrip()[:-1], ";"):
            key, _, value = item.partition("=")
            options[key.strip()] = value.strip()
    unknown = set(options) - {"$select", "$expand", "$filter", "$orderby", "$top"}
    if unknown:
        raise bad_uri(f"The query option '{min(unknown)}' isn't supported inside $expand.")
    if name in table.navigations:
        column, target_name = table.navigations[name]
        if set(options) - {"$select", "$expand"}:
            raise bad_uri("Only $select and $expand are supported when expanding a single-valued navigation property.")
        target = schema.table(target_name)
        return Expand(name, False, column, target, parse_shape(schema, target, options), reference=reference)
    found = schema.collection(table.name, name)
    if found is None:
        raise no_property(name, table.name)
    target, column = found
    if reference:
        raise bad_uri("$ref is only supported when expanding a single-valued navigation property.")
    return Expand(
        name,
        True,
        column,
        target,
        parse_shape(schema, target, options),
        condition=parse_filter(options["$filter"], {}) if "$filter" in options else None,
        order=parse_order(options.get("$orderby", "")),
        top=parse_top(options.get("$top")),
    )
