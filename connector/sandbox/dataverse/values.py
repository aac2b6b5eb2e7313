"""Values in OData: their types, and how literals and texts become what a column keeps."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from connector.sandbox.dataverse.errors import bad_uri
from connector.sandbox.dataverse.expressions import Literal
from connector.sandbox.schema import CHOICE_TYPES, NUMBER_TYPES, TEXT_TYPES, Column


def edm_type(column: Column) -> str:
    """The OData type of a column."""
    if column.is_lookup or column.type == "Uniqueidentifier":
        return "Edm.Guid"
    if column.type in TEXT_TYPES:
        return "Edm.String"
    if column.type == "DateTime":
        return "Edm.Date" if column.date_only else "Edm.DateTimeOffset"
    numbers = {"Money": "Edm.Decimal", "Decimal": "Edm.Decimal", "Double": "Edm.Double", "BigInt": "Edm.Int64"}
    return "Edm.Boolean" if column.type == "Boolean" else numbers.get(column.type, "Edm.Int32")


def coerce(column: Column, literal: Literal) -> Any:
    """A literal as the column keeps its values. Raises ValueError when the types do not go together."""
    kind, value = literal.kind, literal.value
    if kind == "null":
        return None
    if column.is_lookup or column.type == "Uniqueidentifier":
        if kind not in ("guid", "string"):
            raise ValueError
        return str(UUID(value))
    if column.type in TEXT_TYPES:
        if kind not in ("string", "guid"):
            raise ValueError
        return value.casefold()
    if column.type in NUMBER_TYPES or column.type in CHOICE_TYPES:
        if kind != "number":
            raise ValueError
        return value
    if column.type == "Boolean":
        if kind != "boolean":
            raise ValueError
        return value
    if kind not in ("date", "datetime"):
        raise ValueError
    if column.date_only:
        return value.date() if isinstance(value, datetime) else value
    return value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)


def from_text(column: Column, text: str) -> Any:
    """A value written as text (in query functions and FetchXML) as the column keeps it. Raises ODataError (400)."""
    try:
        if column.type in NUMBER_TYPES or column.type in CHOICE_TYPES:
            return Decimal(text)
        if column.type == "Boolean":
            return text.lower() in ("1", "true")
        if column.type == "DateTime":
            if column.date_only or len(text) == len("2026-01-01"):
                return coerce(column, Literal("date", date.fromisoformat(text[:10])))
            moment = datetime.fromisoformat(text.upper())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        return coerce(column, Literal("string", text))
    except (ValueError, InvalidOperation) as wrong:
        raise bad_uri(f"The value '{text}' is not valid for column '{column.name}' of type {column.type}.") from wrong


def like(pattern: str) -> Callable[[str], bool]:
    """A test for SQL's LIKE, without regard to case."""
    expression = "".join(
        ".*"
        if part == "%"
        else "."
        if part == "_"
        else part
        if part.startswith("[") and len(part) > 1
        else re.escape(part)
        for part in re.findall(r"\[[^\]]*\]|.", pattern, re.DOTALL)
    )
    compiled = re.compile(expression, re.IGNORECASE | re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None
