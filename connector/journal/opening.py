"""Opening a journal: where it is, whether it is sound, which schema it has, and what to do when something is wrong.

* A SQLite file is made with mode 0600 in a directory made with 0700, checked on every opening, and used with the
  rollback journal and full synchronisation: write-ahead logging has a corruption race in SQLite before 3.51.3.
* A damaged file is set aside under another name and a fresh one begun; both are reported, neither loses money.
* A schema of a newer linksub is refused: an older one does not know what it must preserve.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from connector.errors import ConfigError, JournalError
from connector.journal import engines
from connector.journal.engines import Inspection
from connector.journal.errors import DAMAGE_HINT, JournalDamaged, telling
from connector.journal.memory import MemoryJournal
from connector.journal.placement import network_file_system
from connector.journal.schema import HEAD, REVISIONS
from connector.journal.store import SqlJournal
from connector.journal.trail import recovered_entry

JOURNAL_FILE = "journal.sqlite3"
"""The journal's name within a state directory."""


def open_journal(
    location: Path | str, *, now: datetime, read_only: bool = False, busy_seconds: float = 30.0
) -> SqlJournal:
    """Open, and if need be create or migrate, the journal at a path or a database URL; close it, or use ``with``.

    ``location`` is a file, an existing directory (then its ``journal.sqlite3``), or a URL ``postgresql+psycopg://…``.
    ``now`` names and dates a damaged file that is set aside (``recovered_from`` tells where it went).
    ``busy_seconds`` is how long to wait for another process that is writing.

    With ``read_only`` not a byte changes, no side file appears, and every recording method raises JournalError; where
    there is nothing to open the result is empty and says ``missing``.

    Raises JournalError when the place cannot be reached, written or locked, JournalDamaged when it is damaged and may
    not be set aside (read-only), ConfigError when the schema is newer than this code, the file is something else, or
    the directory is on a network share.
    """
    url = _server_url(location)
    if url is not None:
        return _open_server(url, read_only)
    path = _file(location)
    return _open_for_reading(path, busy_seconds) if read_only else _open_file(path, now, busy_seconds)


def open_rehearsal(location: Path | str, *, now: datetime) -> MemoryJournal:
    """A journal in memory that knows what the one at ``location`` knows, for a run that must not leave a trace.

    A damaged journal counts as an empty one, as it would for a real run.
    """
    try:
        journal = open_journal(location, now=now, read_only=True)
    except JournalDamaged:
        return MemoryJournal()
    try:
        return MemoryJournal.knowing(journal)
    except JournalDamaged:
        journal.close()
        return MemoryJournal()
    except BaseException:
        journal.close()
        raise


def _server_url(location: Path | str) -> URL | None:
    if isinstance(location, Path) or "://" not in location:
        return None
    try:
        url = make_url(location)
    except ArgumentError as error:
        raise ConfigError(
            "the journal's URL cannot be read", hint="Write postgresql+psycopg://user@host/database, or a path."
        ) from error
    backend = url.get_backend_name()
    if backend == "sqlite":
        return None
    if backend != "postgresql":
        raise ConfigError(
            f"a journal cannot be kept in {backend}", hint="Use a path (SQLite) or postgresql+psycopg://…"
        )
    return url.set(drivername="postgresql+psycopg")


def _file(location: Path | str) -> Path:
    if isinstance(location, str) and "://" in location:
        location = make_url(location).database or ""
        if location in ("", ":memory:"):
            raise ConfigError("a journal needs a file: sqlite:// names none", hint="Write sqlite:///path/to/file.")
    path = Path(location)
    return path / JOURNAL_FILE if path.is_dir() else path


# --- a file to write ---------------------------------------------------------------------------------------------


def _open_file(path: Path, now: datetime, busy_seconds: float) -> SqlJournal:
    with telling(str(path), "open it"):
        _prepare(path)
        try:
            return _attempt(path, busy_seconds)
        except JournalDamaged:
            # Whoever comes second must not set aside the fresh file that the first one made.
            with FileLock(f"{path}.recovery.lock", mode=0o600):
                try:
                    return _attempt(path, busy_seconds)
                except JournalDamaged as error:
                    moved_to = _set_aside(path, now)
                    damage = str(error)
                _prepare(path)
                journal = _attempt(path, busy_seconds)
                journal.recovered_from = moved_to
                journal.append(recovered_entry(damage, moved_to, now))
                return journal


def _prepare(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name == "posix" and path.parent.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
        raise ConfigError(
            f"everybody on this machine may replace the journal: its directory {path.parent} is writable for all",
            hint=f"Run: chmod 700 {path.parent}",
        )
    share = network_file_system(path.parent)
    if share is not None:
        raise ConfigError(
            f"the journal {path} is on a network file system ({share}), whose locks cannot be relied on",
            hint="Keep the state directory on a local disk, or the journal in PostgreSQL.",
        )
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _attempt(path: Path, busy_seconds: float) -> SqlJournal:
    # A name in the file that is no text is damage too, and is said as a ValueError: told here, where damage is met.
    with telling(str(path), "open it"):
        inspection = engines.inspect_file(path, busy_seconds)
        _accept(inspection, str(path))
        engine = engines.file_engine(path, busy_seconds)
        return _ready(engine, SqlJournal(engine, str(path)), inspection.version)


def _accept(inspection: Inspection, name: str) -> None:
    if inspection.damage is not None:
        raise JournalDamaged(f"the journal {name} is damaged: {inspection.damage}", hint=DAMAGE_HINT)
    if inspection.version is None:
        if inspection.tables:
            raise ConfigError(
                f"{name} is a database, but no journal of linksub", hint="Name another file for the journal."
            )
    elif inspection.version not in REVISIONS:
        raise ConfigError(
            f"the journal {name} has schema {inspection.version}, this linksub knows none after {HEAD}",
            hint="It was written by a newer linksub: upgrade this one. Schemas are never taken back.",
        )


def _ready(engine: Engine, journal: SqlJournal, version: str | None) -> SqlJournal:
    try:
        with telling(journal.name, "open it"):
            if version != HEAD:
                engines.migrate(engine)
            damage = journal.find_damage()
            if damage is not None:
                raise JournalDamaged(damage, hint=DAMAGE_HINT)
    except BaseException:
        journal.close()
        raise
    return journal


def _set_aside(path: Path, now: datetime) -> Path:
    """Move a damaged file away, and its rollback journal first: that one must never be played into a fresh file."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    count = 1
    while target.exists():
        count += 1
        target = path.with_name(f"{path.name}.corrupt-{stamp}-{count}")
    side = path.with_name(f"{path.name}-journal")
    if side.exists():
        side.rename(target.with_name(f"{target.name}-journal"))
    return path.rename(target)


# --- a file to read ----------------------------------------------------------------------------------------------


def _open_for_reading(path: Path, busy_seconds: float) -> SqlJournal:
    with telling(str(path), "open it"):
        if not path.exists():
            return _empty(str(path))
        inspection = engines.inspect_file(path, busy_seconds, read_only=True)
        _accept(inspection, str(path))
        if inspection.version == HEAD and not inspection.hot:
            engine = engines.file_engine(path, busy_seconds, read_only=True)
        else:
            # A half-finished transaction must be rolled back, an old schema migrated: both on a copy.
            engine = engines.copy_engine(path, busy_seconds, hot=inspection.hot)
        return _ready(engine, SqlJournal(engine, str(path), read_only=True), inspection.version)


def _empty(name: str) -> SqlJournal:
    engine = engines.memory_engine()
    journal = _ready(engine, SqlJournal(engine, name, read_only=True), None)
    journal.missing = True
    return journal


# --- a server ----------------------------------------------------------------------------------------------------


def _open_server(url: URL, read_only: bool) -> SqlJournal:
    name = _shown(url)
    engine = _server_engine(url, read_only)
    try:
        with telling(name, "open it"):
            inspection = engines.inspect_server(engine)
            _accept(inspection, name)
    except BaseException:
        engine.dispose()
        raise
    if inspection.version is None and read_only:
        engine.dispose()
        return _empty(name)
    if inspection.version != HEAD and read_only:
        engine.dispose()
        raise JournalError(
            f"the journal {name} has schema {inspection.version}, and may not be migrated for reading only",
            hint="The next run migrates it.",
        )
    journal = SqlJournal(engine, name, read_only=read_only)
    try:
        return _ready(engine, journal, inspection.version)
    except JournalDamaged as error:
        # A server's data is its operator's: nothing of it is moved or dropped here.
        raise JournalDamaged(
            str(error), hint="Restore the journal's schema from a backup, or give the journal a new, empty schema."
        ) from error


def _shown(url: URL) -> str:
    """The URL as it may be shown: without its password, and without one that stands among its options."""
    options = {key: "***" if "password" in key.lower() else value for key, value in url.query.items()}
    return url.set(query=options).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def _server_engine(url: URL, read_only: bool) -> Engine:
    try:
        return engines.server_engine(url, read_only)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "a journal in PostgreSQL needs the driver psycopg", hint="Install it: pip install 'linksub[postgres]'."
        ) from error
