"""Partner Center's Subscription resource ⇄ the domain: pure readings of a JSON object.

Source: Microsoft's "Subscription resources", "Change the quantity of a subscription" and "Create scheduled changes".
Instants are UTC. What the resource does not say stays None and is never read as zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from connector.domain.model import ProviderSubscription, ProviderSubscriptionId, ReducibleBatch, TenantId
from connector.providers.partner_center.schedule import read_schedule

Resource = Mapping[str, Any]
"""A Subscription resource as it came, with every field that we do not know."""

_INSTANT = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:T?(?P<time>\d{2}:\d{2}:\d{2})(?:\.(?P<fraction>\d+))?)?"
    r"(?P<zone>Z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)


def parse_instant(value: object) -> datetime | None:
    """An instant as Partner Center prints it, aware and in UTC; None for anything that is not one.

    Fractions of a second have up to seven digits (cut to six), a missing zone means UTC, and older answers have blanks
    inside (``2015-11-25T06: 41: 12Z``). The year 1 is how the service writes "no date".
    """
    if not isinstance(value, str):
        return None
    match = _INSTANT.fullmatch("".join(value.split()))
    if match is None:
        return None
    fraction = (match["fraction"] or "").ljust(6, "0")[:6]
    try:
        naive = datetime.fromisoformat(f"{match['date']}T{match['time'] or '00:00:00'}.{fraction}")
        instant = naive.replace(tzinfo=_zone(match["zone"])).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant if instant.year > 1 else None


def _zone(text: str | None) -> timezone:
    if text is None or text in "Zz":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))


def whole(value: object) -> int | None:
    """A JSON number that is a whole count of at least zero, or None (true and false are not counts)."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


MOST_SEATS = 2**31 - 1


def outgoing(resource: Resource, seats: int) -> Resource:
    """The one way in which a body that carries seats leaves: whole, at least one, and those that the decision names.

    Everything that is sent back was read from the service, and an odd read (60.0, "60", true, null, −5) must never go out
    as an order. Raises ValueError.
    """
    found = resource.get("quantity")
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= MOST_SEATS:
        raise ValueError(f"{found!r} is no number of seats that can be ordered")
    if isinstance(seats, bool) or found != seats:
        raise ValueError(f"the body carries {found} seats and the decision names {seats}")
    return resource


def is_new_commerce(resource: Resource) -> bool:
    """Whether the subscription belongs to the new commerce: its offer is ``product:sku:availability``, not a GUID."""
    product_type = resource.get("productType")
    type_id = product_type.get("id") if isinstance(product_type, Mapping) else None
    return ":" in str(resource.get("offerId") or "") or (isinstance(type_id, str) and type_id.upper().endswith("NCE"))


def part_number(resource: Resource) -> str | None:
    """Work 365's Provider Part Number: ``product:sku`` of the offer, or the whole offer id of the old commerce.

    The third part, the availability, changes over time and identifies nothing.
    """
    offer = resource.get("offerId")
    if not isinstance(offer, str) or not offer.strip():
        return None
    return ":".join(offer.strip().split(":")[:2])


def reducible_batches(resource: Resource) -> tuple[ReducibleBatch, ...] | None:
    """Seats that may be given back now, by batch; None when the provider did not say, () when it said none.

    A total without batches becomes one batch without a deadline. A batch that makes no sense makes the whole unsaid.
    """
    refundable = resource.get("refundableQuantity")
    if not isinstance(refundable, Mapping):
        return None
    details = refundable.get("details")
    if isinstance(details, list) and details:
        batches = []
        for detail in details:
            quantity = whole(detail.get("quantity")) if isinstance(detail, Mapping) else None
            if quantity is None:
                return None
            if quantity > 0:
                batches.append(ReducibleBatch(quantity, parse_instant(detail.get("allowedUntilDateTime"))))
        return tuple(batches)
    total = whole(refundable.get("totalQuantity"))
    if total is None:
        return None
    return (ReducibleBatch(total, None),) if total else ()


def commitment_end(resource: Resource) -> datetime | None:
    """The last instant of the term. A bare end *day* is inclusive in the new commerce and exclusive in the old one."""
    exact = parse_instant(resource.get("commitmentEndDateTime"))
    if exact is not None:
        return exact
    day = parse_instant(resource.get("commitmentEndDate"))
    if day is None or not is_new_commerce(resource) or (day.hour, day.minute, day.second) != (0, 0, 0):
        return day
    return day.replace(hour=23, minute=59, second=59, microsecond=0)


def etag(resource: Resource) -> str | None:
    """The resource's ETag in double quotes, ready for ``If-Match``; None when it carries none (the new commerce)."""
    attributes = resource.get("attributes")
    value = attributes.get("etag") if isinstance(attributes, Mapping) else None
    if not isinstance(value, str) or not value.strip().strip('"'):
        return None
    tag = value.strip()
    return tag if tag.endswith('"') else f'"{tag}"'


def _term(resource: Resource) -> str | None:
    value = resource.get("termDuration")
    return (value.strip().upper() or None) if isinstance(value, str) else None


def renews(resource: Resource) -> bool | None:
    """Whether the subscription renews by itself; None if the resource does not say."""
    value = resource.get("autoRenewEnabled")
    return value if isinstance(value, bool) else None


def read_subscription(resource: object, tenant: TenantId) -> ProviderSubscription:
    """The part of a Subscription resource that rules look at.

    Raises ValueError, saying what is missing, when it has no id, no whole quantity or no status.
    """
    if not isinstance(resource, Mapping):
        raise ValueError("the resource is not a JSON object")
    identity = resource.get("id")
    if not isinstance(identity, str) or not identity.strip():
        raise ValueError("the resource has no id")
    quantity = whole(resource.get("quantity"))
    if quantity is None:
        raise ValueError(f"subscription {identity} has no usable quantity: {resource.get('quantity')!r}")
    status = resource.get("status")
    if not isinstance(status, str) or not status.strip():
        raise ValueError(f"subscription {identity} has no status")
    schedule = read_schedule(resource)
    return ProviderSubscription(
        id=ProviderSubscriptionId(identity.strip().lower()),
        tenant=tenant,
        quantity=quantity,
        status=status.strip().lower(),
        part_number=part_number(resource),
        auto_renew=renews(resource),
        is_trial=resource.get("isTrial") is True,
        commitment_end=commitment_end(resource),
        term=_term(resource),
        reducible=reducible_batches(resource),
        has_scheduled_change=schedule is not None,
        scheduled_quantity=schedule.quantity if schedule is not None else None,
        cancellable_until=parse_instant(resource.get("cancellationAllowedUntilDate")),
    )
