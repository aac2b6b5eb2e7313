"""A subscription at the provider and what may be done to it.

Source: Partner Center developer documentation, "Update a subscription by ID", "Change the quantity of a subscription",
"Create scheduled changes", "Subscription lifecycle" and "Manage customer subscriptions".
"""

from __future__ import annotations

import calendar
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from connector.sandbox.partner_center.answers import (
    Refused,
    cannot_decrease,
    invalid_property,
    not_ready,
    updated_too_often,
)

REDUCTION_WINDOW = timedelta(days=7)
MAX_UPDATES = 1200
LIVE = frozenset({"active", "suspended"})
WRITABLE = frozenset(
    {
        "quantity",
        "status",
        "friendlyname",
        "autorenewenabled",
        "schedulednextterminstructions",
        "scheduledactions",
        "nextchargeinstructions",
    }
)
"""Lower-case names of what a PATCH can change; everything else in its body is accepted and has no effect."""
TERM_MONTHS = {"P1M": 1, "P1Y": 12, "P3Y": 36}


@dataclass(slots=True)
class Batch:
    """Seats that came together and may go again until an instant."""

    quantity: int
    until: datetime


@dataclass(slots=True)
class CloudSubscription:
    """One subscription as Partner Center keeps it. ``commitment_end`` is the last day of the term, inclusive, in UTC.

    ``scheduled`` is the raw ``scheduledNextTermInstructions``. ``updates`` counts every accepted change.
    ``renewing_since`` is set while a renewal is under way. A ``legacy`` subscription predates new commerce: it has an
    ETag, no seven-day batches and may always be reduced.
    """

    id: str
    tenant: str
    product_id: str
    sku_id: str
    availability_id: str
    offer_name: str
    friendly_name: str
    quantity: int
    created: datetime
    effective_start: datetime
    commitment_end: date
    order_id: str
    term: str = "P1Y"
    billing_cycle: str = "monthly"
    status: str = "active"
    auto_renew: bool = True
    is_trial: bool = False
    batches: list[Batch] = field(default_factory=list)
    cancellable_until: datetime | None = None
    scheduled: dict[str, Any] | None = None
    scheduled_actions: list[Any] | None = None
    next_charge: dict[str, Any] | None = None
    partner_id: str = ""
    updates: int = 0
    min_quantity: int = 1
    max_quantity: int | None = None
    legacy: bool = False
    etag: int = 1
    renewing_since: datetime | None = None

    def open_batches(self, now: datetime) -> list[Batch]:
        """The batches that may be reduced now, oldest first."""
        return [batch for batch in self.batches if batch.until >= now and batch.quantity > 0]

    def renewal_instant(self) -> datetime:
        """When the renewal begins: midnight UTC after the last, inclusive, day of the term."""
        return datetime.combine(self.commitment_end + timedelta(days=1), time(), UTC)

    def change_quantity(self, quantity: int, now: datetime) -> None:
        """Set the number of seats and keep the book of batches; whether it is allowed was asked before.

        Seats go from the newest batch first, so what stays reducible is what closes soonest: the careful reading of a
        point that the documentation leaves open. Any scheduled change of the next term is lost.
        """
        delta = quantity - self.quantity
        if delta > 0:
            self.batches = [*self.open_batches(now), Batch(delta, now + REDUCTION_WINDOW)]
        left = -delta
        for batch in reversed(self.batches):
            taken = min(batch.quantity, max(0, left))
            batch.quantity -= taken
            left -= taken
        self.batches = self.open_batches(now)
        self.quantity = quantity
        if delta:
            self.scheduled = self.scheduled_actions = None

    def suspend(self) -> None:
        """Suspending switches auto-renewal off and drops what was scheduled."""
        self.status = "suspended"
        self.auto_renew = False
        self.scheduled = self.scheduled_actions = None

    def term_passes(self, now: datetime, window: timedelta) -> bool:
        """Let renewals begin and end as of ``now``; returns whether anything happened.

        A renewal takes ``window``; without auto-renewal the subscription expires, a suspended one is disabled.
        """
        happened = False
        while self.status in LIVE:
            if self.renewing_since is None:
                if self.renewal_instant() > now:
                    break
                happened = True
                if self.status == "suspended":
                    self.status = "disabled"
                elif not self.auto_renew:
                    self.status = "expired"
                else:
                    self.renewing_since = self.renewal_instant()
            elif self.renewing_since + window <= now:
                self._renew(self.renewing_since + window)
                happened = True
            else:
                break
        return happened

    def next_event(self, window: timedelta) -> datetime | None:
        """When :meth:`term_passes` will have something to do."""
        if self.status not in LIVE:
            return None
        return self.renewal_instant() if self.renewing_since is None else self.renewing_since + window

    def _renew(self, completed: datetime) -> None:
        start = self.commitment_end + timedelta(days=1)
        if self.scheduled is not None:
            product = self.scheduled.get("product") or {}
            self.product_id = product.get("productId", self.product_id)
            self.sku_id = product.get("skuId", self.sku_id)
            self.availability_id = product.get("availabilityId", self.availability_id)
            self.term = product.get("termDuration", self.term)
            self.billing_cycle = str(product.get("billingCycle", self.billing_cycle)).lower()
            self.quantity = self.scheduled.get("quantity", self.quantity)
        self.is_trial = False
        self.scheduled = self.scheduled_actions = None
        self.effective_start = datetime.combine(start, time(), UTC)
        self.commitment_end = term_end(start, self.term)
        self.batches = [Batch(self.quantity, completed + REDUCTION_WINDOW)]
        self.cancellable_until = completed + REDUCTION_WINDOW
        self.renewing_since = None
        self.etag += 1


def term_end(start: date, term: str) -> date:
    """The last, inclusive, day of a term that begins on ``start``."""
    months = start.year * 12 + start.month - 1 + TERM_MONTHS.get(term, 12)
    year, month = divmod(months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return date(year, month + 1, day) - timedelta(days=1)


def patched(before: CloudSubscription, body: Mapping[str, Any], now: datetime) -> CloudSubscription:
    """The subscription as a PATCH makes it. Raises Refused, and then nothing has changed.

    The body stands for the whole resource: without ``autoRenewEnabled`` auto-renewal is switched off, without
    ``scheduledNextTermInstructions`` (or ``nextChargeInstructions``) the instructions are deleted. A change of quantity
    deletes scheduled changes even if the same body carries them; a later PATCH may set them again.
    """
    values = {key.lower(): value for key, value in body.items()}
    _check_updatable(before)
    after = copy.deepcopy(before)
    quantity = _whole_number(values["quantity"], "quantity") if "quantity" in values else before.quantity
    _check_quantity(before, quantity, now)
    _change_status(after, values, now)
    if "friendlyname" in values and isinstance(values["friendlyname"], str):
        after.friendly_name = values["friendlyname"]
    if after.status == "active":
        _change_renewal(after, values)
    charge = values.get("nextchargeinstructions")
    after.next_charge = charge if isinstance(charge, dict) else None
    if quantity != before.quantity:
        after.change_quantity(quantity, now)
    after.updates += 1
    after.etag += 1
    return after


def _check_updatable(before: CloudSubscription) -> None:
    if before.status == "deleted":
        raise Refused(400, "2011", f"Subscription with ID {before.id} and deleted status can't be updated.")
    if before.status not in LIVE:
        raise Refused(400, "800012", "This subscription isn't an active subscription")
    if before.renewing_since is not None:
        raise not_ready()
    if before.updates >= MAX_UPDATES:
        raise updated_too_often()


def _check_quantity(before: CloudSubscription, quantity: int, now: datetime) -> None:
    if quantity == before.quantity:
        return
    if before.status == "suspended":
        text = "Subscription quantity can't be increased or decreased while subscription is being suspended"
        raise Refused(400, "2001", text)
    if before.is_trial:
        raise _trial_locked(before)
    if quantity < before.min_quantity:
        raise Refused(400, "2002", "Subscription quantity isn't within minimum and maximum allowed quantity")
    if before.max_quantity is not None and quantity > max(before.max_quantity, before.quantity):
        text = "The desired seat count exceeded the maximum seat count allowed per subscription"
        raise Refused(403, "800067", text)
    if not before.legacy and before.quantity - quantity > sum(batch.quantity for batch in before.open_batches(now)):
        raise cannot_decrease()


def _change_status(after: CloudSubscription, values: Mapping[str, Any], now: datetime) -> None:
    status = values.get("status", after.status)
    if not isinstance(status, str):
        raise invalid_property("status must be text")
    wanted = status.lower()
    if wanted == after.status:
        return
    if after.is_trial:
        raise _trial_locked(after)
    if wanted == "suspended":
        after.suspend()
    elif wanted == "active":
        after.status = "active"
    elif wanted == "deleted":
        if after.cancellable_until is None or now > after.cancellable_until:
            text = "You have passed your 7-day cancellation window. We are unable to cancel your purchase"
            raise Refused(400, "900117", text)
        after.status = "deleted"
        after.auto_renew = False
        after.scheduled = after.scheduled_actions = None
    else:
        raise Refused(400, "800040", f"Asset status can't be changed to {wanted} from {after.status}")


def _change_renewal(after: CloudSubscription, values: Mapping[str, Any]) -> None:
    renew = values.get("autorenewenabled")
    if renew is not None and not isinstance(renew, bool):
        raise invalid_property("autoRenewEnabled must be true or false")
    after.auto_renew = renew is True
    scheduled, actions = values.get("schedulednextterminstructions"), values.get("scheduledactions")
    if scheduled is not None:
        if not isinstance(scheduled, dict):
            raise invalid_property("scheduledNextTermInstructions must be an object")
        _whole_number(_any_case(scheduled, "quantity", after.quantity), "scheduledNextTermInstructions.quantity")
        if not after.auto_renew and scheduled != after.scheduled:
            raise Refused(400, "800093", "The subscription isn't eligible to be auto-renewed")
    if not after.auto_renew:
        scheduled = actions = None
    after.scheduled = _camel(scheduled) if scheduled is not None else None
    after.scheduled_actions = actions if isinstance(actions, list) and actions else None


def _trial_locked(before: CloudSubscription) -> Refused:
    return Refused(400, "2006", f"Updates on subscriptions for offer {before.offer_name} aren't allowed")


def _whole_number(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid_property(f"{name} must be a whole number")
    return value


def _any_case(values: Mapping[str, Any], name: str, default: object) -> object:
    return next((value for key, value in values.items() if key.lower() == name.lower()), default)


def _camel(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key[:1].lower() + key[1:]: _camel(value) if isinstance(value, dict) else value for key, value in values.items()
    }
