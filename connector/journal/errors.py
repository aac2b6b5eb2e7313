"""Failures of the storage, told as errors of the connector: what happened, to which journal, what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from connector.errors import ConnectorError, JournalError

_HINTS = {
    sqlite3.SQLITE_FULL: "The disk is full: free some space. Nothing more was sent.",
    sqlite3.SQLITE_IOERR: "The disk did not take the write: check its space, quota and health. Nothing more was sent.",
    sqlite3.SQLITE_READONLY: "The journal cannot be written: check the owner and mode of the file and its directory.",
    sqlite3.SQLITE_CANTOPEN: "The journal cannot be opened: check that its directory exists and is writable.",
    sqlite3.SQLITE_PERM: "The journal cannot be opened: check the owner and mode of the file and its directory.",
    sqlite3.SQLITE_BUSY: "Another process holds the journal: wait for it to end, or stop it.",
    sqlite3.SQLITE_LOCKED: "Another process holds the journal: wait for it to end, or stop it.",
}
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
DAMAGE_HINT = (
    "The next run sets the file aside and goes on with a fresh one: the truth is in the CRM and at the provider."
)


class JournalDamaged(JournalError):
    """The journal's file is there, but its content is not what was written."""


def sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code of an error, None if SQLite did not say."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


@contextmanager
def telling(journal: str, action: str) -> Iterator[None]:
    """Turn every failure of the storage into a JournalError saying that ``journal`` could not do ``action``."""
    try:
        yield
    except ConnectorError:
        raise
    except IntegrityError as error:
        raise JournalError(
            f"journal {journal}: cannot {action}: it contradicts what is recorded ({error.orig})",
            hint="An id was used twice, or the run was never begun. This is a bug: please report it.",
        ) from error
    except DBAPIError as error:
        raise _told(journal, action, error.orig or error) from error
    except (sqlite3.Error, OSError) as error:
        raise _told(journal, action, error) from error
    except SQLAlchemyError as error:
        raise JournalError(f"journal {journal}: cannot {action}: {error}") from error
    except (ValueError, TypeError) as error:
        # A column that does not read back as what it holds: an unknown state, a broken instant or JSON.
        raise JournalDamaged(
            f"journal {journal}: cannot {action}: {type(error).__name__}: {error}", hint=DAMAGE_HINT
        ) from error


def _told(journal: str, action: str, error: BaseException) -> JournalError:
    message = f"journal {journal}: cannot {action}: {error}".strip()
    code = sqlite_code(error)
    if code in _DAMAGE:
        return JournalDamaged(message, hint=DAMAGE_HINT)
    if code is None:
        hint = (
            None if isinstance(error, sqlite3.Error) else "Check that the journal's place can be reached and written."
        )
        return JournalError(message, hint=hint)
    return JournalError(message, hint=_HINTS.get(code, "Run `linksub doctor` to check the journal."))


def shows_damage(error: JournalError) -> bool:
    """Whether the failure of a reading that is known to be right shows that the file is not as it was written."""
    if isinstance(error, JournalDamaged):
        return True
    cause = error.__cause__
    original = cause.orig if isinstance(cause, DBAPIError) else cause
    return isinstance(original, sqlite3.Error) and is_damage(original)


def is_damage(error: sqlite3.Error) -> bool:
    """The same of SQLite's own error: a table that is gone, a text that is none, a page that makes no sense."""
    return sqlite_code(error) in (None, sqlite3.SQLITE_ERROR, *_DAMAGE)
