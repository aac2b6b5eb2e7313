"""Gather: find the families that have something to do, and read just those, whole.

The number of requests grows with these families and never with the organisation: one query finds the open logs, a few
set-wise ones read the families, and one list per customer reads the provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from connector.domain.calendar import Calendar
from connector.domain.marker import carries_anything
from connector.domain.model import (
    NotAtProvider,
    NotReported,
    ProviderSubscription,
    ProviderSubscriptionId,
    ProviderView,
    Snapshot,
    Subscription,
    SubscriptionId,
    TenantId,
    Unreadable,
)
from connector.domain.rules.accounts import account_of
from connector.domain.seats import LINKED, moves_seats
from connector.errors import ProtocolError, Rejected, Transient
from connector.sync.ports import Crm, FamilyRows, Fulfilment, OpenLogs, ProviderHandle

Providers = Mapping[str, ProviderHandle]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Selection:
    """Ids of the families to look at: linked parents, and children that have no parent to be read with."""

    parents: tuple[SubscriptionId, ...]
    singles: tuple[SubscriptionId, ...]


def select(crm: Crm, found: OpenLogs, besides: Iterable[SubscriptionId] = ()) -> Selection:
    """Families that own an Awaiting log: through a linked child, or through the linked parent itself.

    ``besides`` are parents that are looked at whatever is open: their row carries a marker, or the journal watches them.
    """
    parents: set[SubscriptionId] = set(besides)
    singles: set[SubscriptionId] = set()
    candidates: set[SubscriptionId] = set()
    for log in found.logs:
        owner = found.subscriptions.get(log.subscription_id)
        if owner is None:
            continue
        if owner.provider != LINKED:
            candidates.add(owner.id)
        elif owner.linked_parent is None:
            singles.add(owner.id)
        else:
            parents.add(owner.linked_parent)
    undecided = candidates - parents
    if undecided:
        parents |= {parent for parent, children in crm.load_children_of(sorted(undecided)).items() if children}
    return Selection(tuple(sorted(parents)), tuple(sorted(singles)))


def selection_for(family: Snapshot) -> Selection:
    """How one family is read again."""
    if family.parent is not None:
        return Selection((family.parent.id,), ())
    child = family.children[0]
    return Selection((child.linked_parent,), ()) if child.linked_parent is not None else Selection((), (child.id,))


def snapshots(rows: FamilyRows, selection: Selection) -> tuple[Snapshot, ...]:
    """The families as snapshots, still without the provider's word."""
    built: list[Snapshot] = []
    for parent_id in selection.parents:
        parent = rows.subscriptions.get(parent_id)
        children = rows.children.get(parent_id, ())
        if parent is None and not children:
            continue
        built.append(_snapshot(rows, parent, children))
    for single in selection.singles:
        row = rows.subscriptions.get(single)
        if row is not None:
            built.append(_snapshot(rows, None, (row,)))
    return tuple(built)


def _snapshot(rows: FamilyRows, parent: Subscription | None, children: Sequence[Subscription]) -> Snapshot:
    members = dict.fromkeys([*([parent.id] if parent else []), *(child.id for child in children)])
    # A row that is new here may have joined any family: its own linked parent is not known to this reader.
    moved = any(key in members or key not in rows.subscriptions for key in rows.moved)
    logs = tuple(log for member in members for log in rows.logs.get(member, ()))
    scheduled = tuple(entry for member in members for entry in rows.scheduled.get(member, ()))
    bases: list[Subscription] = []
    step = parent
    while step is not None and step.bundle_parent is not None and len(bases) < 3:
        step = rows.subscriptions.get(step.bundle_parent)
        if step is None or step in bases:
            break
        bases.append(step)
    base_logs = tuple(log for base in bases for log in rows.logs.get(base.id, ()))
    return Snapshot(
        parent=parent,
        children=tuple(children),
        logs=logs,
        provider=NotReported(),
        accounts=rows.accounts,
        scheduled=scheduled,
        bases=tuple(bases),
        base_logs=base_logs,
        incomplete="it was changed while it was read" if moved else None,
        catalogue=tuple(
            entry for entry in rows.catalogue if parent is not None and entry.product_id == parent.product_id
        ),
    )


def has_something_due(snapshot: Snapshot, calendar: Calendar, now: datetime) -> bool:
    """Whether the provider's word is needed: an open parent log, a marker, or a child log whose time has come."""
    parent = snapshot.parent
    if parent is None:
        return False
    return carries_anything(parent.marker_text) or any(
        log.is_open
        and (log.subscription_id == parent.id or (log.is_awaiting and moves_seats(log) and calendar.is_due(log, now)))
        for log in snapshot.logs
    )


def tenant_of(snapshot: Snapshot) -> TenantId | None:
    """The tenant that the family is provisioned in; None if rules will refuse it anyway."""
    if snapshot.parent is None:
        return None
    account = account_of(snapshot)
    return None if isinstance(account, str) else account.tenant


def fulfilment_of(snapshot: Snapshot, providers: Providers) -> Fulfilment | None:
    """The adapter of the parent's provider, if it reports."""
    if snapshot.parent is None or snapshot.parent.provider is None:
        return None
    handle = providers.get(snapshot.parent.provider)
    return handle.fulfilment if handle is not None and handle.capabilities.reports else None


def read_providers(
    families: Iterable[Snapshot], providers: Providers, *, parallel: int, needed: Callable[[Snapshot], bool]
) -> tuple[Snapshot, ...]:
    """The snapshots with the provider's word: one list per customer, and single reads where seats may be given back.

    The list does not say which seats may be reduced, so families with an open decrease are read one by one as well.
    """
    wanted = list(families)
    lists: dict[tuple[str, TenantId], Fulfilment] = {}
    for family in wanted:
        fulfilment, tenant = fulfilment_of(family, providers), tenant_of(family)
        if fulfilment is not None and tenant is not None and needed(family):
            assert family.parent is not None and family.parent.provider is not None
            lists[(family.parent.provider, tenant)] = fulfilment
    keys = sorted(lists)
    views = dict(zip(keys, _in_parallel(lambda key: _list(lists[key], key[1]), keys, parallel), strict=True))

    def complete(family: Snapshot) -> Snapshot:
        fulfilment, tenant = fulfilment_of(family, providers), tenant_of(family)
        if fulfilment is None or tenant is None or not needed(family):
            return family
        assert family.parent is not None and family.parent.provider is not None
        listed = views[(family.parent.provider, tenant)]
        view = _find(family.parent, listed)
        at_customer = tuple(listed.values()) if isinstance(listed, Mapping) else ()
        if isinstance(view, ProviderSubscription) and view.reducible is None and _may_decrease(family):
            view = read_one(fulfilment, tenant, view.id)
        return replace(family, provider=view, at_customer=at_customer)

    return tuple(_in_parallel(complete, wanted, parallel))


def _may_decrease(family: Snapshot) -> bool:
    return any(log.is_open and (log.quantity or 0) < 0 for log in family.logs)


def read_one(fulfilment: Fulfilment, tenant: TenantId, subscription_id: ProviderSubscriptionId) -> ProviderView:
    """One subscription as the provider has it now; a failure to read is a value, since it stops this family only."""
    try:
        return fulfilment.get_subscription(tenant, subscription_id)
    except Transient as error:
        return Unreadable(str(error), retryable=True)
    except (Rejected, ProtocolError) as error:
        return Unreadable(str(error), retryable=False)


def _list(
    fulfilment: Fulfilment, tenant: TenantId
) -> Mapping[ProviderSubscriptionId, ProviderSubscription] | Unreadable | NotAtProvider:
    try:
        return fulfilment.list_subscriptions(tenant)
    except Transient as error:
        return Unreadable(str(error), retryable=True)
    except Rejected as error:
        if error.status == 404:
            return NotAtProvider(f"the provider does not know the tenant {tenant}: {error.text or error}")
        return Unreadable(str(error), retryable=False)
    except ProtocolError as error:
        return Unreadable(str(error), retryable=False)


def _find(
    parent: Subscription, listed: Mapping[ProviderSubscriptionId, ProviderSubscription] | Unreadable | NotAtProvider
) -> ProviderView:
    if isinstance(listed, Unreadable | NotAtProvider):
        return listed
    if parent.provider_subscription is not None:
        view = listed.get(parent.provider_subscription)
        if view is not None:
            return view
    same_sku = [view for view in listed.values() if view.part_number and view.part_number == parent.part_number]
    if not same_sku:
        return NotAtProvider("the tenant has no subscription of this SKU")
    ids = ", ".join(
        f"{view.id} ({view.status}, {view.quantity} seats)" for view in sorted(same_sku, key=lambda v: v.id)
    )
    return NotAtProvider(f"the tenant has {len(same_sku)} of this SKU, to choose from: {ids}")


def _in_parallel(function: Callable[[T], R], items: Sequence[T], parallel: int) -> list[R]:
    if parallel <= 1 or len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(parallel, len(items)), thread_name_prefix="read") as pool:
        return list(pool.map(function, items))
