"""The provider's half of a scenario's world: what was bought, when, and until when it runs."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from connector.sandbox.aliases import guid
from connector.sandbox.grammar import AtProvider, CloudValues, SubscriptionSpec
from connector.sandbox.partner_center.subscription import REDUCTION_WINDOW, Batch, CloudSubscription, term_end

BOUGHT_BEFORE = {"P1M": timedelta(days=10), "P1Y": timedelta(days=30), "P3Y": timedelta(days=30)}


def created_on(spec: SubscriptionSpec, clock: datetime) -> datetime:
    """When the subscription began: as given, else long enough ago that the first seats are no longer reducible."""
    if spec.created_on is not None:
        return spec.created_on
    term = spec.at_provider.term if spec.at_provider is not None else None
    return clock - BOUGHT_BEFORE[term or "P1Y"]


def commitment_end(spec: SubscriptionSpec, parent: SubscriptionSpec | None, clock: datetime) -> date | None:
    """The last day of the term: of the subscription itself if it was bought, else of its linked parent."""
    bought = spec if spec.at_provider is not None else parent
    if bought is None or bought.at_provider is None:
        return None
    if bought.at_provider.commitment_end is not None:
        return bought.at_provider.commitment_end
    term = bought.at_provider.term or "P1Y"
    end = term_end(created_on(bought, clock).date(), term)
    while end < clock.date():
        end = term_end(end + timedelta(days=1), term)
    return end


def bought_subscription(spec: SubscriptionSpec, at: AtProvider, tenant: str, clock: datetime) -> CloudSubscription:
    """The subscription as the provider has it. ``tenant`` is the customer's unless the scenario says otherwise."""
    created = created_on(spec, clock)
    product, _, sku = (at.part_number or spec.part_number or "CFQ7TTC0SAND:0001").partition(":")
    end = commitment_end(spec, None, clock)
    sub = CloudSubscription(
        id=at.id or guid("at_provider", spec.id),
        tenant=at.tenant or tenant,
        product_id=product,
        sku_id=sku.partition(":")[0] or "0001",
        availability_id="CFQ7TTC0K971",
        offer_name=spec.product or spec.id,
        friendly_name=spec.product or spec.id,
        quantity=at.quantity if at.quantity is not None else spec.quantity or 0,
        created=created,
        effective_start=created,
        commitment_end=end if end is not None else clock.date(),
        order_id=guid("order", spec.id).replace("-", "")[:12],
        legacy=at.legacy,
        cancellable_until=created + REDUCTION_WINDOW,
        is_trial=bool(spec.trial if at.trial is None else at.trial),
    )
    if clock - created < REDUCTION_WINDOW:
        sub.batches = [Batch(sub.quantity, created + REDUCTION_WINDOW)]
    apply_cloud_values(sub, at, clock)
    return sub


def apply_cloud_values(sub: CloudSubscription, values: CloudValues, now: datetime) -> None:
    """Write what a scenario says about the provider's side into a subscription, rules or no rules."""
    given = values.model_fields_set
    if values.quantity is not None and values.quantity != sub.quantity:
        sub.change_quantity(values.quantity, now)
    if values.term is not None:
        sub.term = values.term
    if values.commitment_end is not None:
        sub.commitment_end = values.commitment_end
    if values.status is not None and values.status != sub.status:
        if values.status == "suspended":
            sub.suspend()
        sub.status = values.status
        if values.status in ("expired", "disabled", "deleted"):
            sub.auto_renew = False
    if values.auto_renew is not None:
        sub.auto_renew = values.auto_renew
        if not values.auto_renew:
            sub.scheduled = None
    if values.trial is not None:
        sub.is_trial = values.trial
    if "max_quantity" in given:
        sub.max_quantity = values.max_quantity
    if values.updates is not None:
        sub.updates = values.updates
    if values.friendly_name is not None:
        sub.friendly_name = values.friendly_name
    if values.batches is not None:
        sub.batches = [Batch(batch.quantity, batch.until) for batch in values.batches]
        sub.batches.sort(key=lambda batch: batch.until)
    if "scheduled" in given:
        sub.scheduled = None if values.scheduled is None else _instructions(sub, values.scheduled.quantity, values)


def _instructions(sub: CloudSubscription, quantity: int, values: CloudValues) -> dict[str, Any]:
    term = values.scheduled.term if values.scheduled is not None else None
    return {
        "product": {
            "productId": sub.product_id,
            "skuId": sub.sku_id,
            "availabilityId": sub.availability_id,
            "billingCycle": sub.billing_cycle,
            "termDuration": term or sub.term,
        },
        "quantity": quantity,
        "customTermEndDate": None,
    }
