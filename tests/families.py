"""Small families for the tests of the core: one parent, its children, and their logs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connector.domain.calendar import Calendar
from connector.domain.model import (
    Capabilities,
    LicenseChangeLog,
    LogId,
    LogKind,
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
    policy: Policy | None = None, *, now: datetime = NOW, capabilities: Capabilities | None = AUTOMATIC, room: int = 24
) -> Environment:
    chosen = policy or Policy()
    return Environment(chosen, Calendar.of(chosen, None), now, capabilities, room)
