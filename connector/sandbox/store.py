"""The emulated organisation's rows: in memory, transactional, with row versions, plug-ins and a change feed.

Every write gets the next number of one counter that all tables share, as SQL Server's row version does; the ETag is
``W/"<number>"``. Plug-ins run after the write and inside its transaction: what they write, and what they refuse, comes
and goes with it (Microsoft: "Event framework", "Use change tracking").
"""

from __future__ import annotations

import threading
import uuid
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connector.sandbox.schema import Schema, Table

APPLICATION_USER_ID = "00000000-0000-4000-8000-0000000000f0"
BUSINESS_UNIT_ID = "00000000-0000-4000-8000-0000000000b0"
ORGANIZATION_ID = "00000000-0000-4000-8000-0000000000e0"
FIRST_VERSION = 1_000_000
MAX_DEPTH = 8


class StoreError(Exception):
    """A write that the rows do not allow."""


class RowMissing(StoreError):
    """There is no such row."""

    def __init__(self, table: str, row_id: str) -> None:
        super().__init__(f"{table} With Id = {row_id} Does Not Exist")
        self.table = table
        self.row_id = row_id


class DuplicateId(StoreError):
    """A row with this primary key exists already."""


class DuplicateKey(StoreError):
    """Another row has the same values in the columns of an alternate key; ``columns`` names them."""

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        super().__init__(f"alternate key {columns} of {table} violated")
        self.columns = columns


class PluginError(Exception):
    """A plug-in refuses the operation: everything of the request is rolled back, the caller gets 400 with this text."""

    def __init__(self, message: str, code: str = "0x80040265") -> None:
        super().__init__(message)
        self.code = code


class Row(dict[str, Any]):
    """A row by logical column name. A column without a value reads as None. Never changed in place."""

    __slots__ = ()

    def __missing__(self, key: str) -> None:
        return None


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What a plug-in step is told: the row before (None on Create) and after, and which columns took another value."""

    store: Store
    table: str
    id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    changed: frozenset[str]


Plugin = Callable[[PluginContext], None]


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed in a table in a range of versions: rows in the order of their last write, then deletions."""

    rows: tuple[tuple[int, str], ...]
    deletions: tuple[tuple[int, str], ...]


class _Shelf:
    """One table's rows, its indexes, the order of its keys and its change feed."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: dict[str, Row] = {}
        self.index: dict[str, dict[Any, set[str]]] = {column: {} for column in table.indexed}
        self.feed: list[tuple[int, str]] = []
        self.deletions: list[tuple[int, str]] = []
        self._order: list[str] | None = None

    def ordered(self) -> list[str]:
        if self._order is None:
            self._order = sorted(self.rows)
        return self._order

    def put(self, row_id: str, row: Row | None) -> Row | None:
        """Replace, add or remove a row in rows and indexes; returns what stood there."""
        old = self.rows.get(row_id)
        for column, entries in self.index.items():
            before, after = old and old.get(column), row and row.get(column)
            if before == after:
                continue
            if before is not None:
                entries[index_key(before)].discard(row_id)
            if after is not None:
                entries.setdefault(index_key(after), set()).add(row_id)
        if row is None:
            self.rows.pop(row_id, None)
            self._order = None
        else:
            self.rows[row_id] = row
            if old is None and self._order is not None:
                if len(self._order) < 1000 or row_id > self._order[-1]:
                    insort(self._order, row_id)
                else:
                    self._order = None
        return old


def index_key(value: Any) -> Any:
    """Texts are equal without regard to case, as in the service's default collation."""
    return value.casefold() if isinstance(value, str) else value


class Store:
    """All rows. Thread-safe: whoever needs several reads or writes to belong together holds ``transaction()``."""

    def __init__(self, schema: Schema, now: Callable[[], datetime]) -> None:
        self.schema = schema
        self.now = now
        self._lock = threading.RLock()
        self._shelves = {table.name: _Shelf(table) for table in schema}
        self._plugins: dict[tuple[str, str], list[Plugin]] = {}
        self._undo: list[Callable[[], None]] = []
        self._nesting = 0
        self._silent = 0
        self._depth = 0
        self._version = FIRST_VERSION

    @property
    def version(self) -> int:
        """The highest row version given out so far."""
        return self._version

    def skip_version(self) -> None:
        """Leave out one version, so that what was noted before can be told from what comes after."""
        with self._lock:
            self._version += 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else in between. May be nested: an inner failure undoes the inner part."""
        with self._lock:
            mark = len(self._undo)
            self._nesting += 1
            try:
                yield
            except BaseException:
                while len(self._undo) > mark:
                    self._undo.pop()()
                raise
            finally:
                self._nesting -= 1
                if self._nesting == 0:
                    self._undo.clear()

    def undone_by(self, undo: Callable[[], None]) -> None:
        """Call ``undo`` if the transaction in which this is called comes to nothing."""
        with self._lock:
            if self._nesting:
                self._undo.append(undo)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Writes without plug-ins and without the checks of lengths and options: to build worlds, bad ones included."""
        with self.transaction():
            self._silent += 1
            try:
                yield
            finally:
                self._silent -= 1

    @contextmanager
    def without_plugins(self) -> Iterator[None]:
        """Checked writes without plug-ins, as a caller may ask for who is allowed to bypass custom logic."""
        with self.transaction():
            kept, self._plugins = self._plugins, {}
            try:
                yield
            finally:
                self._plugins = kept

    def register(self, table: str, message: str, function: Plugin) -> None:
        """Run ``function`` after every ``Create`` or ``Update`` of a row of the table."""
        if message not in ("Create", "Update"):
            raise ValueError(f"unknown message {message!r}")
        self._plugins.setdefault((table, message), []).append(function)

    def get(self, table: str, row_id: str) -> Mapping[str, Any] | None:
        """A row as it is now, or None. What is returned never changes afterwards."""
        return self._shelves[table].rows.get(row_id)

    def rows(self, table: str) -> Iterable[Mapping[str, Any]]:
        """All rows of a table, in the order of their ids."""
        with self._lock:
            shelf = self._shelves[table]
            return [shelf.rows[row_id] for row_id in shelf.ordered()]

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return len(self._shelves[table].rows)

    def ids(self, table: str, after: str = "") -> Iterator[str]:
        """Ids in order, those behind ``after`` only."""
        ordered = self._shelves[table].ordered()
        for position in range(bisect_right(ordered, after), len(ordered)):
            yield ordered[position]

    def find(self, table: str, column: str, value: Any) -> list[Mapping[str, Any]]:
        """Rows with this value in the column (texts without regard to case), in the order of their ids."""
        with self._lock:
            shelf = self._shelves[table]
            if value is not None and column in shelf.index:
                found = shelf.index[column].get(index_key(value), ())
                return [shelf.rows[row_id] for row_id in sorted(found)]
            wanted = index_key(value)
            return [row for row in self.rows(table) if index_key(row[column]) == wanted]

    def create(self, table: str, values: Mapping[str, Any], id: str | None = None) -> str:  # noqa: A002
        """Add a row; returns its id. Raises DuplicateId, DuplicateKey, PluginError, or what the columns refuse."""
        with self.transaction():
            shelf = self._shelves[table]
            given = dict(values)
            chosen = id or given.pop(shelf.table.primary_id, None) or str(uuid.uuid4())
            key = str(uuid.UUID(str(chosen)))
            if key in shelf.rows:
                raise DuplicateId(f"{table} {key} exists already")
            row = Row(shelf.table.defaults)
            row["ownerid"] = APPLICATION_USER_ID
            row["createdon"] = row["modifiedon"] = self._instant()
            self._apply(shelf.table, row, given)
            row[shelf.table.primary_id] = key
            self._commit(shelf, key, row)
            self._run("Create", table, key, None, row, frozenset(row))
            return key

    def update(self, table: str, row_id: str, values: Mapping[str, Any]) -> None:
        """Change a row; ``modifiedon`` and its version move even when no value does.

        Raises RowMissing, DuplicateKey, PluginError, or what the columns refuse.
        """
        with self.transaction():
            shelf = self._shelves[table]
            before = shelf.rows.get(row_id)
            if before is None:
                raise RowMissing(table, row_id)
            row = Row(before)
            row["modifiedon"] = self._instant()
            self._apply(shelf.table, row, values)
            self._commit(shelf, row_id, row)
            names = before.keys() | row.keys()
            changed = frozenset(name for name in names if before[name] != row[name])
            self._run("Update", table, row_id, before, row, changed - {"modifiedon", "versionnumber"})

    def delete(self, table: str, row_id: str) -> None:
        """Remove a row; lookups to it are emptied. Raises RowMissing."""
        with self.transaction():
            shelf = self._shelves[table]
            if row_id not in shelf.rows:
                raise RowMissing(table, row_id)
            for other, column in self.schema.incoming[table]:
                if column.type != "Owner":
                    for row in self.find(other.name, column.name, row_id):
                        with self.without_plugins():
                            self.update(other.name, row[other.primary_id], {column.name: None})
            self._version += 1
            old = shelf.put(row_id, None)
            shelf.deletions.append((self._version, row_id))

            def undo() -> None:
                shelf.put(row_id, old)
                shelf.deletions.pop()

            self._undo.append(undo)

    def changes(self, table: str, since: int, until: int | None = None) -> Changes:
        """What changed behind version ``since``, up to ``until``: each row once, as of its last write, then deletions.

        A row that was added and removed in between is a deletion; one that was removed and added again is a row.
        """
        with self._lock:
            shelf = self._shelves[table]
            last = self._version if until is None else until
            start = bisect_right(shelf.feed, (since, "\x7f"))
            rows = tuple(
                (version, row_id)
                for version, row_id in shelf.feed[start:]
                if version <= last and row_id in shelf.rows and shelf.rows[row_id]["versionnumber"] == version
            )
            gone = shelf.deletions[bisect_right(shelf.deletions, (since, "\x7f")) :]
            latest = {row_id: version for version, row_id in gone if version <= last and row_id not in shelf.rows}
            return Changes(rows, tuple(sorted((version, row_id) for row_id, version in latest.items())))

    def _instant(self) -> datetime:
        return self.now().astimezone(UTC).replace(microsecond=0)

    def _apply(self, table: Table, row: Row, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            column = table.columns[name]
            kept = column.normalise(value, lenient=bool(self._silent))
            if kept is None:
                row.pop(name, None)
            else:
                row[name] = kept
        if "statuscode" in values and "statecode" not in values:
            state = next((o.state for o in table.columns["statuscode"].options if o.value == row["statuscode"]), None)
            row["statecode"] = row["statecode"] if state is None else state
        elif "statecode" in values and "statuscode" not in values:
            reasons = [o.value for o in table.columns["statuscode"].options if o.state == row["statecode"]]
            if reasons and row["statuscode"] not in reasons:
                row["statuscode"] = reasons[0]
        for column in table.computed_columns:
            if any(part in values for part in column.computed):
                text = " ".join(row[part] for part in column.computed if row[part])
                row.pop(column.name, None)
                if text:
                    row[column.name] = text

    def _commit(self, shelf: _Shelf, row_id: str, row: Row) -> None:
        for columns in shelf.table.keys.values():
            if all(row[column] is not None for column in columns):
                rivals = self._matching(shelf, {column: row[column] for column in columns})
                if rivals - {row_id}:
                    raise DuplicateKey(shelf.table.name, columns)
        self._version += 1
        row["versionnumber"] = self._version
        old = shelf.put(row_id, row)
        shelf.feed.append((self._version, row_id))

        def undo() -> None:
            shelf.put(row_id, old)
            shelf.feed.pop()

        self._undo.append(undo)

    def by_key(self, table: str, values: Mapping[str, Any]) -> str | None:
        """The id of the row with these values in the columns of an alternate key, or None."""
        with self._lock:
            return next(iter(self._matching(self._shelves[table], values)), None)

    @staticmethod
    def _matching(shelf: _Shelf, values: Mapping[str, Any]) -> set[str]:
        found = [shelf.index[column].get(index_key(value), set()) for column, value in values.items()]
        return set.intersection(*found)

    def indexed(self, table: str, column: str, value: Any) -> set[str] | None:
        """Ids of the rows with this value, or None when the column has no index. Not to be changed."""
        entries = self._shelves[table].index.get(column)
        return None if entries is None else entries.get(index_key(value), set())

    def _run(
        self, message: str, table: str, row_id: str, before: Row | None, after: Row, changed: frozenset[str]
    ) -> None:
        plugins = () if self._silent else tuple(self._plugins.get((table, message), ()))
        if not plugins:
            return
        if self._depth >= MAX_DEPTH:
            raise PluginError("This workflow job was canceled because it included an infinite loop.", "0x80044182")
        self._depth += 1
        try:
            for plugin in plugins:
                plugin(PluginContext(self, table, row_id, before, after, changed))
        finally:
            self._depth -= 1
