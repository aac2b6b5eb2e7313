"""What the organisation calls things: sets, columns, navigation names, choice numbers, lengths. Read, never assumed.

Source: Microsoft docs, "Query table definitions using the Web API". One ``$batch`` reads all tables of the mapping; a
column or label that linksub needs and the organisation lacks stops the run with every such problem at once.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connector.crm.dataverse import DataverseClient, Row
from connector.errors import MappingError, ProtocolError
from connector.mapping import OWN_MARKER, ColumnMapping, CrmMapping, TableMapping, fold

NEEDED_CHOICES: Mapping[str, tuple[str, ...]] = {
    "provisioning_status": ("awaiting", "provisioned", "failed"),
    "log_kind": ("create",),
    "scheduled_status": ("pending",),
    "subscription_state": ("active",),
    "provider_type": ("linked",),
}
"""Choice → keys that linksub writes or filters by: without them it would do something else than it says."""

_LOOKUP_TYPES = frozenset({"Lookup", "Customer", "Owner"})
_CHOICE_TYPES = frozenset({"Picklist", "State", "Status"})
_TEXT_TYPES = frozenset({"String", "Memo"})
_ENGLISH = 1033
_CASTS = {"Picklist": "Picklist", "State": "State", "Status": "Status"}


@dataclass(frozen=True, slots=True)
class ChoiceNumbers:
    """A choice column both ways: ``numbers`` key → number to write, ``keys`` number → key, ``labels`` number → label.

    A number of the organisation that the mapping knows no key for is in ``labels`` only: it reads as unknown.
    """

    numbers: Mapping[str, int]
    keys: Mapping[int, str]
    labels: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``property`` is its name in rows (``_x_value`` for lookups), ``navigation`` that in ``$expand``."""

    logical_name: str
    property: str
    navigation: str | None = None
    max_length: int | None = None
    choice: ChoiceNumbers | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """One table; ``columns`` holds linksub's words for what exists (optional ones may be absent)."""

    logical_name: str
    entity_set: str
    primary_id: str
    columns: Mapping[str, Column]

    def has(self, word: str) -> bool:
        """Whether the organisation has the column."""
        return word in self.columns

    def properties(self, words: Iterable[str]) -> list[str]:
        """The primary key and the row properties of those of the words that exist."""
        return [self.primary_id, *(self.columns[word].property for word in words if word in self.columns)]


@dataclass(frozen=True, slots=True)
class OrgMetadata:
    """All tables of the mapping as one organisation has them. ``key`` says of which mapping and environment."""

    key: str
    read_at: datetime
    tables: Mapping[str, Table] = field(default_factory=dict)

    def to_json(self) -> str:
        """For a cache between runs."""
        return json.dumps(asdict(self), default=lambda value: value.isoformat(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, key: str) -> OrgMetadata | None:
        """What :meth:`to_json` wrote, or None if it is of another mapping or environment, or damaged."""
        try:
            raw = json.loads(text)
            if raw["key"] != key:
                return None
            return cls(
                key, datetime.fromisoformat(raw["read_at"]), {name: _table(t) for name, t in raw["tables"].items()}
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def is_older_than(self, age: timedelta, now: datetime) -> bool:
        """Whether it was read longer ago than ``age`` (or after ``now``, which no clock explains)."""
        return not timedelta(0) <= now - self.read_at < age


def _table(raw: Mapping[str, Any]) -> Table:
    columns = {}
    for word, column in raw["columns"].items():
        choice = column["choice"]
        columns[word] = Column(
            column["logical_name"],
            column["property"],
            column["navigation"],
            column["max_length"],
            None
            if choice is None
            else ChoiceNumbers(
                dict(choice["numbers"]),
                {int(number): key for number, key in choice["keys"].items()},
                {int(number): label for number, label in choice["labels"].items()},
            ),
        )
    return Table(raw["logical_name"], raw["entity_set"], raw["primary_id"], columns)


def metadata_key(mapping: CrmMapping, address: str) -> str:
    """The cache key: the same mapping on the same environment."""
    return f"{mapping.digest}@{address}"


def read_metadata(client: DataverseClient, mapping: CrmMapping, now: datetime) -> OrgMetadata:
    """Read and check everything in one ``$batch``. Raises MappingError with all that is missing."""
    asked: list[tuple[str, str]] = []
    paths: list[str] = []
    for word, table in mapping.tables.items():
        for name, path in _questions(table):
            asked.append((word, name))
            paths.append(path)
    answers = dict(zip(asked, client.get_many(paths, operation="read metadata"), strict=True))
    problems: list[str] = []
    tables: dict[str, Table] = {}
    for word, table in mapping.tables.items():
        own = {name: answer for (owner, name), answer in answers.items() if owner == word}
        found = _read_table(word, table, mapping, own, problems)
        if found is not None:
            tables[word] = found
    for choice, keys in NEEDED_CHOICES.items():
        _check_needed(choice, keys, mapping, tables, problems)
    if problems:
        raise MappingError(
            f"the mapping {mapping.name!r} does not fit this organisation: {len(problems)} problem(s)",
            problems=problems,
            hint="Correct the mapping, or let `linksub map discover` propose one for this organisation.",
        )
    return OrgMetadata(metadata_key(mapping, client.address), now, tables)


def _questions(table: TableMapping) -> Iterable[tuple[str, str]]:
    base = f"EntityDefinitions(LogicalName='{table.logical_name}')"
    typed = f"{base}/Attributes/Microsoft.Dynamics.CRM"
    yield "definition", f"{base}?$select=LogicalName,EntitySetName,PrimaryIdAttribute"
    yield "attributes", f"{base}/Attributes?$select=LogicalName,AttributeType,AttributeOf,IsValidForRead"
    chosen = {column.column for column in table.columns.values() if column.choice is not None}
    if chosen - {"statecode", "statuscode"}:
        expand = "$expand=OptionSet($select=Options),GlobalOptionSet($select=Options)"
        yield "Picklist", f"{typed}.PicklistAttributeMetadata?$select=LogicalName&{expand}"
    if "statecode" in chosen:
        yield "State", f"{typed}.StateAttributeMetadata?$select=LogicalName&$expand=OptionSet($select=Options)"
    if "statuscode" in chosen:
        yield "Status", f"{typed}.StatusAttributeMetadata?$select=LogicalName&$expand=OptionSet($select=Options)"
    yield "String", f"{typed}.StringAttributeMetadata?$select=LogicalName,MaxLength"
    if table.columns.keys() & {"message", OWN_MARKER}:
        yield "Memo", f"{typed}.MemoAttributeMetadata?$select=LogicalName,MaxLength"
    if any(column.lookup is not None for column in table.columns.values()):
        select = "$select=ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName"
        yield "lookups", f"{base}/ManyToOneRelationships?{select}"


def _read_table(
    word: str, table: TableMapping, mapping: CrmMapping, answers: Mapping[str, Row | None], problems: list[str]
) -> Table | None:
    definition = answers["definition"]
    if definition is None:
        problems.append(
            f"tables.{word}: the organisation has no table {table.logical_name!r}, or its role may not see it"
        )
        return None
    attributes = {str(row.get("LogicalName")): row for row in _rows(answers.get("attributes"))}
    lengths = {
        str(row.get("LogicalName")): row.get("MaxLength")
        for name in ("String", "Memo")
        for row in _rows(answers.get(name))
    }
    options = {str(row.get("LogicalName")): _options(row) for name in _CASTS for row in _rows(answers.get(name))}
    columns: dict[str, Column] = {}
    for column_word, column in table.columns.items():
        place = f"tables.{word}.columns.{column_word}"
        attribute = attributes.get(column.column)
        if attribute is None:
            # A marker that went elsewhere than the mapping says would be lost with the next edit of the mapping.
            if not column.optional or column_word == OWN_MARKER:
                readable = [name for name, row in attributes.items() if not row.get("AttributeOf")]
                problems.append(f"{place}: {_missing_column(table.logical_name, column.column, readable)}")
            continue
        kind = str(attribute.get("AttributeType"))
        wrong = _wrong_kind(column, kind, attribute)
        if wrong is None and column_word == OWN_MARKER and kind not in _TEXT_TYPES:
            wrong = f"is no text but {kind}, and cannot hold the marker"
        if wrong is not None:
            problems.append(f"{place}: the column {column.column!r} of {table.logical_name!r} {wrong}")
            continue
        navigation = None
        if column.lookup is not None:
            navigation = _navigation(column, mapping.tables[column.lookup].logical_name, _rows(answers.get("lookups")))
            if navigation is None:
                target = mapping.tables[column.lookup].logical_name
                problems.append(f"{place}: the lookup {column.column!r} does not point to the table {target!r}")
                continue
        length = lengths.get(column.column)
        columns[column_word] = Column(
            column.column,
            f"_{column.column}_value" if kind in _LOOKUP_TYPES else column.column,
            navigation,
            length if isinstance(length, int) and length > 0 else None,
            None if column.choice is None else _resolve(mapping.choices[column.choice], options.get(column.column, {})),
        )
    entity_set, primary_id = definition.get("EntitySetName"), definition.get("PrimaryIdAttribute")
    if not isinstance(entity_set, str) or not isinstance(primary_id, str):
        raise ProtocolError(
            f"dataverse describes the table {table.logical_name!r} without a set name or primary key",
            service="dataverse",
            operation="read metadata",
        )
    return Table(table.logical_name, entity_set, primary_id, columns)


def _rows(answer: Row | None) -> list[Row]:
    rows = answer.get("value") if isinstance(answer, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _options(row: Row) -> dict[int, list[str]]:
    """Number → labels of an option set, en-US first."""
    for name in ("OptionSet", "GlobalOptionSet"):
        option_set = row.get(name)
        options = option_set.get("Options") if isinstance(option_set, dict) else None
        if isinstance(options, list) and options:
            return {
                option["Value"]: _labels(option.get("Label"))
                for option in options
                if isinstance(option, dict) and isinstance(option.get("Value"), int)
            }
    return {}


def _labels(label: object) -> list[str]:
    if not isinstance(label, dict):
        return []
    localized = [entry for entry in label.get("LocalizedLabels") or () if isinstance(entry, dict)]
    localized.sort(key=lambda entry: entry.get("LanguageCode") != _ENGLISH)
    entries = [*localized, label.get("UserLocalizedLabel") or {}]
    return [entry["Label"] for entry in entries if isinstance(entry.get("Label"), str) and entry["Label"]]


def _resolve(keys: Mapping[str, list[str]], options: Mapping[int, list[str]]) -> ChoiceNumbers:
    """Match the mapping's labels with the organisation's; the earliest label of a key gives the number to write."""
    by_label: dict[str, int] = {}
    # en-US labels of all options win over translations of any.
    for position in range(max((len(labels) for labels in options.values()), default=0)):
        for number, labels in options.items():
            if position < len(labels):
                by_label.setdefault(fold(labels[position]), number)
    numbers: dict[str, int] = {}
    known: dict[int, str] = {}
    for key, accepted in keys.items():
        for label in accepted:
            matched = by_label.get(fold(label))
            if matched is not None and known.setdefault(matched, key) == key:
                numbers.setdefault(key, matched)
    return ChoiceNumbers(numbers, known, {number: labels[0] for number, labels in options.items() if labels})


def _wrong_kind(column: ColumnMapping, kind: str, attribute: Row) -> str | None:
    if attribute.get("IsValidForRead") is False:
        return "cannot be read"
    if column.lookup is not None and kind not in _LOOKUP_TYPES:
        return f"is no lookup but {kind}"
    if column.choice is not None and kind not in _CHOICE_TYPES:
        return f"is no choice but {kind}"
    if column.lookup is None and kind in _LOOKUP_TYPES:
        return "is a lookup, which the mapping does not say"
    return None


def _navigation(column: ColumnMapping, target: str, lookups: list[Row]) -> str | None:
    for row in lookups:
        if row.get("ReferencingAttribute") == column.column and row.get("ReferencedEntity") == target:
            name = row.get("ReferencingEntityNavigationPropertyName")
            return name if isinstance(name, str) and name else None
    return None


def _missing_column(table: str, column: str, known: list[str]) -> str:
    near = difflib.get_close_matches(column, known, n=3, cutoff=0.6)
    hint = f"; the nearest are {', '.join(near)}" if near else ""
    return f"the table {table!r} has no column {column!r}{hint}"


def _check_needed(
    choice: str, keys: tuple[str, ...], mapping: CrmMapping, tables: Mapping[str, Table], problems: list[str]
) -> None:
    for word, table in mapping.tables.items():
        for column_word, column in table.columns.items():
            found = tables[word].columns.get(column_word) if word in tables else None
            if column.choice != choice or found is None or found.choice is None:
                continue
            for key in keys:
                if key not in found.choice.numbers:
                    wanted = " or ".join(repr(label) for label in mapping.choices[choice][key])
                    there = ", ".join(repr(label) for label in found.choice.labels.values()) or "none"
                    problems.append(
                        f"choices.{choice}.{key}: the column {column.column!r} has no option {wanted} (it has: {there})"
                    )


def number_of(column: Column, key: str) -> int:
    """The number that writes a key. Raises MappingError when the organisation has no such option."""
    number = None if column.choice is None else column.choice.numbers.get(key)
    if number is None:
        raise MappingError(
            f"the column {column.logical_name!r} of this organisation has no option for {key!r}",
            hint="Add the organisation's label to the mapping's choices.",
        )
    return number
