"""Small families for the tests of the core: one parent, its children, and their logs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connector.domain.calendar import Calendar
from connector.domain.marker import Group, Known, Marker, group_of, since_of
from connector.domain.model import (
    Capabilities,
    LicenseChangeLog,
    LogId,
    LogKind,
    ParentLog,
    ProviderAccount,
    ProviderSubscription,
    ProviderSubscriptionId,
    ProvisioningStatus,
    ReducibleBatch,
    Snapshot,
    Subscription,
    SubscriptionId,
    TenantId,
)
from connector.domain.policy import Policy
from connector.domain.rules.registry import Environment

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
TENANT = TenantId("11111111-1111-4111-8111-111111111111")
ACCOUNT = ProviderAccount("account", "Pine Cone Vet", "pinecone", "csp", TENANT)
AWAITING, FAILED = ProvisioningStatus.AWAITING, ProvisioningStatus.FAILED
PROVISIONED, NOT_APPLICABLE = ProvisioningStatus.PROVISIONED, ProvisioningStatus.NOT_APPLICABLE
AUTOMATIC = Capabilities(reports=True, automatic=True, schedules=True)
MANUAL = Capabilities(reports=False, automatic=False)


def subscription(name: str, quantity: int | None, **changes: Any) -> Subscription:
    row = Subscription(
        SubscriptionId(name),
        name,
        quantity,
        True,
        "linked",
        'W/"1"',
        linked_parent=SubscriptionId("parent"),
        part_number="CFQ7TTC0LFLX:0001",
        customer_id="pinecone",
    )
    return replace(row, **changes)


def parent(quantity: int, **changes: Any) -> Subscription:
    row = subscription(
        "parent",
        quantity,
        provider="partner_center",
        provider_id="csp",
        linked_parent=None,
        provider_account_id="account",
        provider_subscription=ProviderSubscriptionId("bought"),
    )
    return replace(row, **changes)


def log(owner: str, quantity: int | None, *, name: str = "", minutes_ago: int = 5, **changes: Any) -> LicenseChangeLog:
    made = LicenseChangeLog(
        LogId(name or f"{owner}{quantity:+d}" if quantity is not None else name or f"{owner}?"),
        SubscriptionId(owner),
        quantity,
        AWAITING,
        NOW - timedelta(minutes=minutes_ago),
        'W/"1"',
        kind=LogKind.UPDATE,
        customer_id="pinecone",
    )
    return replace(made, **changes)


@dataclass(frozen=True)
class Raise:
    """One raise of the parent as a test says it: what it carries, from which quantity, and whether it takes back.

    Without changes it names all of the raise before it, and ``delta`` says how many seats these are.
    """

    changes: tuple[LicenseChangeLog, ...]
    before: int
    back: bool
    delta: int | None = None
    own: tuple[LicenseChangeLog, ...] = ()

    def group(self, known: Iterable[LicenseChangeLog]) -> Group:
        if not self.changes:
            return Group((), self.delta or 0, self.before, self.back)
        named = {entry.id: entry for entry in (*known, *self.changes)}
        return group_of(self.changes, Known(named.values()), before=self.before, back=self.back, own=self.own)


def raised(*changes: LicenseChangeLog, before: int, own: tuple[LicenseChangeLog, ...] = ()) -> Raise:
    """The raise that carries these changes. ``own``: the logs that the parent had before it."""
    return Raise(changes, before, back=False, own=own)


def taken_back(*changes: LicenseChangeLog, before: int, delta: int | None = None) -> Raise:
    """The take-back of these changes; of the whole raise before it if none is named."""
    return Raise(changes, before, True, delta)


def marker_of(*raises: Raise, kept: str = "", known: Iterable[LicenseChangeLog] = ()) -> Marker:
    """The marker with a group for each raise. ``known``: more logs of the children, which no run may cover by accident."""
    everything = (*known, *(change for one in raises for change in one.changes))
    since = since_of(change for one in raises for change in one.changes)
    return Marker(tuple(one.group(everything) for one in raises), kept, since)


def carrying(
    quantity: int, *raises: Raise, kept: str = "", known: Iterable[LicenseChangeLog] = (), **changes: Any
) -> Subscription:
    """A parent whose row says which changes its raises carry."""
    return parent(quantity, marker_text=str(marker_of(*raises, kept=kept, known=known)), **changes)


def at_provider(quantity: int, *, reducible: int | None = None, **changes: Any) -> ProviderSubscription:
    view = ProviderSubscription(
        ProviderSubscriptionId("bought"),
        TENANT,
        quantity,
        "active",
        part_number="CFQ7TTC0LFLX:0001",
        auto_renew=True,
        commitment_end=datetime(2026, 12, 31, tzinfo=UTC),
        term="P1Y",
        reducible=() if reducible is None else (ReducibleBatch(reducible, NOW + timedelta(days=3)),),
    )
    return replace(view, **changes)


def family(
    the_parent: Subscription | None, *children: Subscription, logs: tuple[LicenseChangeLog, ...] = (), **changes: Any
) -> Snapshot:
    quantity = the_parent.quantity if the_parent is not None else 0
    made = Snapshot(the_parent, children, logs, at_provider(quantity or 0), (ACCOUNT,))
    return replace(made, **changes)


def environment(
    policy: Policy | None = None,
    *,
    now: datetime = NOW,
    capabilities: Capabilities | None = AUTOMATIC,
    room: int = 100,
    parent_log: ParentLog | None = None,
    pushes: bool | None = None,
) -> Environment:
    chosen = policy or Policy()
    return Environment(chosen, Calendar.of(chosen, None), now, capabilities, room, parent_log=parent_log, pushes=pushes)
