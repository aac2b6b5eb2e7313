"""What a pass needs from the outside, as Protocols that the edges implement.

An implementer **must** raise only errors of :mod:`connector.errors`, **must** raise rather than return a partial
answer, **must not** retry a write whose outcome is unknown on its own (the unit of work reads back and decides), and
**should** keep network details (URLs, headers, bodies) to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from connector.domain.model import (
    Capabilities,
    CatalogueEntry,
    LicenseChangeLog,
    LogId,
    NotAtProvider,
    ProviderAccount,
    ProviderSubscription,
    ProviderSubscriptionId,
    ProvisioningStatus,
    ScheduledLicenseChangeLog,
    Snapshot,
    Subscription,
    SubscriptionId,
    TenantId,
)


class Clock(Protocol):
    """Time as the run sees it. In a rehearsal it is the sandbox's clock and waiting moves it."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait. Nothing in linksub calls ``time.sleep`` directly."""


@dataclass(frozen=True, slots=True)
class OpenLogs:
    """What the one query of a poll found: every Awaiting log, and the subscriptions that they belong to."""

    logs: tuple[LicenseChangeLog, ...]
    subscriptions: Mapping[SubscriptionId, Subscription]


@dataclass(frozen=True, slots=True)
class FamilyRows:
    """Everything in Dataverse for the asked families, read set-wise. All pages, or the read raised."""

    subscriptions: Mapping[SubscriptionId, Subscription]
    children: Mapping[SubscriptionId, tuple[Subscription, ...]]
    """Linked parent id → every subscription that names it as linked parent, whatever its state or provider."""
    logs: Mapping[SubscriptionId, tuple[LicenseChangeLog, ...]]
    accounts: tuple[ProviderAccount, ...]
    scheduled: Mapping[SubscriptionId, tuple[ScheduledLicenseChangeLog, ...]]
    catalogue: tuple[CatalogueEntry, ...] = ()
    moved: frozenset[SubscriptionId] = frozenset()
    """Subscriptions that changed while their logs were read: what was read of them does not belong together."""
    in_rounds: bool = False
    """Whether one request was not enough, because the family is not the one that was known."""


@dataclass(frozen=True, slots=True)
class CrmSettings:
    """Settings that the CRM holds. ``time_zone`` is an IANA name or None; a None zone means UTC (design §4, S4)."""

    time_zone: str | None
    kill_switch: str | None
    marker_length: int
    """How many UTF-16 units a marker may have: those of its own column, else of the shorter Order Reference."""
    message_length: int
    linked_subscriptions: int | None = None
    """How many subscriptions are linked to a parent, at most 5,000; None if nobody asked."""
    marker_is_shared: bool = True
    """Whether the marker stands in Order Reference, where a person may have written something."""
    marked_parents: tuple[SubscriptionId, ...] = ()
    """Subscriptions that carry a marker: something was begun there, though it may be that no log is open any more."""


@dataclass(frozen=True, slots=True)
class LogUpdate:
    """One conditional change of a licence change log's provisioning columns; ``etag`` fences it."""

    log_id: LogId
    etag: str
    status: ProvisioningStatus
    message: str | None = None
    provisioned_on: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewLog:
    """A parent's own licence change log that we make where the CRM makes none. ``quantity`` is a signed delta.

    Its id is chosen by us, so that it is made once: a row of that id that is there already fails the whole change.
    """

    id: LogId
    subscription: SubscriptionId
    customer_id: str | None
    quantity: int
    name: str
    order_reference: str | None


@dataclass(frozen=True, slots=True)
class FamilyChange:
    """One atomic change set: the parent's row first (its version is the family's fence), then logs, all or nothing.

    ``parent`` is None only for a family without one. ``quantity`` is its new absolute quantity. ``marker`` is the text
    for the marker's column: "" empties it, None writes its present text again, which still moves the row's version.
    """

    parent: Subscription | None
    quantity: int | None = None
    marker: str | None = None
    updates: tuple[LogUpdate, ...] = ()
    new_log: NewLog | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A subscription that a person may have meant; ``log_id`` is set when they named one of its licence change logs."""

    subscription: Subscription
    log_id: LogId | None = None


class Crm(Protocol):
    """Dataverse as the pass sees it. Reads return domain values; writes are conditional on an ETag."""

    def settings(self) -> CrmSettings:
        """Settings held by the CRM (one read per run, together with the metadata that the mapping needs)."""

    def find_open_logs(self) -> OpenLogs:
        """One query (plus its pages): all Awaiting logs with the subscriptions they belong to."""

    def load_families(self, parents: Iterable[SubscriptionId], singles: Iterable[SubscriptionId] = ()) -> FamilyRows:
        """A few set-wise queries that read the given families whole.

        ``parents`` are read with every subscription linked to them; ``singles`` are read by themselves. For all of
        them: open logs, the parents' logs created since the oldest open child log, Create logs, pending scheduled
        changes; for the parents: bundle parents and the provider accounts of their customers.
        """

    def load_children_of(
        self, candidates: Iterable[SubscriptionId]
    ) -> Mapping[SubscriptionId, tuple[SubscriptionId, ...]]:
        """Which of the candidates are linked parents, and whose: linked parent id → ids of what is linked to it."""

    def find_subscriptions(self, text: str, most: int) -> Sequence[Match]:
        """At most ``most`` subscriptions that a person may mean: by a primary key (their own, or that of one of their
        licence change logs), else by a part of the name; those whose whole name it is come first."""

    def read_again(self, known: Snapshot) -> FamilyRows:
        """One family whole, as :meth:`load_families` reads it, in one request as long as the same rows belong to it.

        What moved while it was read is in ``moved``.
        """

    def commit(self, change: FamilyChange, then_read: Snapshot | None = None) -> FamilyRows | None:
        """Write one family all or nothing and, if ``then_read`` knows it, read it again in the same request.

        Raises PreconditionFailed when a row moved, Rejected and Transient when nothing was done, ProtocolError when
        nothing was sent, OutcomeUnknown when it cannot be seen whether it was done. Returns None when it was done and
        the family has to be read by :meth:`read_again`: not asked, not answered whole, or other rows belong to it now.
        """


class Fulfilment(Protocol):
    """A provider that reports and sets quantities (the far side of a parent). One per provider plug-in."""

    def list_subscriptions(self, tenant: TenantId) -> Mapping[ProviderSubscriptionId, ProviderSubscription]:
        """One list per customer: all life-cycle states, complete or raised. May lack ``reducible``."""

    def get_subscription(
        self, tenant: TenantId, subscription_id: ProviderSubscriptionId
    ) -> ProviderSubscription | NotAtProvider:
        """One subscription, with everything that the provider says about it."""

    def set_quantity(
        self,
        tenant: TenantId,
        subscription_id: ProviderSubscriptionId,
        *,
        expected: ProviderSubscription,
        quantity: int,
        request_id: str,
    ) -> ProviderSubscription | None:
        """Set the absolute quantity by sending the whole resource back with one field changed.

        ``expected`` is what :meth:`get_subscription` returned just before (the adapter keeps the full body that it
        read with it, unknown fields included). Exactly one attempt, carrying ``request_id`` (``MS-RequestId``).
        Returns the resource when the answer shows it complete, None when the answer was 202 or bodiless and a read
        must confirm. Raises Rejected (final), Transient (definitely not done), OutcomeUnknown (read back).
        """


@runtime_checkable
class SchedulesRenewal(Protocol):
    """What a Fulfilment **may** offer besides: changes that take place at the renewal. ``capabilities.schedules`` says so.

    A change of seats may delete what is scheduled, so it is read before and written back after, moved by the same seats.
    """

    def scheduled_change(self, tenant: TenantId, subscription_id: ProviderSubscriptionId) -> str | None:
        """What is scheduled in the last subscription read, as a text to keep; None when nothing is."""

    def keep_scheduled_change(
        self,
        tenant: TenantId,
        subscription_id: ProviderSubscriptionId,
        kept: str,
        delta: int,
        request_id: str,
        *,
        seats: int,
    ) -> ProviderSubscription | None:
        """Write a kept scheduled change back, moved by ``delta`` seats; None when that leaves less than one seat.

        ``seats`` is what the subscription has: a write that carries its quantity carries that one, or is not sent.
        Writes nothing when it is there already. Raises what a write raises; any error means that it is lost.
        """

    def schedule_quantity(
        self, tenant: TenantId, subscription_id: ProviderSubscriptionId, quantity: int, request_id: str, *, seats: int
    ) -> ProviderSubscription:
        """Let the renewal bring the subscription to ``quantity`` seats, product and term unchanged; ``seats`` as above."""


@dataclass(frozen=True, slots=True)
class ProviderHandle:
    """One provider plug-in as a pass sees it. ``fulfilment`` is None when a person provisions, or nobody."""

    key: str
    title: str
    capabilities: Capabilities
    fulfilment: Fulfilment | None = None


class IntentState(StrEnum):
    """Life of one money write. ``UNKNOWN`` may become any of the final states once it was read back."""

    PLANNED = "planned"
    SENDING = "sending"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    SETTLED = "settled"


class IntentKind(StrEnum):
    """What a money write is for: a change of seats, or only what is scheduled for the renewal (it carries the seats)."""

    QUANTITY = "quantity"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True)
class Intent:
    """One money write: set ``provider_subscription`` from ``before`` to ``target`` seats.

    Durable before the first byte is sent, and sent once at most. ``request_id`` is the ``MS-RequestId`` of that one
    sending. ``log_ids`` are the child logs that the target carries; ``group`` is the text of the marker's group that the
    purchase belongs to, which the journal keeps and does not read.
    """

    id: str
    run_id: str
    family: SubscriptionId
    provider: str
    tenant: TenantId
    provider_subscription: ProviderSubscriptionId
    before: int
    target: int
    log_ids: tuple[LogId, ...]
    request_id: str
    created_at: datetime
    state: IntentState = IntentState.PLANNED
    attempts: int = 0
    note: str = ""
    kind: IntentKind = IntentKind.QUANTITY
    group: str = ""

    @property
    def is_without_answer(self) -> bool:
        """Whether it was sent, and nobody knows yet what came of it."""
        return self.state in (IntentState.SENDING, IntentState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Who runs what: attribution of every entry of the audit trail. ``operator`` is ``user@host``."""

    id: str
    operator: str
    command: str
    started_at: datetime
    version: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the append-only audit trail. ``detail`` holds plain JSON values, never secrets."""

    at: datetime
    run_id: str
    event: str
    family: SubscriptionId | None = None
    intent_id: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


class Journal(Protocol):
    """What was intended, sent and confirmed. Losing it may cost requests, never a wrong or doubled change.

    Every method that records **must** be durable when it returns, or raise JournalError.
    """

    def begin_run(self, run: RunInfo) -> None:
        """Record that a run started."""

    def end_run(self, run_id: str, at: datetime, exit_code: int, report: Mapping[str, object]) -> None:
        """Record how a run ended, with its machine-readable report."""

    def plan(self, intent: Intent) -> None:
        """Record an intent in state ``planned``."""

    def mark(self, intent_id: str, state: IntentState, at: datetime, note: str = "") -> Intent:
        """Move an intent to a state (``sending`` also counts the attempt) and return it as it now is."""

    def open_intents(self, family: SubscriptionId | None = None) -> Sequence[Intent]:
        """Intents that are not final (planned, sending, unknown), oldest first; of one family or of all."""

    def unanswered(self, since: datetime) -> Sequence[Intent]:
        """Intents of all families, sent at or after ``since``, that were ever without an answer, oldest first.

        Those that are ``sending`` now, and those that were ``unknown`` at any time, whatever they are now.
        """

    def sent(self, family: SubscriptionId, since: datetime) -> Sequence[Intent]:
        """A family's changes of seats that were sent at or after ``since``, oldest first, whatever they are now."""

    def last_confirmed(self, family: SubscriptionId) -> tuple[Intent, datetime] | None:
        """A family's newest change of seats that was confirmed (it may be settled since), and when it was confirmed."""

    def note_marker(self, family: SubscriptionId, text: str, at: datetime) -> None:
        """Remember a marker that is about to be written on a family's parent; the last four different ones are kept."""

    def noted_markers(self, family: SubscriptionId) -> tuple[str, ...]:
        """The markers that this journal knows to have been written for a family, the newest last."""

    def append(self, entry: AuditEntry) -> None:
        """Append to the audit trail."""

    def defer(self, family: SubscriptionId, until: datetime, reason: str) -> None:
        """Remember that a family must not be tried before an instant."""

    def deferral(self, family: SubscriptionId) -> tuple[datetime, str] | None:
        """The instant before which a family must not be tried, and why."""

    def clear_deferral(self, family: SubscriptionId) -> None:
        """Forget a deferral (the family was settled)."""

    def lease(self, family: SubscriptionId, holder: str, now: datetime, seconds: float) -> AbstractContextManager[None]:
        """Hold one family exclusively for a while. Raises LockHeld (naming the holder) if somebody else does."""

    def remember(self, key: str, value: str) -> None:
        """Keep a small cached value (a metadata cache, a baseline count)."""

    def recall(self, key: str) -> str | None:
        """A value kept by :meth:`remember`, or None."""

    def cached(self) -> Mapping[str, str]:
        """Everything kept by :meth:`remember`."""
