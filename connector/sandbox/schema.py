"""What tables, columns, choices, relationships and keys the emulated organisation has.

The data stand in ``tables.yaml``. Shapes and names of metadata follow Microsoft's "Query table definitions using the
Web API" and "Web API types and operations": a lookup column is read as ``_name_value`` and written through the
navigation property, whose name is the schema name for custom columns and carries the target for polymorphic ones.
"""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import cached_property
from importlib import resources
from typing import Any

import yaml

NAMESPACE = uuid.UUID("6f3d1f0a-1c51-4d1c-8b4e-6d1b0d2f7a11")
LOOKUP_TYPES = frozenset({"Lookup", "Customer", "Owner"})
CHOICE_TYPES = frozenset({"Picklist", "State", "Status"})
NUMBER_TYPES = frozenset({"Integer", "BigInt", "Decimal", "Double", "Money"})
TEXT_TYPES = frozenset({"String", "Memo", "EntityName"})
_INT_RANGE = (-2_147_483_648, 2_147_483_647)
_MONEY_RANGE = (-922_337_203_685_477, 922_337_203_685_477)
_DECIMAL_RANGE = (-100_000_000_000, 100_000_000_000)


class InvalidValue(ValueError):
    """A value that the column does not take; ``code`` is the service's error code as ``0x…``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def metadata_id(*names: str) -> str:
    """A stable GUID for a piece of metadata, derived from its names."""
    return str(uuid.uuid5(NAMESPACE, "/".join(names)))


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a choice column; ``state`` is set for options of a status column only."""

    value: int
    label: str
    state: int | None = None


@dataclass(frozen=True)
class Column:
    """One column of a table. ``type`` is the service's attribute type: String, Memo, Integer, Lookup, Picklist…"""

    table: str
    name: str
    schema_name: str
    type: str
    max_length: int | None = None
    precision: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    date_only: bool = False
    required: str = "None"
    targets: tuple[str, ...] = ()
    navigation: Mapping[str, str] = field(default_factory=dict)
    """Navigation property by target table; one name for an ordinary lookup, one per target for a polymorphic one."""
    relationships: Mapping[str, str] = field(default_factory=dict)
    """Relationship name by target table; it is also the name of the target's collection-valued navigation property."""
    options: tuple[Option, ...] = ()
    default: Any = None
    computed: tuple[str, ...] = ()
    read_only: bool = False
    primary_id: bool = False
    primary_name: bool = False
    custom: bool = False

    @cached_property
    def is_lookup(self) -> bool:
        """Whether the column refers to a row of another table."""
        return self.type in LOOKUP_TYPES

    @cached_property
    def property_name(self) -> str:
        """The column's name in OData: ``_name_value`` for lookups, the logical name otherwise."""
        return f"_{self.name}_value" if self.is_lookup else self.name

    @cached_property
    def labels(self) -> Mapping[int, str]:
        """Labels by value."""
        return {option.value: option.label for option in self.options}

    def target_of(self, navigation: str) -> str | None:
        """The table that a navigation property of this column leads to, by its exact name."""
        return next((table for table, name in self.navigation.items() if name == navigation), None)

    def normalise(self, value: Any, *, lenient: bool = False) -> Any:
        """The value as it is kept. Raises InvalidValue (service codes) or TypeError (a wrong Python type).

        ``lenient`` keeps values that the service would refuse (unknown options, over-long texts): bad worlds need them.
        """
        if value is None or value == "":
            return None
        kept = self._converted(value)
        if not lenient:
            self._check(kept)
        return kept

    def _converted(self, value: Any) -> Any:
        if self.is_lookup or self.type == "Uniqueidentifier":
            return str(uuid.UUID(str(value)))
        if self.type in TEXT_TYPES:
            return self._of(value, str)
        if self.type == "Boolean":
            return self._of(value, bool)
        if self.type == "DateTime":
            return self._instant(value)
        if self.type in ("Decimal", "Money"):
            if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
                raise TypeError(f"{self.table}.{self.name} takes a number, not {value!r}")
            try:
                return Decimal(str(value)).quantize(Decimal(1).scaleb(-(self.precision or 2)), ROUND_HALF_EVEN)
            except InvalidOperation as wrong:
                raise self._out_of_range() from wrong
        if self.type == "Double":
            return float(value)
        if isinstance(value, bool):
            raise TypeError(f"{self.table}.{self.name} takes an integer, not {value!r}")
        return self._of(value, int)

    def _of(self, value: Any, kind: builtins.type) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"{self.table}.{self.name} takes {kind.__name__}, not {value!r}")
        return value

    def _instant(self, value: Any) -> Any:
        if self.date_only:
            if isinstance(value, datetime) or not isinstance(value, date):
                raise TypeError(f"{self.table}.{self.name} takes a date, not {value!r}")
            return value
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise TypeError(f"{self.table}.{self.name} takes an aware datetime, not {value!r}")
        return value.astimezone(UTC).replace(microsecond=0)

    def _check(self, value: Any) -> None:
        if self.options and self.type != "Boolean" and value not in self.labels:
            accepted = ",".join(str(option.value) for option in self.options)
            raise InvalidValue(
                "0x8004431a",
                f"A validation error occurred. The value {value} of '{self.name}' on record of type '{self.table}' "
                f"is outside the valid range. Accepted Values: {accepted}",
            )
        if self.max_length is not None and len(value) > self.max_length:
            raise InvalidValue(
                "0x80044331",
                f"A validation error occurred.  The length of the '{self.name}' attribute of the '{self.table}' entity "
                f"exceeded the maximum allowed length of '{self.max_length}'.",
            )
        low, high = self.range
        if low is not None and high is not None and not low <= value <= high:
            raise self._out_of_range()

    def _out_of_range(self) -> InvalidValue:
        low, high = self.range
        return InvalidValue(
            "0x80044330",
            f"A validation error occurred.  The value of '{self.name}' on record of type '{self.table}' is outside "
            f"the valid range of {low} to {high}.",
        )

    @cached_property
    def range(self) -> tuple[int | None, int | None]:
        """Smallest and largest number, or two times None for what is no number."""
        defaults = {"Integer": _INT_RANGE, "Money": _MONEY_RANGE, "Decimal": _DECIMAL_RANGE, "Double": _DECIMAL_RANGE}
        low, high = defaults.get(self.type, (None, None))
        return (self.minimum if self.minimum is not None else low, self.maximum if self.maximum is not None else high)


@dataclass(frozen=True)
class Table:
    """One table with its columns, alternate keys and the relationships that arrive at it."""

    name: str
    schema_name: str
    entity_set: str
    collection_name: str
    primary_id: str
    primary_name: str
    display_name: str
    change_tracking: bool
    optimistic_concurrency: bool
    columns: Mapping[str, Column]
    keys: Mapping[str, tuple[str, ...]]
    number: int

    @cached_property
    def properties(self) -> Mapping[str, Column]:
        """Columns by OData property name (``_x_value`` for lookups)."""
        return {column.property_name: column for column in self.columns.values()}

    @cached_property
    def navigations(self) -> Mapping[str, tuple[Column, str]]:
        """Single-valued navigation properties by exact name: the lookup column and the target table."""
        found: dict[str, tuple[Column, str]] = {}
        for column in self.columns.values():
            for target, name in column.navigation.items():
                found[name] = (column, target)
        return found

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """What a new row starts with."""
        return {column.name: column.default for column in self.columns.values() if column.default is not None}

    @cached_property
    def computed_columns(self) -> tuple[Column, ...]:
        """Columns that are made of other columns, such as a contact's full name."""
        return tuple(column for column in self.columns.values() if column.computed)

    @cached_property
    def indexed(self) -> frozenset[str]:
        """Columns that rows are found by without reading the table: lookups, choices and parts of keys."""
        names = {column.name for column in self.columns.values() if column.is_lookup or column.type == "Picklist"}
        return frozenset(names.union(*self.keys.values()) if self.keys else names)

    @property
    def is_custom(self) -> bool:
        """Whether the table carries a publisher's prefix."""
        return "_" in self.name


class Schema:
    """All tables of the organisation."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.tables = dict(tables)
        self.by_set = {table.entity_set: table for table in tables.values()}
        self.incoming: dict[str, list[tuple[Table, Column]]] = {name: [] for name in tables}
        self._collections: dict[tuple[str, str], tuple[Table, Column]] = {}
        for table in tables.values():
            for column in table.columns.values():
                for target in column.targets:
                    self.incoming[target].append((table, column))
                    self._collections[target, column.relationships[target]] = (table, column)

    @classmethod
    def load(cls) -> Schema:
        """The tables of ``tables.yaml``, which comes with the package."""
        text = resources.files("connector.sandbox").joinpath("tables.yaml").read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        choices = document["choices"]
        common = document["common"]
        return cls(
            {
                name: _table(name, entry, common=common, choices=choices, number=position)
                for position, (name, entry) in enumerate(document["tables"].items(), start=1)
            }
        )

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables.values())

    def table(self, name: str) -> Table:
        """A table by logical name. Raises KeyError."""
        return self.tables[name]

    def column(self, table: str, column: str) -> Column:
        """A column by logical names. Raises KeyError."""
        return self.tables[table].columns[column]

    def add_column(self, table: str, name: str, described: Mapping[str, Any]) -> None:
        """Give a table one more column (no lookup, no choice), described as in ``tables.yaml``."""
        known = self.tables[table]
        column = _column(table, name, described, choices={}, primary_id=False, primary_name=False)
        wider = replace(known, columns={**known.columns, name: column})
        self.tables[table] = self.by_set[wider.entity_set] = wider
        for arrivals in self.incoming.values():
            arrivals[:] = [(wider if owner is known else owner, lookup) for owner, lookup in arrivals]
        for place, (owner, lookup) in self._collections.items():
            if owner is known:
                self._collections[place] = (wider, lookup)

    def collection(self, table: str, navigation: str) -> tuple[Table, Column] | None:
        """Where a collection-valued navigation property leads: the referencing table and its lookup column."""
        return self._collections.get((table, navigation))

    def option(self, table: str, column: str, label: str) -> int:
        """The number of a choice by its label. Raises KeyError when there is no such label."""
        for option in self.column(table, column).options:
            if option.label == label:
                return option.value
        raise KeyError(f"{table}.{column} has no option labelled {label!r}")

    def label(self, table: str, column: str, value: int) -> str:
        """The label of a choice by its number. Raises KeyError when there is no such number."""
        return self.column(table, column).labels[value]


def _table(
    name: str, entry: Mapping[str, Any], *, common: Mapping[str, Any], choices: Mapping[str, Any], number: int
) -> Table:
    key_column = entry.get("primary_id", f"{name}id")
    primary_name = entry["primary_name"]
    described: dict[str, Any] = {key_column: {"type": "Uniqueidentifier"}}
    described |= entry["columns"]
    described |= {column: text for column, text in common.items() if column not in described}
    columns = {
        column: _column(
            name,
            column,
            text,
            choices=choices,
            primary_id=column == key_column,
            primary_name=column == primary_name,
        )
        for column, text in described.items()
    }
    return Table(
        name=name,
        schema_name=entry.get("schema_name", _schema_name(name)),
        entity_set=entry["entity_set"],
        collection_name=entry.get("collection_name", entry["entity_set"]),
        primary_id=key_column,
        primary_name=primary_name,
        display_name=entry["display_name"],
        change_tracking=entry.get("change_tracking", False),
        optimistic_concurrency=entry.get("optimistic_concurrency", True),
        columns=columns,
        keys={key: tuple(parts) for key, parts in entry.get("keys", {}).items()},
        number=entry.get("number", 10_000 + number),
    )


def _column(
    table: str,
    name: str,
    entry: Mapping[str, Any],
    *,
    choices: Mapping[str, Any],
    primary_id: bool,
    primary_name: bool,
) -> Column:
    kind = entry["type"]
    custom = name.startswith("work365_")
    schema_name = entry.get("schema_name", _schema_name(name))
    targets = tuple(entry.get("targets", ()))
    base = schema_name if custom else name
    return Column(
        table=table,
        name=name,
        schema_name=schema_name,
        type="DateTime" if kind == "DateOnly" else kind,
        max_length=entry.get("max_length", {"String": 100, "Memo": 2000}.get(kind)),
        precision=entry.get("precision", {"Money": 2, "Decimal": 2, "Double": 5}.get(kind)),
        minimum=entry.get("minimum"),
        maximum=entry.get("maximum"),
        date_only=kind == "DateOnly",
        required=entry.get("required", "SystemRequired" if primary_id else "None"),
        targets=targets,
        navigation=_navigation(base, kind, targets, entry),
        relationships={
            target: entry.get("relationships", {}).get(target, f"{target}_{table}_{name}") for target in targets
        },
        options=_options(kind, entry, choices),
        default=entry.get("default"),
        computed=tuple(entry.get("computed", ())),
        read_only=entry.get("read_only", False),
        primary_id=primary_id,
        primary_name=primary_name,
        custom=custom,
    )


def _navigation(base: str, kind: str, targets: tuple[str, ...], entry: Mapping[str, Any]) -> Mapping[str, str]:
    if kind == "Owner" or (len(targets) == 1 and not entry.get("polymorphic")):
        return dict.fromkeys(targets, entry.get("navigation", base))
    suffix = entry.get("navigation_suffix", "")
    return {target: f"{base}_{target}{suffix}" for target in targets}


def _options(kind: str, entry: Mapping[str, Any], choices: Mapping[str, Any]) -> tuple[Option, ...]:
    if kind == "Boolean":
        return (Option(1, "Yes"), Option(0, "No"))
    if kind not in CHOICE_TYPES:
        return ()
    described = choices[entry["choice"]] if "choice" in entry else entry["options"]
    if kind == "Status":
        return tuple(Option(value, text["label"], text["state"]) for value, text in described.items())
    return tuple(Option(value, label) for value, label in described.items())


def _schema_name(logical_name: str) -> str:
    """``work365_subscription_quantity`` becomes ``work365_Subscription_Quantity``, as publishers write it."""
    prefix, *rest = logical_name.split("_")
    if not rest:
        return logical_name[:1].upper() + logical_name[1:]
    return "_".join([prefix, *(part[:1].upper() + part[1:] for part in rest)])
