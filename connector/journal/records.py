"""The records that a journal keeps beyond those of the port, the filters that find them, and their plain JSON form.

All instants are aware datetimes in UTC. Text is kept as given, except that characters no database can store (NUL, lone
surrogates) are replaced by U+FFFD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from connector.domain.model import SubscriptionId
from connector.errors import JournalError, LockHeld
from connector.sync.ports import AuditEntry, Intent, IntentKind, IntentState, RunInfo

OPEN_STATES = (IntentState.PLANNED, IntentState.SENDING, IntentState.UNKNOWN)
"""States in which it is not yet settled what became of the money write."""


_MARKERS_KEPT = 4


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as the journal knows it; ``ended_at`` is None while it runs, and for ever if its process died."""

    info: RunInfo
    ended_at: datetime | None = None
    exit_code: int | None = None
    report: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IntentEvent:
    """One step in the life of an intent; ``attempts`` counts the sends up to and including this step."""

    intent_id: str
    at: datetime
    state: IntentState
    attempts: int
    note: str


@dataclass(frozen=True, slots=True)
class Deferral:
    """A family that waits until an instant; ``tries`` counts how often it was deferred since it was last settled."""

    family: SubscriptionId
    until: datetime
    reason: str
    tries: int


@dataclass(frozen=True, slots=True)
class Lease:
    """Who works on a family, and until when nobody else may."""

    family: SubscriptionId
    holder: str
    until: datetime


@dataclass(frozen=True, slots=True)
class ChainedEntry:
    """An audit entry at its place: ``seq`` counts from 1 without gaps, ``hash`` seals it and everything before it."""

    seq: int
    entry: AuditEntry
    hash: str


@dataclass(frozen=True, slots=True)
class IntentFilter:
    """Which intents to list; ``since`` is inclusive, ``until`` exclusive, both on ``created_at``; no states: all."""

    states: tuple[IntentState, ...] = ()
    family: SubscriptionId | None = None
    run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None

    def matches(self, intent: Intent) -> bool:
        """Whether an intent is asked for (``limit`` aside)."""
        return (
            (not self.states or intent.state in self.states)
            and self.family in (None, intent.family)
            and self.run_id in (None, intent.run_id)
            and _within(intent.created_at, self.since, self.until)
        )


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which audit entries to show; ``event`` is exact or, ending in a dot, a prefix; ``limit`` keeps the newest."""

    run_id: str | None = None
    family: SubscriptionId | None = None
    intent_id: str | None = None
    event: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None

    def matches(self, entry: AuditEntry) -> bool:
        """Whether an entry is asked for (``limit`` aside)."""
        if self.event is not None:
            same = entry.event.startswith(self.event) if self.event.endswith(".") else entry.event == self.event
            if not same:
                return False
        return (
            self.run_id in (None, entry.run_id)
            and self.family in (None, entry.family)
            and self.intent_id in (None, entry.intent_id)
            and _within(entry.at, self.since, self.until)
        )


def _within(at: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or at >= since) and (until is None or at < until)


def utc(value: datetime) -> datetime:
    """The same instant in UTC. Raises JournalError for a naive datetime: it would name another instant elsewhere."""
    if value.tzinfo is None:
        raise JournalError(f"cannot journal the instant {value.isoformat()}: it has no time zone")
    return value.astimezone(UTC)


def storable(text: str) -> str:
    """Text as both databases can keep it."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def run_document(run: RunRecord) -> dict[str, object]:
    """A run in plain JSON values, as exported."""
    return {
        "kind": "run",
        "id": run.info.id,
        "operator": run.info.operator,
        "command": run.info.command,
        "version": run.info.version,
        "started_at": utc(run.info.started_at).isoformat(),
        "ended_at": None if run.ended_at is None else utc(run.ended_at).isoformat(),
        "exit_code": run.exit_code,
        "report": dict(run.report),
    }


def intent_document(intent: Intent) -> dict[str, object]:
    """An intent in plain JSON values, as exported."""
    return {**sealed_document(intent), "purpose": intent.kind.value, "group": intent.group}


def sealed_document(intent: Intent) -> dict[str, object]:
    """An intent in plain JSON values, as its seal covers it."""
    return {
        "kind": "intent",
        **intent_terms(intent),
        "state": intent.state.value,
        "attempts": intent.attempts,
        "note": intent.note,
    }


def intent_terms(intent: Intent) -> dict[str, object]:
    """The part of an intent that never changes: who, what, from, to, for whom, under which request id.

    Purpose and group are named only where they say something: terms that were sealed before they existed stay the same,
    and no two intents have the same terms all the same.
    """
    terms: dict[str, object] = {
        "id": intent.id,
        "run_id": intent.run_id,
        "family": intent.family,
        "provider": intent.provider,
        "tenant": intent.tenant,
        "provider_subscription": intent.provider_subscription,
        "before": intent.before,
        "target": intent.target,
        "log_ids": list(intent.log_ids),
        "request_id": intent.request_id,
        "created_at": utc(intent.created_at).isoformat(),
    }
    if intent.kind is not IntentKind.QUANTITY:
        terms["purpose"] = intent.kind.value
    if intent.group:
        terms["group"] = intent.group
    return terms


def next_markers(known: Sequence[str], text: str) -> tuple[str, ...]:
    """The markers to keep of a family once another one is noted: the last few different ones, the newest last."""
    text = storable(text)
    return (*(one for one in known if one != text), text)[-_MARKERS_KEPT:]


def markers_document(family: str, texts: Sequence[str]) -> dict[str, object]:
    """The noted markers of a family in plain JSON values, as exported."""
    return {"kind": "markers", "family": family, "texts": list(texts)}


def event_document(event: IntentEvent) -> dict[str, object]:
    """A step of an intent in plain JSON values, as exported."""
    return {
        "kind": "intent_event",
        "intent_id": event.intent_id,
        "at": utc(event.at).isoformat(),
        "state": event.state.value,
        "attempts": event.attempts,
        "note": event.note,
    }


def deferral_document(deferral: Deferral) -> dict[str, object]:
    """A deferral in plain JSON values, as exported."""
    return {
        "kind": "deferral",
        "family": deferral.family,
        "until": utc(deferral.until).isoformat(),
        "reason": deferral.reason,
        "tries": deferral.tries,
    }


def lease_document(lease: Lease) -> dict[str, object]:
    """A lease in plain JSON values, as exported."""
    return {
        "kind": "lease",
        "family": lease.family,
        "holder": lease.holder,
        "until": utc(lease.until).isoformat(),
    }


def lease_held(family: SubscriptionId, holder: str, until: datetime) -> LockHeld:
    """The error for a family that somebody else is working on."""
    return LockHeld(
        f"family {family} is leased to {holder} until {utc(until).isoformat()}",
        holder=holder,
        hint="It is tried again by the next run; a holder that died loses its lease at that instant.",
    )


def lease_lost(family: SubscriptionId, holder: str) -> LockHeld:
    """The error for a family that somebody else took over while this run slept."""
    return LockHeld(
        f"the lease of family {family} ran out meanwhile, and {holder} took the family over",
        holder=holder,
        hint="Nothing was sent. If this happens often, make run.lease longer.",
    )


def unknown_intent(intent_id: str) -> JournalError:
    """The error for an intent id that the journal does not know."""
    return JournalError(f"the journal knows no intent {intent_id}", hint="`linksub journal list` shows those it knows.")
