"""What was intended, sent and confirmed; leases; the run log.

Losing a journal may cost requests, never a wrong or doubled change: the truth is in the CRM and at the provider. What
is here is the write-ahead record of every money write, an append-only audit trail, and what the next run need not find
out again.

* :func:`open_journal` and :class:`SqlJournal`: SQLite by default, PostgreSQL when several machines share one journal;
* :func:`open_rehearsal` and :class:`MemoryJournal`: a dry run reads what is there and writes nowhere;
* :func:`hold_run_lock` and :class:`Holder`: one run at a time on one host and state directory.

The names are imported on first use, so that a command which needs no journal does not pay for SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connector.journal.errors import JournalDamaged
    from connector.journal.lock import Holder, hold_run_lock
    from connector.journal.memory import MemoryJournal
    from connector.journal.opening import JOURNAL_FILE, open_journal, open_rehearsal
    from connector.journal.records import (
        AuditFilter,
        ChainedEntry,
        Deferral,
        IntentEvent,
        IntentFilter,
        Lease,
        RunRecord,
    )
    from connector.journal.store import SqlJournal

__all__ = [
    "JOURNAL_FILE",
    "AuditFilter",
    "ChainedEntry",
    "Deferral",
    "Holder",
    "IntentEvent",
    "IntentFilter",
    "JournalDamaged",
    "Lease",
    "MemoryJournal",
    "RunRecord",
    "SqlJournal",
    "hold_run_lock",
    "open_journal",
    "open_rehearsal",
]

_HOME = {
    "errors": ("JournalDamaged",),
    "lock": ("Holder", "hold_run_lock"),
    "memory": ("MemoryJournal",),
    "opening": ("JOURNAL_FILE", "open_journal", "open_rehearsal"),
    "records": ("AuditFilter", "ChainedEntry", "Deferral", "IntentEvent", "IntentFilter", "Lease", "RunRecord"),
    "store": ("SqlJournal",),
}


def __getattr__(name: str) -> object:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
