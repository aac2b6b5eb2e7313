"""A journal in memory: for dry runs, which leave the state directory as it was, and for rehearsals and tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

from connector.domain.model import SubscriptionId
from connector.errors import JournalError
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
    lease_held,
    lease_lost,
    markers_document,
    next_markers,
    run_document,
    storable,
    unknown_intent,
    utc,
)
from connector.journal.seals import GENESIS, canonical_json, chained_document, link, seal
from connector.journal.trail import ended_entry, planned_entry, started_entry, step_entry, taken_over_entry
from connector.journal.transitions import advance, fresh, steps_to_settle
from connector.journal.verification import compare, follow
from connector.sync.ports import AuditEntry, Intent, IntentKind, IntentState, RunInfo


class Known(Protocol):
    """What a dry run needs to know of the journal that it must not change."""

    def list_runs(self, limit: int | None = ...) -> Sequence[RunRecord]:
        """The runs, newest first."""

    def open_intents(self, family: SubscriptionId | None = ...) -> Sequence[Intent]:
        """Intents that are not final."""

    def deferrals(self) -> Sequence[Deferral]:
        """The families that wait."""

    def cached(self) -> Mapping[str, str]:
        """Every cached value."""

    def unanswered(self, since: datetime) -> Sequence[Intent]:
        """Intents that were ever without an answer."""

    def sent(self, family: SubscriptionId, since: datetime) -> Sequence[Intent]:
        """A family's changes of seats that were sent."""

    def last_confirmed(self, family: SubscriptionId) -> tuple[Intent, datetime] | None:
        """A family's newest change of seats that was confirmed."""

    def markers(self) -> Mapping[SubscriptionId, tuple[str, ...]]:
        """The noted markers of every family."""

    def close(self) -> None:
        """Give it back."""


class MemoryJournal:
    """The journal of :class:`connector.sync.ports.Journal` in memory, method for method like the one on a database.

    Durable it is not, and it need not be: whoever uses it sends nothing.
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._run_id: str | None = None
        self._runs: dict[str, RunRecord] = {}
        self._intents: dict[str, Intent] = {}
        self._request_ids: set[str] = set()
        self._events: list[IntentEvent] = []
        self._audit: list[ChainedEntry] = []
        self._deferrals: dict[SubscriptionId, Deferral] = {}
        self._leases: dict[SubscriptionId, tuple[Lease, object]] = {}
        self._held: dict[SubscriptionId, object] = {}
        self._cache: dict[str, str] = {}
        self._markers: dict[SubscriptionId, tuple[str, ...]] = {}
        self._source: Known | None = None

    @classmethod
    def knowing(cls, source: Known) -> Self:
        """A journal that begins with the open intents, deferrals, markers and cached values of another one.

        What was sent and confirmed before, perhaps over years, is asked of that one when it is wanted; it is closed
        with this one. Leases are left out: a dry run writes nothing, so nobody has to stay out of its way.
        """
        journal = cls()
        open_intents = source.open_intents()
        runs = {intent.run_id for intent in open_intents}
        journal._runs = {run.info.id: run for run in reversed(source.list_runs(None)) if run.info.id in runs}
        for intent in open_intents:
            journal._enter(intent)
        journal._deferrals = {deferral.family: deferral for deferral in source.deferrals()}
        journal._cache = dict(source.cached())
        journal._markers = dict(source.markers())
        journal._source = source
        return journal

    def _enter(self, intent: Intent) -> None:
        planned = replace(intent, state=IntentState.PLANNED, attempts=0)
        self._intents[intent.id] = intent
        self._request_ids.add(intent.request_id)
        self._record(planned, intent.created_at, "")
        self._chain(planned_entry(planned))
        # Its way to where it stands is not told again, only that it got there.
        for attempt in range(intent.attempts):
            self._record(replace(intent, state=IntentState.SENDING, attempts=attempt + 1), intent.created_at, "")
        if intent.state is IntentState.UNKNOWN:
            self._record(intent, intent.created_at, intent.note)
        if intent.state is not IntentState.PLANNED:
            self._chain(step_entry(intent, intent.created_at, intent.note))

    def close(self) -> None:
        """Give back what it was made from."""
        if self._source is not None:
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- runs --------------------------------------------------------------------------------------------------

    def begin_run(self, run: RunInfo) -> None:
        """Record that a run started. Raises JournalError if its id was used before."""
        with self._guard:
            if run.id in self._runs:
                raise JournalError(f"cannot record the start of run {run.id}: its id was used before")
            info = replace(
                run, operator=storable(run.operator), command=storable(run.command), started_at=utc(run.started_at)
            )
            self._chain(started_entry(info))
            self._runs[run.id] = RunRecord(info)
            self._run_id = run.id

    def end_run(self, run_id: str, at: datetime, exit_code: int, report: Mapping[str, object]) -> None:
        """Record how a run ended. Raises JournalError if it never began or has ended already."""
        with self._guard:
            run = self._runs.get(run_id)
            if run is None or run.ended_at is not None:
                state = "was never begun" if run is None else "ended already"
                raise JournalError(f"cannot record the end of run {run_id}: it {state}")
            plain = json.loads(canonical_json(report))
            run = RunRecord(run.info, utc(at), exit_code, plain)
            self._chain(ended_entry(run, at))
            self._runs[run_id] = run

    def list_runs(self, limit: int | None = 20) -> Sequence[RunRecord]:
        """The runs, newest first."""
        with self._guard:
            runs = sorted(self._runs.values(), key=lambda run: (run.info.started_at, run.info.id), reverse=True)
            return runs[:limit]

    # --- intents -----------------------------------------------------------------------------------------------

    def plan(self, intent: Intent) -> None:
        """Record an intent in state ``planned``; its run must have begun, its request id must be new."""
        intent = fresh(intent)
        with self._guard:
            if intent.run_id not in self._runs:
                raise JournalError(f"cannot record intent {intent.id}: run {intent.run_id} was never begun")
            if intent.id in self._intents:
                raise JournalError(f"cannot record intent {intent.id}: its id was used before")
            if intent.request_id in self._request_ids:
                raise JournalError(f"cannot record intent {intent.id}: its request id was used before")
            self._request_ids.add(intent.request_id)
            self._intents[intent.id] = intent
            self._record(intent, intent.created_at, intent.note)
            self._chain(planned_entry(intent))

    def mark(self, intent_id: str, state: IntentState, at: datetime, note: str = "") -> Intent:
        """Move an intent by one legal step and return it as it now is."""
        return self._step(intent_id, (state,), at, note, None)

    def settle(self, intent_id: str, at: datetime, note: str, operator: str) -> Intent:
        """A person closes an intent: it says who and why, and is no longer open. Returns it as it now is."""
        return self._step(intent_id, None, at, note, operator)

    def _step(
        self, intent_id: str, states: Sequence[IntentState] | None, at: datetime, note: str, operator: str | None
    ) -> Intent:
        at = utc(at)
        with self._guard:
            intent = self.get_intent(intent_id)
            for state in steps_to_settle(intent) if states is None else states:
                if state is IntentState.SENDING:
                    self._check_lease(intent.family)
                intent = advance(intent, state, note)
                self._record(intent, at, note)
                self._chain(step_entry(intent, at, note, run_id=self._run_id, operator=operator))
            self._intents[intent_id] = intent
            return intent

    def _record(self, intent: Intent, at: datetime, note: str) -> None:
        self._events.append(IntentEvent(intent.id, utc(at), intent.state, intent.attempts, storable(note)))

    def open_intents(self, family: SubscriptionId | None = None) -> Sequence[Intent]:
        """Intents that are not final (planned, sending, unknown), oldest first; of one family or of all."""
        return self.list_intents(IntentFilter(states=OPEN_STATES, family=family))[::-1]

    def unanswered(self, since: datetime) -> Sequence[Intent]:
        """Intents of all families, sent at or after ``since``, that were ever without an answer, oldest first."""
        with self._guard:
            doubted = {event.intent_id for event in self._events if event.state is IntentState.UNKNOWN}
            own = [
                intent
                for intent in self._sent_since(since)
                if intent.state is IntentState.SENDING or intent.id in doubted
            ]
            before = () if self._source is None else self._source.unanswered(since)
            # One that was on its way there, and was answered here, is in ``own`` if it was ever in doubt.
            waits = [one for one in before if one.state is not IntentState.SENDING or self._still(one)]
            return self._merged(own, waits)

    def _still(self, intent: Intent) -> bool:
        return self._intents.get(intent.id, intent).state is intent.state

    def sent(self, family: SubscriptionId, since: datetime) -> Sequence[Intent]:
        """A family's changes of seats that were sent at or after ``since``, oldest first, whatever they are now."""
        with self._guard:
            own = [
                intent
                for intent in self._sent_since(since)
                if intent.family == family and intent.kind is IntentKind.QUANTITY
            ]
            return self._merged(own, () if self._source is None else self._source.sent(family, since))

    def _merged(self, own: Sequence[Intent], before: Sequence[Intent]) -> Sequence[Intent]:
        """What was found here and in the journal that this one was made from, each as it now is here."""
        found = {intent.id: self._intents.get(intent.id, intent) for intent in (*before, *own)}
        return sorted(found.values(), key=lambda intent: (intent.created_at, intent.id))

    def _sent_since(self, since: datetime) -> Sequence[Intent]:
        since = utc(since)
        sent = {event.intent_id for event in self._events if event.state is IntentState.SENDING and event.at >= since}
        return sorted((self._intents[each] for each in sent), key=lambda intent: (intent.created_at, intent.id))

    def last_confirmed(self, family: SubscriptionId) -> tuple[Intent, datetime] | None:
        """A family's newest change of seats that was confirmed (it may be settled since), and when it was confirmed."""
        with self._guard:
            found = [
                (event.at, number, intent)
                for number, event in enumerate(self._events)
                if event.state is IntentState.CONFIRMED
                and (intent := self._intents[event.intent_id]).family == family
                and intent.kind is IntentKind.QUANTITY
            ]
            before = None if self._source is None else self._source.last_confirmed(family)
        if not found:
            return before
        at, _, newest = max(found, key=lambda each: each[:2])
        return before if before is not None and before[1] > at else (newest, at)

    def note_marker(self, family: SubscriptionId, text: str, at: datetime) -> None:
        """Remember a marker that is about to be written on a family's parent; the last four different ones are kept."""
        utc(at)
        with self._guard:
            self._markers[family] = next_markers(self._markers.get(family, ()), text)

    def noted_markers(self, family: SubscriptionId) -> tuple[str, ...]:
        """The markers that this journal knows to have been written for a family, the newest last."""
        with self._guard:
            return self._markers.get(family, ())

    def markers(self) -> Mapping[SubscriptionId, tuple[str, ...]]:
        """The noted markers of every family."""
        with self._guard:
            return {family: self._markers[family] for family in sorted(self._markers)}

    def list_intents(self, wanted: IntentFilter | None = None) -> Sequence[Intent]:
        """The intents that a filter asks for, newest first."""
        wanted = wanted or IntentFilter()
        with self._guard:
            found = [intent for intent in self._intents.values() if wanted.matches(intent)]
        found.sort(key=lambda intent: (intent.created_at, intent.id), reverse=True)
        return found[: wanted.limit]

    def get_intent(self, intent_id: str) -> Intent:
        """One intent as it now is. Raises JournalError if there is none with that id."""
        with self._guard:
            try:
                return self._intents[intent_id]
            except KeyError:
                raise unknown_intent(intent_id) from None

    def history(self, intent_id: str) -> Sequence[IntentEvent]:
        """The steps of one intent, oldest first; empty if there is no such intent."""
        with self._guard:
            return [event for event in self._events if event.intent_id == intent_id]

    # --- audit -------------------------------------------------------------------------------------------------

    def append(self, entry: AuditEntry) -> None:
        """Append to the audit trail."""
        with self._guard:
            self._chain(entry)

    def _chain(self, entry: AuditEntry) -> None:
        seq = len(self._audit) + 1
        plain = json.loads(canonical_json(entry.detail))
        entry = replace(
            entry, at=utc(entry.at), run_id=storable(entry.run_id), event=storable(entry.event), detail=plain
        )
        previous = self._audit[-1].hash if self._audit else GENESIS
        self._audit.append(ChainedEntry(seq, entry, link(previous, seq, entry)))

    def audit_trail(self, wanted: AuditFilter | None = None) -> Sequence[ChainedEntry]:
        """The audit entries that a filter asks for, oldest first; a limit keeps the newest."""
        wanted = wanted or AuditFilter()
        with self._guard:
            found = [chained for chained in self._audit if wanted.matches(chained.entry)]
        return found if wanted.limit is None else found[max(0, len(found) - wanted.limit) :]

    # --- deferrals and the cache -------------------------------------------------------------------------------

    def defer(self, family: SubscriptionId, until: datetime, reason: str) -> None:
        """Remember that a family must not be tried before an instant; counts the tries until it is cleared."""
        with self._guard:
            before = self._deferrals.get(family)
            tries = 1 if before is None else before.tries + 1
            self._deferrals[family] = Deferral(family, utc(until), storable(reason), tries)

    def deferral(self, family: SubscriptionId) -> tuple[datetime, str] | None:
        """The instant before which a family must not be tried, and why."""
        with self._guard:
            found = self._deferrals.get(family)
        return None if found is None else (found.until, found.reason)

    def clear_deferral(self, family: SubscriptionId) -> None:
        """Forget a deferral (the family was settled)."""
        with self._guard:
            self._deferrals.pop(family, None)

    def deferrals(self) -> Sequence[Deferral]:
        """The families that wait, the one that may be tried first in front."""
        with self._guard:
            return sorted(self._deferrals.values(), key=lambda deferral: (deferral.until, deferral.family))

    def oldest_deferral(self) -> Deferral | None:
        """The deferral whose instant comes (or came) first, None if no family waits."""
        return next(iter(self.deferrals()), None)

    def remember(self, key: str, value: str) -> None:
        """Keep a small cached value."""
        with self._guard:
            self._cache[key] = storable(value)

    def recall(self, key: str) -> str | None:
        """A value kept by :meth:`remember`, or None."""
        with self._guard:
            return self._cache.get(key)

    def cached(self) -> Mapping[str, str]:
        """Every cached value."""
        with self._guard:
            return dict(self._cache)

    # --- leases ------------------------------------------------------------------------------------------------

    @contextmanager
    def lease(self, family: SubscriptionId, holder: str, now: datetime, seconds: float) -> Iterator[None]:
        """Hold one family exclusively for ``seconds`` from ``now``; see :class:`connector.journal.store.SqlJournal`."""
        now, token = utc(now), object()
        with self._guard:
            held = self._leases.get(family)
            if held is not None:
                if held[0].until > now:
                    raise lease_held(family, held[0].holder, held[0].until)
                former = held[0]
                self._chain(taken_over_entry(family, former.holder, former.until, holder, now, self._run_id))
            self._leases[family] = (Lease(family, storable(holder), now + timedelta(seconds=seconds)), token)
            self._held[family] = token
        try:
            yield
        finally:
            with self._guard:
                if self._held.get(family) is token:
                    del self._held[family]
                held = self._leases.get(family)
                if held is not None and held[1] is token:
                    del self._leases[family]

    def _check_lease(self, family: SubscriptionId) -> None:
        token, held = self._held.get(family), self._leases.get(family)
        if token is not None and (held is None or held[1] is not token):
            raise lease_lost(family, "somebody" if held is None else held[0].holder)

    def leases(self) -> Sequence[Lease]:
        """The leases that stand, by family; expired ones included until somebody takes them over."""
        with self._guard:
            return [self._leases[family][0] for family in sorted(self._leases)]

    def drop_leases(self, now: datetime, holder_prefix: str = "") -> Sequence[str]:
        """Drop the leases whose holder's name begins with a prefix, and return their holders."""
        with self._guard:
            dropped = [lease for lease in self.leases() if lease.holder.startswith(holder_prefix)]
            for lease in dropped:
                self._chain(taken_over_entry(lease.family, lease.holder, lease.until, None, now, self._run_id))
                del self._leases[lease.family]
            return [lease.holder for lease in dropped]

    # --- the whole ---------------------------------------------------------------------------------------------

    def export(self) -> Iterator[Mapping[str, object]]:
        """Everything but the cache as plain JSON documents, each with its ``kind``."""
        yield {"kind": "journal", "format": 1, "schema": None}
        yield from (run_document(self._runs[key]) for key in sorted(self._runs))
        yield from (intent_document(self._intents[key]) for key in sorted(self._intents))
        yield from map(event_document, self._events)
        yield from map(chained_document, self._audit)
        yield from (markers_document(family, texts) for family, texts in self.markers().items())
        yield from map(deferral_document, self.deferrals())
        yield from map(lease_document, self.leases())

    def verify(self) -> list[str]:
        """What does not fit together, as sentences; empty if all is well."""
        head = (len(self._audit), self._audit[-1].hash if self._audit else GENESIS)
        trail = follow(self._audit, head)
        return trail.problems + list(compare(trail, ((i, seal(i)) for i in self._intents.values()), self.history))
