"""Reading a journal that SQLAlchemy reaches: rows into records, and the questions that people and runs ask."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, Row, Select, Table, or_, select

from connector.domain.model import LogId, ProviderSubscriptionId, SubscriptionId, TenantId
from connector.errors import JournalError
from connector.journal import schema
from connector.journal.errors import DAMAGE_HINT, JournalDamaged, shows_damage, telling
from connector.journal.records import (
    OPEN_STATES,
    AuditFilter,
    ChainedEntry,
    Deferral,
    IntentEvent,
    IntentFilter,
    Lease,
    RunRecord,
    deferral_document,
    event_document,
    intent_document,
    lease_document,
    markers_document,
    run_document,
    unknown_intent,
    utc,
)
from connector.journal.seals import GENESIS, chained_document, link, seal
from connector.journal.verification import compare, follow
from connector.sync.ports import AuditEntry, Intent, IntentKind, IntentState, RunInfo

_PAGE = 500
_FINAL = tuple(state.value for state in IntentState if state not in OPEN_STATES)


class SqlReader:
    """The reading half of :class:`connector.journal.store.SqlJournal`.

    One connection, guarded by a lock, because the threads of a run share the journal. ``name`` is what messages call
    it (never with a password). ``missing`` is True if it was opened for reading only and there was nothing to open;
    ``recovered_from`` names the damaged file that was set aside when this journal was opened.
    """

    def __init__(self, engine: Engine, name: str, *, read_only: bool = False) -> None:
        self._engine = engine
        self._guard = threading.RLock()
        self._moment: Connection | None = None
        self.name = name
        self.read_only = read_only
        self.missing = False
        self.recovered_from: Path | None = None

    def close(self) -> None:
        """Give the file or the server connection back."""
        with self._guard:
            self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _read(self, what: str) -> Iterator[Connection]:
        with self._guard, telling(self.name, f"read {what}"):
            if self._moment is not None:
                yield self._moment
                return
            with self._engine.connect() as connection, connection.begin():
                yield connection

    @contextmanager
    def _one_moment(self, what: str) -> Iterator[None]:
        """Everything that is read within is as it was at one moment, whatever others write meanwhile: what is compared
        with one another has to be."""
        with self._guard, telling(self.name, f"read {what}"), self._engine.connect() as connection:
            if connection.dialect.name != "sqlite":  # there any transaction is one
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                self._moment = connection
                try:
                    yield
                finally:
                    self._moment = None

    def _all(self, what: str, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._read(what) as connection:
            return connection.execute(query).all()

    # --- what a run asks ---------------------------------------------------------------------------------------

    def open_intents(self, family: SubscriptionId | None = None) -> Sequence[Intent]:
        """Intents that are not final (planned, sending, unknown), oldest first; of one family or of all.

        Raises JournalDamaged if one of them is not what was recorded.
        """
        query = _open_query()
        if family is not None:
            query = query.where(schema.intents.c.family == family)
        with telling(self.name, "read the open intents"):
            return [sound_intent(row, self.name) for row in self._all("the open intents", query)]

    def unanswered(self, since: datetime) -> Sequence[Intent]:
        """Intents of all families, sent at or after ``since``, that were ever without an answer, oldest first."""
        table, events = schema.intents, schema.intent_events
        doubted = select(events.c.intent_id).where(
            events.c.intent_id == table.c.id, events.c.state == IntentState.UNKNOWN.value
        )
        query = _sent_since(since).where(or_(table.c.state == IntentState.SENDING.value, doubted.exists()))
        return self._sound("the unanswered intents", query)

    def sent(self, family: SubscriptionId, since: datetime) -> Sequence[Intent]:
        """A family's changes of seats that were sent at or after ``since``, oldest first, whatever they are now."""
        table = schema.intents
        query = _sent_since(since).where(table.c.family == family, table.c.purpose == IntentKind.QUANTITY.value)
        return self._sound(f"what was sent for family {family}", query)

    def last_confirmed(self, family: SubscriptionId) -> tuple[Intent, datetime] | None:
        """A family's newest change of seats that was confirmed (it may be settled since), and when it was confirmed."""
        table, events = schema.intents, schema.intent_events
        query = (
            select(table, events.c.at.label("confirmed_at"))
            .join(events, events.c.intent_id == table.c.id)
            .where(table.c.family == family, table.c.purpose == IntentKind.QUANTITY.value)
            .where(events.c.state == IntentState.CONFIRMED.value)
            .order_by(events.c.at.desc(), events.c.seq.desc())
            .limit(1)
        )
        what = f"what was confirmed for family {family}"
        with telling(self.name, f"read {what}"):
            for row in self._all(what, query):
                return sound_intent(row, self.name), row.confirmed_at
        return None

    def noted_markers(self, family: SubscriptionId) -> tuple[str, ...]:
        """The markers that this journal knows to have been written for a family, the newest last."""
        query = select(schema.markers).where(schema.markers.c.family == family)
        return self._markers(f"the markers of family {family}", query).get(family, ())

    def markers(self) -> Mapping[SubscriptionId, tuple[str, ...]]:
        """The noted markers of every family."""
        return self._markers("the markers", select(schema.markers).order_by(schema.markers.c.family))

    def _markers(self, what: str, query: Select[Any]) -> Mapping[SubscriptionId, tuple[str, ...]]:
        with telling(self.name, f"read {what}"):
            rows = self._all(what, query)
            return {SubscriptionId(row.family): tuple(map(str, json.loads(row.texts))) for row in rows}

    def _sound(self, what: str, query: Select[Any]) -> Sequence[Intent]:
        with telling(self.name, f"read {what}"):
            return [sound_intent(row, self.name) for row in self._all(what, query)]

    def deferral(self, family: SubscriptionId) -> tuple[datetime, str] | None:
        """The instant before which a family must not be tried, and why."""
        query = select(schema.deferrals).where(schema.deferrals.c.family == family)
        for row in self._all(f"the deferral of family {family}", query):
            return row.until, row.reason
        return None

    def recall(self, key: str) -> str | None:
        """A value kept by ``remember``, or None."""
        query = select(schema.cache.c.value).where(schema.cache.c.name == key)
        for row in self._all(f"the cached value {key}", query):
            return str(row.value)
        return None

    def cached(self) -> Mapping[str, str]:
        """Every cached value."""
        return {row.name: row.value for row in self._all("the cached values", select(schema.cache))}

    # --- what a person asks ------------------------------------------------------------------------------------

    def list_runs(self, limit: int | None = 20) -> Sequence[RunRecord]:
        """The runs, newest first."""
        table = schema.runs
        query = select(table).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(limit)
        with telling(self.name, "read the runs"):
            return [_run(row) for row in self._all("the runs", query)]

    def list_intents(self, wanted: IntentFilter | None = None) -> Sequence[Intent]:
        """The intents that a filter asks for, newest first."""
        wanted = wanted or IntentFilter()
        table = schema.intents
        query = select(table).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(wanted.limit)
        if wanted.states:
            query = query.where(table.c.state.in_([state.value for state in wanted.states]))
        query = _narrow(query, table, {"family": wanted.family, "run_id": wanted.run_id})
        query = _between(query, table, "created_at", wanted.since, wanted.until)
        with telling(self.name, "read the intents"):
            return [_intent(row) for row in self._all("the intents", query)]

    def get_intent(self, intent_id: str) -> Intent:
        """One intent as it now is. Raises JournalError if there is none with that id."""
        query = select(schema.intents).where(schema.intents.c.id == intent_id)
        with telling(self.name, f"read intent {intent_id}"):
            for row in self._all(f"intent {intent_id}", query):
                return _intent(row)
        raise unknown_intent(intent_id)

    def history(self, intent_id: str) -> Sequence[IntentEvent]:
        """The steps of one intent, oldest first; empty if there is no such intent."""
        table = schema.intent_events
        query = select(table).where(table.c.intent_id == intent_id).order_by(table.c.seq)
        with telling(self.name, f"read the history of intent {intent_id}"):
            return [_event(row) for row in self._all(f"the history of intent {intent_id}", query)]

    def audit_trail(self, wanted: AuditFilter | None = None) -> Sequence[ChainedEntry]:
        """The audit entries that a filter asks for, oldest first; a limit keeps the newest."""
        wanted = wanted or AuditFilter()
        table = schema.audit
        query = select(table).order_by(table.c.seq.desc()).limit(wanted.limit)
        query = _narrow(query, table, {"run_id": wanted.run_id, "family": wanted.family, "intent_id": wanted.intent_id})
        if wanted.event is not None:
            prefix = wanted.event.endswith(".")
            column = table.c.event
            query = query.where(column.startswith(wanted.event, autoescape=True) if prefix else column == wanted.event)
        query = _between(query, table, "at", wanted.since, wanted.until)
        with telling(self.name, "read the audit trail"):
            return [_chained(row) for row in reversed(self._all("the audit trail", query))]

    def deferrals(self) -> Sequence[Deferral]:
        """The families that wait, the one that may be tried first in front."""
        query = select(schema.deferrals).order_by(schema.deferrals.c.until, schema.deferrals.c.family)
        rows = self._all("the deferrals", query)
        return [Deferral(SubscriptionId(row.family), row.until, row.reason, row.tries) for row in rows]

    def oldest_deferral(self) -> Deferral | None:
        """The deferral whose instant comes (or came) first, None if no family waits."""
        return next(iter(self.deferrals()), None)

    def leases(self) -> Sequence[Lease]:
        """The leases that stand, by family; expired ones included until somebody takes them over."""
        query = select(schema.leases).order_by(schema.leases.c.family)
        return [Lease(SubscriptionId(row.family), row.holder, row.until) for row in self._all("the leases", query)]

    # --- the whole ---------------------------------------------------------------------------------------------

    def export(self) -> Iterator[Mapping[str, object]]:
        """Everything but the cache as plain JSON documents, each with its ``kind``; reads page by page."""
        yield {"kind": "journal", "format": 1, "schema": schema.HEAD}
        with telling(self.name, "export"):
            yield from (run_document(_run(row)) for row in self._pages(schema.runs, "id"))
            yield from (intent_document(_intent(row)) for row in self._pages(schema.intents, "id"))
            yield from (event_document(_event(row)) for row in self._pages(schema.intent_events, "seq"))
            yield from (chained_document(_chained(row)) for row in self._pages(schema.audit, "seq"))
            yield from (markers_document(family, texts) for family, texts in self.markers().items())
            yield from (deferral_document(deferral) for deferral in self.deferrals())
            yield from (lease_document(lease) for lease in self.leases())

    def verify(self) -> list[str]:
        """What does not fit together, as sentences; empty if the journal is as it was written."""
        with telling(self.name, "verify"), self._one_moment("everything"):
            row = self._all("the head of the audit trail", select(schema.audit_head))[0]
            trail = follow((_chained(entry) for entry in self._pages(schema.audit, "seq")), (row.length, row.hash))
            stored = ((_intent(intent), str(intent.seal)) for intent in self._pages(schema.intents, "id"))
            return trail.problems + list(compare(trail, stored, self.history))

    def find_damage(self) -> str | None:
        """What of the rows that the next run relies on is not as it was written; None if all is well. Cheap."""
        try:
            self.open_intents()
            self.deferrals()
            self.leases()
            self.list_runs(1)
            self._check_head()
        except JournalError as error:
            if not shows_damage(error):
                raise
            return str(error)
        return None

    def _check_head(self) -> None:
        newest = select(schema.audit).order_by(schema.audit.c.seq.desc()).limit(2)
        with self._one_moment("the end of the audit trail"):
            head = self._all("the head of the audit trail", select(schema.audit_head))
            last = self._all("the audit trail", newest)
        with telling(self.name, "read the audit trail"):
            entries = [_chained(row) for row in reversed(last)]
        end = (entries[-1].seq, entries[-1].hash) if entries else (0, GENESIS)
        if [(row.length, row.hash) for row in head] != [end]:
            raise JournalDamaged(f"the audit trail of {self.name} does not end where it should", hint=DAMAGE_HINT)
        if len(entries) == 2 and link(entries[0].hash, entries[1].seq, entries[1].entry) != entries[1].hash:
            raise JournalDamaged(f"the last audit entry of {self.name} is not what was written", hint=DAMAGE_HINT)

    def _pages(self, table: Table, key: str) -> Iterator[Row[Any]]:
        column = table.c[key]
        query = select(table).order_by(column).limit(_PAGE)
        rows = self._all(f"the {table.name}", query)
        while rows:
            yield from rows
            rows = self._all(f"the {table.name}", query.where(column > rows[-1]._mapping[key]))


def _open_query() -> Select[Any]:
    # Not in the final states, rather than in the open ones: a damaged state must show up, not hide.
    table = schema.intents
    return select(table).where(table.c.state.not_in(_FINAL)).order_by(table.c.created_at, table.c.id)


def _sent_since(since: datetime) -> Select[Any]:
    # The newest sendings first, by their index: few of the many intents that a journal of years holds.
    table, events = schema.intents, schema.intent_events
    sendings = select(events.c.intent_id).where(events.c.state == IntentState.SENDING.value, events.c.at >= utc(since))
    return select(table).where(table.c.id.in_(sendings)).order_by(table.c.created_at, table.c.id)


def _narrow(query: Select[Any], table: Table, wanted: Mapping[str, str | None]) -> Select[Any]:
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    return query


def _between(
    query: Select[Any], table: Table, name: str, since: datetime | None, until: datetime | None
) -> Select[Any]:
    if since is not None:
        query = query.where(table.c[name] >= since)
    if until is not None:
        query = query.where(table.c[name] < until)
    return query


def sound_intent(row: Row[Any], name: str) -> Intent:
    """An intent whose row is what was recorded. Raises JournalDamaged if it is not."""
    intent = _intent(row)
    if seal(intent) != row.seal:
        raise JournalDamaged(f"intent {intent.id} in the journal {name} is not what was recorded", hint=DAMAGE_HINT)
    return intent


def _intent(row: Row[Any]) -> Intent:
    return Intent(
        id=row.id,
        run_id=row.run_id,
        family=SubscriptionId(row.family),
        provider=row.provider,
        tenant=TenantId(row.tenant),
        provider_subscription=ProviderSubscriptionId(row.provider_subscription),
        before=row.seats_before,
        target=row.seats_target,
        log_ids=tuple(LogId(log_id) for log_id in json.loads(row.log_ids)),
        request_id=row.request_id,
        created_at=row.created_at,
        state=IntentState(row.state),
        attempts=row.attempts,
        note=row.note,
        kind=IntentKind(row.purpose),
        group=row.marker_group,
    )


def _run(row: Row[Any]) -> RunRecord:
    info = RunInfo(row.id, row.operator, row.command, row.started_at, row.version)
    return RunRecord(info, row.ended_at, row.exit_code, json.loads(row.report))


def _event(row: Row[Any]) -> IntentEvent:
    return IntentEvent(row.intent_id, row.at, IntentState(row.state), row.attempts, row.note)


def _chained(row: Row[Any]) -> ChainedEntry:
    entry = AuditEntry(
        at=row.at,
        run_id=row.run_id,
        event=row.event,
        family=None if row.family is None else SubscriptionId(row.family),
        intent_id=row.intent_id,
        detail=json.loads(row.detail),
    )
    return ChainedEntry(row.seq, entry, row.hash)
