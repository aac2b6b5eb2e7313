"""The journal on SQLite or PostgreSQL: every method is durable when it returns, or raises JournalError.

All writing transactions are one after the other, on SQLite by ``BEGIN IMMEDIATE`` and on PostgreSQL by locking the one
row that holds the head of the audit chain first. That makes leases safe between machines and the chain gapless; a
journal takes a handful of writes per family, which is nothing to either database.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from connector.domain.model import SubscriptionId
from connector.errors import JournalError
from connector.journal import schema
from connector.journal.errors import telling
from connector.journal.reading import SqlReader, sound_intent
from connector.journal.records import (
    RunRecord,
    intent_terms,
    lease_held,
    lease_lost,
    next_markers,
    storable,
    unknown_intent,
    utc,
)
from connector.journal.seals import canonical_json, link, seal
from connector.journal.trail import ended_entry, planned_entry, started_entry, step_entry, taken_over_entry
from connector.journal.transitions import advance, fresh, steps_to_settle
from connector.sync.ports import AuditEntry, Intent, IntentState, RunInfo


class SqlJournal(SqlReader):
    """The journal of :class:`connector.sync.ports.Journal` on a database; see there for each method of the port.

    Whatever happens to an intent or a run is written to the audit trail in the same transaction, attributed to the
    run that this object last began.
    """

    _run_id: str | None = None

    def __init__(self, engine: Engine, name: str, *, read_only: bool = False) -> None:
        super().__init__(engine, name, read_only=read_only)
        self._held: dict[SubscriptionId, str] = {}

    @contextmanager
    def _write(self, what: str) -> Iterator[Connection]:
        if self.read_only:
            raise JournalError(f"cannot record {what}: the journal {self.name} was opened for reading only")
        with self._guard, telling(self.name, f"record {what}"), self._engine.connect() as connection:
            connection.execution_options(linksub_write=True)
            with connection.begin():
                # One writer after the other: on PostgreSQL by this row's lock, on SQLite by BEGIN IMMEDIATE already.
                connection.execute(select(schema.audit_head.c.id).with_for_update())
                yield connection

    # --- runs --------------------------------------------------------------------------------------------------

    def begin_run(self, run: RunInfo) -> None:
        """Record that a run started. Raises JournalError if its id was used before."""
        with self._write(f"the start of run {run.id}") as connection:
            values = {"id": run.id, "operator": storable(run.operator), "command": storable(run.command)}
            connection.execute(
                insert(schema.runs).values(**values, version=run.version, started_at=utc(run.started_at))
            )
            _chain(connection, started_entry(run))
        self._run_id = run.id

    def end_run(self, run_id: str, at: datetime, exit_code: int, report: Mapping[str, object]) -> None:
        """Record how a run ended. Raises JournalError if it never began or has ended already."""
        table = schema.runs
        with self._write(f"the end of run {run_id}") as connection:
            row = connection.execute(select(table).where(table.c.id == run_id)).one_or_none()
            if row is None or row.ended_at is not None:
                state = "was never begun" if row is None else f"ended at {row.ended_at.isoformat()} already"
                raise JournalError(f"cannot record the end of run {run_id}: it {state}")
            connection.execute(
                update(table)
                .where(table.c.id == run_id)
                .values(ended_at=utc(at), exit_code=exit_code, report=canonical_json(report))
            )
            info = RunInfo(row.id, row.operator, row.command, row.started_at, row.version)
            _chain(connection, ended_entry(RunRecord(info, at, exit_code, report), at))

    # --- intents -----------------------------------------------------------------------------------------------

    def plan(self, intent: Intent) -> None:
        """Record an intent in state ``planned``; its run must have begun, its request id must be new."""
        intent = fresh(intent)
        with self._write(f"intent {intent.id}") as connection:
            connection.execute(insert(schema.intents).values(**_row_of(intent)))
            _remember_step(connection, intent, intent.created_at, intent.note)
            _chain(connection, planned_entry(intent))

    def mark(self, intent_id: str, state: IntentState, at: datetime, note: str = "") -> Intent:
        """Move an intent by one legal step and return it as it now is.

        Raises LockHeld instead of ``sending`` when this object leased the family and somebody else has taken it over:
        whoever slept through its lease must not send what it decided before.
        """
        return self._step(intent_id, (state,), at, note, None)

    def settle(self, intent_id: str, at: datetime, note: str, operator: str) -> Intent:
        """A person closes an intent: it says who and why, and is no longer open. Returns it as it now is."""
        return self._step(intent_id, None, at, note, operator)

    def _step(
        self, intent_id: str, states: Sequence[IntentState] | None, at: datetime, note: str, operator: str | None
    ) -> Intent:
        table = schema.intents
        with self._write(f"a step of intent {intent_id}") as connection:
            row = connection.execute(select(table).where(table.c.id == intent_id)).one_or_none()
            if row is None:
                raise unknown_intent(intent_id)
            intent = sound_intent(row, self.name)
            for state in steps_to_settle(intent) if states is None else states:
                if state is IntentState.SENDING:
                    self._check_lease(connection, intent.family)
                intent = advance(intent, state, note)
                _remember_step(connection, intent, at, note)
                _chain(connection, step_entry(intent, at, note, run_id=self._run_id, operator=operator))
            changed = {"state": intent.state.value, "attempts": intent.attempts, "note": intent.note}
            connection.execute(update(table).where(table.c.id == intent_id).values(**changed, seal=seal(intent)))
            return intent

    # --- markers ---------------------------------------------------------------------------------------------

    def note_marker(self, family: SubscriptionId, text: str, at: datetime) -> None:
        """Remember a marker that is about to be written on a family's parent; the last four different ones are kept."""
        table = schema.markers
        with self._write(f"a marker of family {family}") as connection:
            row = connection.execute(select(table.c.texts).where(table.c.family == family)).one_or_none()
            texts = next_markers(() if row is None else json.loads(row.texts), text)
            values = {"texts": canonical_json(list(texts)), "noted_at": utc(at)}
            if row is None:
                connection.execute(insert(table).values(family=family, **values))
            else:
                connection.execute(update(table).where(table.c.family == family).values(**values))

    # --- audit -------------------------------------------------------------------------------------------------

    def append(self, entry: AuditEntry) -> None:
        """Append to the audit trail."""
        with self._write(f"the audit entry {entry.event}") as connection:
            _chain(connection, entry)

    # --- deferrals and the cache -------------------------------------------------------------------------------

    def defer(self, family: SubscriptionId, until: datetime, reason: str) -> None:
        """Remember that a family must not be tried before an instant; counts the tries until it is cleared."""
        table = schema.deferrals
        with self._write(f"the deferral of family {family}") as connection:
            values = {"until": utc(until), "reason": storable(reason)}
            done = connection.execute(
                update(table).where(table.c.family == family).values(**values, tries=table.c.tries + 1)
            )
            if not done.rowcount:
                connection.execute(insert(table).values(family=family, **values, tries=1))

    def clear_deferral(self, family: SubscriptionId) -> None:
        """Forget a deferral (the family was settled)."""
        with self._write(f"the end of the deferral of family {family}") as connection:
            connection.execute(delete(schema.deferrals).where(schema.deferrals.c.family == family))

    def remember(self, key: str, value: str) -> None:
        """Keep a small cached value."""
        table = schema.cache
        with self._write(f"the cached value {key}") as connection:
            done = connection.execute(update(table).where(table.c.name == key).values(value=storable(value)))
            if not done.rowcount:
                connection.execute(insert(table).values(name=key, value=storable(value)))

    # --- leases ------------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, family: SubscriptionId, holder: str, now: datetime, seconds: float) -> Iterator[None]:
        """Hold one family exclusively for ``seconds`` from ``now``; given back on leaving, if it is still ours.

        A lease is not re-entrant: a second one under the same holder's name is refused too. An expired one is taken
        over, and that is audited. It only reduces overlap: whoever wakes up after its lease ran out loses by ETag and
        by comparing at the provider.
        """
        token = uuid.uuid4().hex
        self._take(family, holder, utc(now), utc(now) + timedelta(seconds=seconds), token)
        try:
            yield
        except BaseException:
            # The lease runs out by itself; what went wrong inside it is what must be told.
            with suppress(JournalError):
                self._give_back(family, token)
            raise
        self._give_back(family, token)

    def _take(self, family: SubscriptionId, holder: str, now: datetime, until: datetime, token: str) -> None:
        table = schema.leases
        with self._write(f"the lease of family {family}") as connection:
            row = connection.execute(select(table).where(table.c.family == family)).one_or_none()
            if row is not None:
                if row.until > now:
                    raise lease_held(family, row.holder, row.until)
                _chain(connection, taken_over_entry(family, row.holder, row.until, holder, now, self._run_id))
                connection.execute(delete(table).where(table.c.family == family))
            connection.execute(insert(table).values(family=family, holder=storable(holder), until=until, token=token))
        self._held[family] = token

    def _check_lease(self, connection: Connection, family: SubscriptionId) -> None:
        token = self._held.get(family)
        if token is None:
            return
        table = schema.leases
        row = connection.execute(select(table).where(table.c.family == family)).one_or_none()
        if row is None or row.token != token:
            raise lease_lost(family, "somebody" if row is None else row.holder)

    def _give_back(self, family: SubscriptionId, token: str) -> None:
        if self._held.get(family) == token:
            del self._held[family]
        table = schema.leases
        with self._write(f"the end of the lease of family {family}") as connection:
            connection.execute(delete(table).where(table.c.family == family, table.c.token == token))

    def drop_leases(self, now: datetime, holder_prefix: str = "") -> Sequence[str]:
        """Drop the leases of processes known to be dead, and return their holders.

        For the start of a run that holds the run lock: on SQLite nobody else can be alive then, so the prefix may stay
        empty; on PostgreSQL it must name this host and state directory. Each is audited.
        """
        table = schema.leases
        with self._write("the end of dead leases") as connection:
            begins = table.c.holder.startswith(holder_prefix, autoescape=True)
            dropped = connection.execute(select(table).where(begins).order_by(table.c.family)).all()
            for row in dropped:
                _chain(connection, taken_over_entry(row.family, row.holder, row.until, None, now, self._run_id))
                connection.execute(delete(table).where(table.c.family == row.family))
            return [row.holder for row in dropped]


def _chain(connection: Connection, entry: AuditEntry) -> None:
    head: Row[Any] = connection.execute(select(schema.audit_head)).one()
    seq = int(head.length) + 1
    entry = replace(entry, at=utc(entry.at), run_id=storable(entry.run_id), event=storable(entry.event))
    digest = link(head.hash, seq, entry)
    connection.execute(
        insert(schema.audit).values(
            seq=seq,
            at=entry.at,
            run_id=entry.run_id,
            event=entry.event,
            family=entry.family,
            intent_id=entry.intent_id,
            detail=canonical_json(entry.detail),
            hash=digest,
        )
    )
    connection.execute(update(schema.audit_head).values(length=seq, hash=digest))


def _remember_step(connection: Connection, intent: Intent, at: datetime, note: str) -> None:
    connection.execute(
        insert(schema.intent_events).values(
            intent_id=intent.id, at=utc(at), state=intent.state.value, attempts=intent.attempts, note=storable(note)
        )
    )


def _row_of(intent: Intent) -> dict[str, object]:
    terms = intent_terms(intent)
    return {
        **{name: terms[name] for name in ("id", "run_id", "family", "provider", "tenant", "provider_subscription")},
        "seats_before": intent.before,
        "seats_target": intent.target,
        "log_ids": canonical_json(list(intent.log_ids)),
        "request_id": intent.request_id,
        "created_at": intent.created_at,
        "state": intent.state.value,
        "attempts": intent.attempts,
        "note": intent.note,
        "seal": seal(intent),
        "purpose": intent.kind.value,
        "marker_group": intent.group,
    }
