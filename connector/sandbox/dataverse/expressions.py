"""Reads the text of a ``$filter`` into a tree (OData 4.0 part 2, section 5.1.1; "Filter rows")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput, VisitError

from connector.sandbox.dataverse.errors import ODataError, bad_uri

_MAX_NESTING = 300


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in the text; ``kind`` is guid, datetime, date, number, string, boolean, null, enum or list."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Path:
    """A property, possibly behind navigation properties: ``primarycontactid/fullname``."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join(self.parts)


@dataclass(frozen=True, slots=True)
class Call:
    """A function with positional and named arguments."""

    name: str
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Literal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compare:
    """Two operands and one of eq, ne, gt, ge, lt, le."""

    operator: str
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    condition: Any


@dataclass(frozen=True, slots=True)
class Both:
    """All of the conditions."""

    conditions: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of the conditions."""

    conditions: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Related:
    """A lambda over a collection-valued navigation property; ``every`` tells all from any."""

    navigation: Path
    every: bool
    variable: str
    condition: Any


class _Tree(Transformer[Token, Any]):
    def __init__(self, aliases: Mapping[str, str]) -> None:
        super().__init__()
        self._aliases = aliases

    def literal(self, items: list[Token]) -> Literal:
        return _literal(items[0])

    def quoted(self, items: list[Token]) -> Literal:
        return Literal("string", json.loads(items[0]))

    def several(self, items: list[Any]) -> Literal:
        return Literal("list", tuple(item for item in items if item is not None))

    def alias(self, items: list[Token]) -> Any:
        name = str(items[0])
        if name not in self._aliases:
            return Literal("null", None)
        return _read(self._aliases[name], {}, "value")

    def enumeration(self, items: list[Token]) -> Literal:
        return Literal("enum", _unquoted(items[1]))

    def path(self, items: list[Token]) -> Path:
        return Path(tuple(str(item) for item in items))

    def named(self, items: list[Any]) -> tuple[str, Any]:
        return str(items[0]), items[1]

    def call(self, items: list[Any]) -> Call:
        arguments = [item for item in items[1:] if item is not None]
        named = {item[0]: item[1] for item in arguments if isinstance(item, tuple)}
        return Call(str(items[0]), tuple(item for item in arguments if not isinstance(item, tuple)), named)

    def any_or_all(self, items: list[Any]) -> Related:
        *navigation, last = items[0].parts
        if last not in ("any", "all") or not navigation:
            raise bad_uri(f"An unknown function with name '{items[0]}' was found.")
        return Related(Path(tuple(navigation)), last == "all", str(items[1]), items[2])

    def comparison(self, items: list[Any]) -> Compare:
        return Compare(str(items[1]), items[0], items[2])

    def negation(self, items: list[Any]) -> Not:
        return Not(items[0])

    def both(self, items: list[Any]) -> Both:
        return Both(tuple(items))

    def either(self, items: list[Any]) -> Either:
        return Either(tuple(items))


def _literal(token: Token) -> Literal:
    text = str(token)
    if token.type == "GUID":
        return Literal("guid", text.lower())
    if token.type == "DATETIME":
        return Literal("datetime", datetime.fromisoformat(text.upper()).astimezone(UTC))
    if token.type == "DATE":
        return Literal("date", date.fromisoformat(text))
    if token.type == "NUMBER":
        return Literal("number", int(text) if text.lstrip("-").isdigit() else Decimal(text))
    if token.type == "STRING":
        return Literal("string", _unquoted(token))
    if token.type == "NULL":
        return Literal("null", None)
    return Literal("boolean", token.type == "TRUE")


def _unquoted(text: str) -> str:
    return text[1:-1].replace("''", "'")


@lru_cache(maxsize=1)
def _parser() -> Lark:
    grammar = resources.files("connector.sandbox.dataverse").joinpath("filter.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", start=["start", "value"], maybe_placeholders=True)


def parse_filter(text: str, aliases: Mapping[str, str]) -> Any:
    """The tree of a filter; parameter aliases (``@p1``) are put in. Raises ODataError (400)."""
    if text.count("'") % 2:
        raise bad_uri(f"There is an unterminated literal at position {len(text)} in '{text}'.")
    if text.count("(") > _MAX_NESTING:
        raise bad_uri("The filter nests too deeply.")
    return _read(text, aliases, "start")


def _read(text: str, aliases: Mapping[str, str], start: str) -> Any:
    try:
        return _Tree(aliases).transform(_parser().parse(text, start=start))
    except UnexpectedInput as wrong:
        position = wrong.pos_in_stream
        raise bad_uri(f"Syntax error at position {len(text) if position is None else position} in '{text}'.") from wrong
    except VisitError as wrong:
        if isinstance(wrong.orig_exc, ODataError):
            raise wrong.orig_exc from wrong
        raise bad_uri(f"Unrecognized literal in '{text}': {wrong.orig_exc}.") from wrong
