"""Resources as Partner Center writes them: names, date formats, links.

Source: Partner Center developer documentation, "Subscription resources", "Customer resources", "SKU resources".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from connector.sandbox.partner_center.subscription import CloudSubscription


@dataclass(frozen=True, slots=True)
class CloudCustomer:
    """A customer of the partner. ``related`` is False once the customer left."""

    tenant: str
    company: str
    domain: str
    related: bool = True


@dataclass(frozen=True, slots=True)
class Sku:
    """What the catalogue says about a product: the pooled limits of its quantity."""

    product_id: str
    sku_id: str
    title: str
    min_quantity: int = 1
    max_quantity: int = 10_000


def link(uri: str, *headers: tuple[str, str]) -> dict[str, object]:
    """A link object; hrefs come without host and version."""
    return {"uri": uri, "method": "GET", "headers": [{"key": key, "value": value} for key, value in headers]}


def subscription_body(sub: CloudSubscription, now: datetime, *, by_id: bool) -> dict[str, Any]:
    """The Subscription resource. Only a read by id tells what may be reduced; null while suspended."""
    body: dict[str, Any] = {
        "id": sub.id,
        "offerId": sub.product_id if sub.legacy else f"{sub.product_id}:{sub.sku_id}:{sub.availability_id}",
        "offerName": sub.offer_name,
        "friendlyName": sub.friendly_name,
    }
    if not sub.legacy:
        body["productType"] = {"id": "OnlineServicesNCE", "displayName": "OnlineServicesNCE"}
    body |= {
        "quantity": sub.quantity,
        "unitType": "Licenses",
        "hasPurchasableAddons": False,
        "creationDate": fine(sub.created, digits=7),
        "effectiveStartDate": fine(sub.effective_start, digits=6),
        "commitmentEndDate": f"{sub.commitment_end.isoformat()}T00:00:00Z",
        "commitmentEndDateTime": f"{sub.commitment_end.isoformat()}T23:59:59Z",
        "cancellationAllowedUntilDate": sub.cancellable_until and fine(sub.cancellable_until, digits=6),
        "billingCycleEndDate": f"{sub.commitment_end.isoformat()}T00:00:00Z",
        "status": sub.status,
        "autoRenewEnabled": sub.auto_renew,
        "isTrial": sub.is_trial,
        "billingType": "license",
        "billingCycle": sub.billing_cycle,
        "termDuration": sub.term,
        "renewalTermDuration": "",
        "refundOptions": [{"type": "Full", "expiresAt": whole(sub.effective_start + timedelta(days=1))}],
        "isMicrosoftProduct": True,
        "partnerId": sub.partner_id,
        "attentionNeeded": False,
        "actionTaken": False,
        "contractType": "subscription",
        "links": _subscription_links(sub),
        "publisherName": "Microsoft Corporation",
        "orderId": sub.order_id,
        "attributes": ({"etag": etag(sub)} if sub.legacy else {}) | {"objectType": "Subscription"},
    }
    if sub.scheduled is not None:
        body["scheduledNextTermInstructions"] = sub.scheduled
    if sub.scheduled_actions is not None:
        body["scheduledActions"] = sub.scheduled_actions
    if sub.next_charge is not None:
        body["nextChargeInstructions"] = sub.next_charge
    if sub.status == "suspended":
        body["suspensionReasons"] = ["CustomerCancellation"]
    if by_id and not sub.legacy:
        body["refundableQuantity"] = None if sub.status == "suspended" else _refundable(sub, now)
    return body


def etag(sub: CloudSubscription) -> str:
    """The ETag of a legacy subscription, without quotes."""
    return f"sandbox-{sub.etag}"


def customer_body(customer: CloudCustomer, *, by_id: bool) -> dict[str, Any]:
    """The Customer resource: the list gives little, a read by id more."""
    body: dict[str, Any] = {
        "id": customer.tenant,
        "companyProfile": {
            "tenantId": customer.tenant,
            "domain": customer.domain,
            "companyName": customer.company,
            "attributes": {"objectType": "CustomerCompanyProfile"},
        },
        "relationshipToPartner": "reseller" if customer.related else "none",
        "attributes": {"objectType": "Customer"},
    }
    if by_id:
        body |= {
            "commerceId": customer.tenant,
            "allowDelegatedAccess": True,
            "customDomains": [customer.domain],
            "links": {"self": link(f"/customers/{customer.tenant}")},
        }
    return body


def collection(items: Sequence[Mapping[str, Any]], links: Mapping[str, Any]) -> dict[str, Any]:
    """A collection resource."""
    return {
        "totalCount": len(items),
        "items": list(items),
        "links": dict(links),
        "attributes": {"objectType": "Collection"},
    }


def sku_body(sku: Sku) -> dict[str, Any]:
    """The SKU resource."""
    path = f"/products/{sku.product_id}/skus/{sku.sku_id}"
    return {
        "id": sku.sku_id,
        "productId": sku.product_id,
        "title": sku.title,
        "description": sku.title,
        "minimumQuantity": sku.min_quantity,
        "maximumQuantity": sku.max_quantity,
        "isTrial": False,
        "supportedBillingCycles": ["annual", "monthly"],
        "purchasePrerequisites": ["MicrosoftCustomerAgreement"],
        "dynamicAttributes": {"isMicrosoftProduct": True, "isAddon": False, "prerequisiteSkus": []},
        "links": {"availabilities": link(f"{path}/availabilities"), "self": link(path)},
        "attributes": {"objectType": "Sku"},
    }


def fine(instant: datetime, *, digits: int) -> str:
    """An instant with six or seven digits after the second, as the service prints most of them."""
    moment = instant.astimezone(UTC)
    fraction = f"{moment.microsecond:06d}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction.ljust(digits, '0')}Z"


def whole(instant: datetime) -> str:
    """An instant with whole seconds."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"


def _refundable(sub: CloudSubscription, now: datetime) -> dict[str, Any]:
    batches = sub.open_batches(now)
    return {
        "totalQuantity": sum(batch.quantity for batch in batches),
        "details": [
            {"quantity": batch.quantity, "allowedUntilDateTime": fine(batch.until, digits=6)} for batch in batches
        ],
    }


def _subscription_links(sub: CloudSubscription) -> dict[str, Any]:
    own = link(f"/customers/{sub.tenant}/subscriptions/{sub.id}")
    if sub.legacy:
        return {"offer": link(f"/offers/{sub.product_id}?country=US"), "self": own}
    product = f"/products/{sub.product_id}"
    return {
        "product": link(f"{product}?country=US"),
        "sku": link(f"{product}/skus/{sub.sku_id}?country=US"),
        "availability": link(f"{product}/skus/{sub.sku_id}/availabilities/{sub.availability_id}?country=US"),
        "self": own,
    }
