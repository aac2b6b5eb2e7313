"""What the journal says, as plain documents for ``linksub journal`` and ``linksub status``. No network but its own.

Reading changes not a byte and makes no file, so it may be done while a run is at work. Only :func:`settle` writes, under
the run lock and attributed to a person.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from connector.config import resolve_url
from connector.domain.model import SubscriptionId
from connector.errors import JournalError, UsageError
from connector.journal import JOURNAL_FILE, AuditFilter, Holder, IntentFilter, SqlJournal, hold_run_lock, open_journal
from connector.journal.lock import running_holder
from connector.journal.records import OPEN_STATES, RunRecord, deferral_document, event_document, intent_document
from connector.journal.records import lease_document as _lease_document
from connector.journal.seals import chained_document
from connector.precautions import STOP_FILE
from connector.settings import Config
from connector.sync.outcome import NEEDS_ATTENTION
from connector.sync.ports import Intent, IntentState

SCHEMA_VERSION = 1
SHORTEST_PREFIX = 6
"""An id may be cut to this many characters, as long as only one fits."""

_ATTENTION = frozenset(state.value for state in NEEDS_ATTENTION)


def journal_location(config: Config) -> Path | str:
    """Where the journal is kept: a file in the state directory, or the URL of a database."""
    if config.state.url is not None:
        return resolve_url(config.state.url)
    return config.state.directory / JOURNAL_FILE


def open_reading(config: Config, now: datetime) -> SqlJournal:
    """The journal for reading only. Raises JournalError and ConfigError, as opening it does."""
    return open_journal(journal_location(config), now=now, read_only=True)


# --- journal list, show, settle, export, verify --------------------------------------------------------------------


def list_intents(
    config: Config,
    now: datetime,
    *,
    states: Sequence[str] = (),
    only_open: bool = False,
    family: str | None = None,
    limit: int = 50,
) -> dict[str, Any]:
    """The intents, newest first, each with who ran it. ``family`` is the id of a linked parent. Raises UsageError."""
    wanted = OPEN_STATES if only_open else tuple(_state(name) for name in states)
    filters = IntentFilter(wanted, SubscriptionId(family.lower()) if family else None, limit=limit)
    with open_reading(config, now) as journal:
        runs = {run.info.id: run for run in journal.list_runs(None)}
        found = [_attributed(intent, runs) for intent in journal.list_intents(filters)]
        return _document("journal list", journal=journal.name, missing=journal.missing, intents=found)


def _state(name: str) -> IntentState:
    try:
        return IntentState(name)
    except ValueError:
        raise UsageError(
            f"there is no state {name!r}", hint=f"one of: {', '.join(state.value for state in IntentState)}"
        ) from None


def show(config: Config, now: datetime, wanted: str) -> dict[str, Any]:
    """One intent with its steps and its audit trail, or one run with its intents. Raises UsageError for another id."""
    with open_reading(config, now) as journal:
        runs = {run.info.id: run for run in journal.list_runs(None)}
        intents = {intent.id: intent for intent in journal.list_intents()}
        found = _find(wanted, [*intents, *runs], journal.name)
        if found in intents:
            return _document(
                "journal show",
                intent=_attributed(intents[found], runs),
                history=[event_document(event) for event in journal.history(found)],
                audit=[chained_document(entry) for entry in journal.audit_trail(AuditFilter(intent_id=found))],
            )
        return _document(
            "journal show",
            run=_run(runs[found]),
            intents=[_attributed(intent, runs) for intent in intents.values() if intent.run_id == found],
            audit=[chained_document(entry) for entry in journal.audit_trail(AuditFilter(run_id=found))],
        )


def _find(wanted: str, ids: Sequence[str], journal: str) -> str:
    wanted = wanted.strip()
    if wanted in ids:
        return wanted
    fitting = [one for one in ids if len(wanted) >= SHORTEST_PREFIX and one.startswith(wanted.lower())]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(f"{wanted} fits {len(fitting)} ids of the journal {journal}", hint="write more of it")
    raise UsageError(
        f"the journal {journal} knows no intent and no run {wanted!r}", hint="linksub journal list shows what it knows"
    )


def settle(config: Config, now: datetime, wanted: str, note: str, operator: str) -> dict[str, Any]:
    """A person closes an open intent after having looked at the provider. Journaled with who and why.

    Raises UsageError for an unknown id, a final intent or an empty note, LockHeld while a run is at work.
    """
    if not note.strip():
        raise UsageError("a settlement needs a note", hint="--note says what you found at the provider")
    with open_reading(config, now) as journal:
        found = _find(wanted, [intent.id for intent in journal.list_intents()], journal.name)
        _refuse_final(journal.get_intent(found))
    holder = Holder(f"settle-{found}", socket.gethostname(), os.getpid(), "journal settle", now)
    with (
        hold_run_lock(config.state.directory, holder),
        open_journal(journal_location(config), now=now) as writing,
    ):
        _refuse_final(writing.get_intent(found))
        settled = writing.settle(found, now, note.strip(), operator)
        runs = {run.info.id: run for run in writing.list_runs(None)}
        return _document("journal settle", intent=_attributed(settled, runs), operator=operator)


def _refuse_final(intent: Intent) -> None:
    if intent.state not in OPEN_STATES:
        raise UsageError(
            f"intent {intent.id} is {intent.state.value} already: there is nothing to settle",
            hint=f"linksub journal show {intent.id[:8]} has its history",
        )


def export(config: Config, now: datetime) -> Iterator[Mapping[str, object]]:
    """Everything in the journal but caches, one plain document after the other."""
    with open_reading(config, now) as journal:
        yield from journal.export()


def verify(config: Config, now: datetime) -> dict[str, Any]:
    """Whether the journal is as it was written; a file that cannot even be read is a problem like others."""
    problems: list[str]
    try:
        with open_reading(config, now) as journal:
            missing, name, problems = journal.missing, journal.name, journal.verify()
            entries = sum(1 for _ in journal.audit_trail())
    except JournalError as error:
        missing, name, problems, entries = False, _name(config), [str(error)], 0
    return _document(
        "journal verify", journal=name, missing=missing, sound=not problems, problems=problems, entries=entries
    )


def _name(config: Config) -> str:
    return "PostgreSQL" if config.state.url is not None else str(config.state.directory / JOURNAL_FILE)


# --- status ------------------------------------------------------------------------------------------------------


def status(config: Config, now: datetime, *, runs: int = 5) -> dict[str, Any]:
    """How things stand, from the state directory alone. Never raises for a journal that cannot be read: it says so."""
    directory = config.state.directory
    switch = directory / STOP_FILE
    document = _document(
        "status",
        at=now.isoformat(),
        state_directory=str(directory),
        running=running_holder(directory),
        kill_switch={"file": str(switch), "on": os.path.lexists(switch), "text": _text(switch)},
        set_aside=sorted(
            str(path) for path in directory.glob(f"{JOURNAL_FILE}.corrupt-*") if path.suffix != "-journal"
        ),
    )
    try:
        with open_reading(config, now) as journal:
            return document | _told(journal, now, runs)
    except JournalError as error:
        health = {
            "journal": _name(config),
            "state": "damaged or out of reach",
            "problem": str(error),
            "hint": error.hint,
        }
        empty: dict[str, Any] = {
            name: [] for name in ("runs", "open_intents", "deferred", "attention", "leases", "caches")
        }
        return document | {"health": health, "oldest_waiting": None} | empty


def _told(journal: SqlJournal, now: datetime, limit: int) -> dict[str, Any]:
    known = {run.info.id: run for run in journal.list_runs(None)}
    report = next((run.report for run in known.values() if run.report.get("outcomes") is not None), {})
    outcomes: list[Any] = list(report.get("outcomes") or ())  # type: ignore[call-overload]  # JSON of our own report
    names = {outcome["family"]: outcome["name"] for outcome in outcomes}
    health = {
        "journal": journal.name,
        "state": "not made yet" if journal.missing else "sound",
        "problem": None,
        "hint": None,
    }
    deferred = [
        deferral_document(found) | {"name": names.get(found.family, ""), "over": found.until <= now}
        for found in journal.deferrals()
    ]
    return {
        "health": health,
        "runs": [_run(run) for run in list(known.values())[:limit]],
        "open_intents": [_attributed(intent, known) for intent in journal.open_intents()],
        "deferred": deferred,
        "attention": [
            {name: outcome[name] for name in ("family", "name", "state", "reason", "remedy", "rule")}
            for outcome in outcomes
            if outcome["state"] in _ATTENTION
        ],
        "oldest_waiting": _aged(report.get("oldest_waiting"), "since", now),
        "leases": [_lease_document(lease) | {"expired": lease.until <= now} for lease in journal.leases()],
        "caches": [_cache(name, value, now) for name, value in sorted(journal.cached().items())],
    }


def _aged(found: object, key: str, now: datetime) -> dict[str, Any] | None:
    """A document with the age of the instant that stands under ``key``, in seconds."""
    if not isinstance(found, Mapping):
        return None
    instant = _instant(found.get(key))
    return dict(found) | {"age_seconds": None if instant is None else _seconds(now - instant)}


def _cache(name: str, value: str, now: datetime) -> dict[str, Any]:
    """A cached value by its name; how old it is where it says when it was read."""
    try:
        raw = json.loads(value)
    except ValueError:
        raw = None
    read_at = _instant(raw.get("read_at")) if isinstance(raw, dict) else None
    return {
        "name": name,
        "read_at": None if read_at is None else read_at.isoformat(),
        "age_seconds": None if read_at is None else _seconds(now - read_at),
    }


def _instant(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _seconds(span: timedelta) -> int:
    return max(0, int(span.total_seconds()))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[:200]
    except OSError:
        return None


# --- shared ------------------------------------------------------------------------------------------------------


def _document(command: str, **content: Any) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "command": command, **content}


def _attributed(intent: Intent, runs: Mapping[str, RunRecord]) -> dict[str, Any]:
    run = runs.get(intent.run_id)
    document = {key: value for key, value in intent_document(intent).items() if key != "kind"}
    return document | {"operator": None if run is None else run.info.operator, "open": intent.state in OPEN_STATES}


def _run(run: RunRecord) -> dict[str, Any]:
    ended, report = run.ended_at, run.report
    error = report.get("error")
    return {
        "id": run.info.id,
        "command": run.info.command,
        "operator": run.info.operator,
        "version": run.info.version,
        "started_at": run.info.started_at.isoformat(),
        "ended_at": None if ended is None else ended.isoformat(),
        "seconds": None if ended is None else round((ended - run.info.started_at).total_seconds(), 1),
        "exit_code": run.exit_code,
        "families": len(list(report.get("outcomes") or ())),  # type: ignore[call-overload]  # JSON of our own report
        "error": error.get("message") if isinstance(error, Mapping) else None,
    }
