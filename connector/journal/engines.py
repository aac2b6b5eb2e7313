"""Connections to where a journal is kept, with the settings that make it durable, and a first look at what is there."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.pool import StaticPool

from connector.journal.errors import is_damage
from connector.journal.schema import HEAD, VERSION_TABLE

_MIGRATION_LOCK = 0x6C696E6B737562  # "linksub"
_LOCK_TIMEOUT = "30s"
_CONNECT_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is at a place: ``damage`` in words or None; the schema's ``version`` or None; whether it has any tables.

    ``hot``: a writer died within a transaction, and its rollback journal is still to be played back.
    """

    damage: str | None = None
    version: str | None = None
    tables: bool = False
    hot: bool = False


def inspect_file(path: Path, busy_seconds: float, *, read_only: bool = False) -> Inspection:
    """Look at a file with ``quick_check`` before anything else trusts it. A file to write is rolled back if need be."""
    if read_only:
        try:
            return _inspect(_uri(path, "ro"), busy_seconds)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        with TemporaryDirectory(prefix="linksub-") as directory:
            found = _inspect(_uri(_copy(path, Path(directory)), "rw"), busy_seconds)
            return Inspection(found.damage, found.version, found.tables, hot=True)
    return _inspect(_uri(path, "rw"), busy_seconds)


def _inspect(uri: str, busy_seconds: float) -> Inspection:
    with closing(sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)) as connection:
        try:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                return Inspection(damage=str(verdict))
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if VERSION_TABLE not in tables:
                return Inspection(tables=bool(tables))
            versions = [row[0] for row in connection.execute(f"SELECT version_num FROM {VERSION_TABLE}")]  # noqa: S608
            header = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return Inspection(damage=str(error))
            raise
    # The version is kept twice, so that one flipped byte is damage and not a newer linksub.
    if len(versions) != 1 or not str(versions[0]).isdecimal() or int(versions[0]) != header:
        return Inspection(damage=f"its schema is {versions} in one place and {header} in another")
    return Inspection(version=str(versions[0]), tables=True)


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


def _copy(path: Path, directory: Path) -> Path:
    side = path.with_name(f"{path.name}-journal")
    if side.exists():
        shutil.copyfile(side, directory / side.name)
    return Path(shutil.copyfile(path, directory / path.name))


def file_engine(path: Path, busy_seconds: float, *, read_only: bool = False) -> Engine:
    """One connection to a SQLite file with every setting that durability needs."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            _uri(path, "ro" if read_only else "rw"),
            uri=True,
            timeout=busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        settings = ["foreign_keys=ON", "trusted_schema=OFF", "cell_size_check=ON"]
        # A reader must not touch the journal mode: that alone may create or remove a side file.
        settings += ["query_only=ON"] if read_only else ["journal_mode=TRUNCATE", "synchronous=FULL"]
        try:
            for setting in settings:
                connection.execute(f"PRAGMA {setting}").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    return _sqlite_engine(connect)


def copy_engine(path: Path, busy_seconds: float, *, hot: bool) -> Engine:
    """A copy in memory; of a ``hot`` file with its half-finished transaction rolled back. The file stays as it is."""
    with TemporaryDirectory(prefix="linksub-") as directory:
        uri = _uri(_copy(path, Path(directory)), "rw") if hot else _uri(path, "ro")
        with closing(sqlite3.connect(uri, uri=True, timeout=busy_seconds)) as source:
            copy = _memory_connection()
            source.backup(copy)
    return _sqlite_engine(lambda: copy)


def memory_engine() -> Engine:
    """An empty database in memory."""
    return _sqlite_engine(_memory_connection)


def _memory_connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _sqlite_engine(connect: Callable[[], sqlite3.Connection]) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # The driver's own transactions begin too late and not for DDL; a writer takes its lock before it reads.
        writes = connection.get_execution_options().get("linksub_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def server_engine(url: URL, read_only: bool) -> Engine:
    """One connection to PostgreSQL; commits wait for the disk whatever the server's default says."""
    engine = create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = on")
            cursor.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
            if read_only:
                cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        connection.commit()

    return engine


def inspect_server(engine: Engine) -> Inspection:
    """What the schema that the connection looks at holds; other tables there are nobody's business."""
    with engine.connect() as connection:
        return Inspection(version=_version(connection))


def _version(connection: Connection) -> str | None:
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = :name"), {"name": VERSION_TABLE})
    else:
        found = connection.execute(text("SELECT 1 WHERE to_regclass(:name) IS NOT NULL"), {"name": VERSION_TABLE})
    if found.first() is None:
        return None
    version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return None if version is None else str(version)


def migrate(engine: Engine) -> None:
    """Bring the schema to this code's, in one transaction that only one process at a time can be in."""
    # Alembic is only imported where there is something to migrate: it costs more than opening a journal does.
    from connector.journal.migrations import upgrade

    with engine.connect() as connection:
        connection.execution_options(linksub_write=True)
        with connection.begin():
            on_sqlite = connection.dialect.name == "sqlite"
            if not on_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            if _version(connection) == HEAD:
                return
            upgrade(connection)
            if on_sqlite:
                connection.exec_driver_sql(f"PRAGMA user_version = {int(HEAD)}")
