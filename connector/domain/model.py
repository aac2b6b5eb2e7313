"""The records of the domain: what Work 365 and a provider say, as frozen values.

Shapes and words follow the house glossary (README, "Words"). All instants are aware datetimes in UTC, all quantities are
whole seats, all money is in minor currency units. A value that the source did not give, or gave in a form that makes no
sense, is ``None`` here and never zero: rules decide what that means.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import NewType

SubscriptionId = NewType("SubscriptionId", str)
"""Primary key of a Work 365 subscription: a lower-case GUID."""

LogId = NewType("LogId", str)
"""Primary key of a licence change log: a lower-case GUID."""

TenantId = NewType("TenantId", str)
"""A customer's tenant at Microsoft, which is the customer id in Partner Center: a lower-case GUID."""

ProviderSubscriptionId = NewType("ProviderSubscriptionId", str)
"""A subscription's id at its provider (Partner Center: a lower-case GUID)."""


class ProvisioningStatus(StrEnum):
    """Whether a licence change reached the provider. The only four there are."""

    AWAITING = "Awaiting"
    PROVISIONED = "Provisioned"
    FAILED = "Failed"
    NOT_APPLICABLE = "Not Applicable"


class LogKind(StrEnum):
    """Why a licence change log was made. An ``AUDIT`` log records a price change and moves no seats."""

    CREATE = "Create"
    UPDATE = "Update"
    AUDIT = "Audit"
    ACTIVATE = "Activate"
    DEACTIVATE = "Deactivate"


class ParentLog(StrEnum):
    """What an organisation's CRM does with a parent's own licence change log when its quantity is written by the API.

    ``MAKES``: made at once, Awaiting · ``LATE``: made a while later · ``NOT_APPLICABLE``: made at once, and Not
    Applicable · ``NONE``: not made.
    """

    MAKES = "makes"
    LATE = "late"
    NOT_APPLICABLE = "not_applicable"
    NONE = "none"


class ReductionBehavior(StrEnum):
    """Work 365's Quantity Reduction Behavior of a subscription."""

    ALLOWED = "Allowed"
    DISALLOWED = "Disallowed"
    WITHIN_WINDOW = "Allowed within window"


class ScheduledEvent(StrEnum):
    """What a scheduled licence change will do to its subscription."""

    UPDATE = "Update"
    ACTIVATE = "Activate"
    DEACTIVATE = "Deactivate"


class ScheduledStatus(StrEnum):
    """Life of a scheduled licence change: Pending until its date, then Archived (a log was made) or Merge Failed."""

    PENDING = "Pending"
    ARCHIVED = "Archived"
    MERGE_FAILED = "Merge Failed"


@dataclass(frozen=True, slots=True)
class Price:
    """What one seat costs the partner, in minor currency units per month. ``currency`` is an ISO 4217 code."""

    minor_per_month: int
    currency: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """One row of Work 365: a child that bills, or a parent that only provisions.

    ``quantity`` already contains changes that have not reached the provider. ``provider`` is the key of a provider
    plug-in (``do_nothing``, ``manual``, ``linked``, ``partner_center``, ``rest``), or None if the row names none or one
    that is not known. The three "parents" are never mixed: ``linked_parent`` is the subscription that provisions for
    this one, ``bundle_parent`` the base of an add-on, ``contract_id`` the billing contract.
    """

    id: SubscriptionId
    name: str
    quantity: int | None
    active: bool
    provider: str | None
    etag: str
    provider_id: str | None = None
    linked_parent: SubscriptionId | None = None
    bundle_parent: SubscriptionId | None = None
    part_number: str | None = None
    provider_account_id: str | None = None
    provider_subscription: ProviderSubscriptionId | None = None
    customer_id: str | None = None
    contract_id: str | None = None
    product_id: str | None = None
    is_trial: bool = False
    commitment_end: date | None = None
    deactivate_on: date | None = None
    reduction: ReductionBehavior | None = None
    reduction_days: int | None = None
    order_reference: str | None = None
    cost: Price | None = None
    created_on: datetime | None = None
    problems: tuple[str, ...] = ()
    """What in the row could not be understood (unknown choice, absurd quantity); any entry quarantines its family."""
    marker_text: str | None = None
    """What stands in the column in which linksub keeps its marker on a parent, a person's text at rest."""
    modified_on: datetime | None = None
    """When anything of the row was last changed (UTC); None if the mapping has no such column."""


@dataclass(frozen=True, slots=True)
class LicenseChangeLog:
    """One change of a subscription's seats (LCL). ``quantity`` is a signed delta.

    Work 365 keeps Σ quantity of a subscription's logs = the subscription's quantity at all times.
    ``effective_on`` is the date of the change. ``provision_on`` is when the provider should hear of it: a date (the
    calendar's clock times apply), an exact instant, or None for "immediately".
    """

    id: LogId
    subscription_id: SubscriptionId
    quantity: int | None
    status: ProvisioningStatus | None
    created_on: datetime
    etag: str
    kind: LogKind | None = None
    effective_on: date | None = None
    provision_on: date | datetime | None = None
    provisioned_on: datetime | None = None
    order_reference: str | None = None
    message: str | None = None
    customer_id: str | None = None
    channel: str | None = None
    archived: bool = False
    name: str = ""
    problems: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Awaiting or Failed: the provider has not confirmed it, and it stands in the way of later ones."""
        return self.status in (ProvisioningStatus.AWAITING, ProvisioningStatus.FAILED)

    @property
    def is_awaiting(self) -> bool:
        """The only status that is ever worked on."""
        return self.status is ProvisioningStatus.AWAITING


def seats_of(logs: Iterable[LicenseChangeLog]) -> int:
    """Σ quantity of the logs, signed."""
    return sum(log.quantity or 0 for log in logs)


@dataclass(frozen=True, slots=True)
class ScheduledLicenseChangeLog:
    """A change that Work 365 itself will make on its date (SLCL). Seen and reported, never pushed early."""

    id: str
    subscription_id: SubscriptionId
    event: ScheduledEvent | None
    status: ScheduledStatus | None
    effective_on: date | None
    quantity: int | None = None
    created_on: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """A customer's tenant at one provider, as Work 365 knows it. ``tenant`` must equal the provider's customer id."""

    id: str
    name: str
    account_id: str | None
    provider_id: str | None
    tenant: TenantId | None


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """Through which provider the product catalogue sells a product: a price list item, or the product's own default.

    ``part_number`` is None for the default. A price list item's provider wins over the default.
    """

    product_id: str
    provider_id: str
    provider_name: str
    part_number: str | None = None
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class ReducibleBatch:
    """Seats that the provider lets go of now, until the given instant (UTC)."""

    quantity: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class ProviderSubscription:
    """What the provider reports now (Partner Center's Subscription resource, the part that rules look at).

    ``reducible`` is None when the provider did not say, which is not the same as "none". ``scheduled_quantity`` is the
    quantity of a change scheduled for the renewal, if one is set.
    """

    id: ProviderSubscriptionId
    tenant: TenantId
    quantity: int
    status: str
    part_number: str | None = None
    auto_renew: bool | None = None
    is_trial: bool = False
    commitment_end: datetime | None = None
    term: str | None = None
    """ISO 8601 duration of the term (P1M, P1Y, P3Y)."""
    reducible: tuple[ReducibleBatch, ...] | None = None
    has_scheduled_change: bool = False
    scheduled_quantity: int | None = None
    cancellable_until: datetime | None = None

    @property
    def reducible_quantity(self) -> int | None:
        """Seats that may be given back now; None if the provider did not say."""
        return None if self.reducible is None else sum(batch.quantity for batch in self.reducible)


@dataclass(frozen=True, slots=True)
class NotAtProvider:
    """The provider does not list the subscription (or it was never bought). Never read as zero seats."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotReported:
    """This provider reports nothing by design (Manual, Do Nothing): a person is the provider."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The provider could not be read this time; the family cannot be decided now. ``retryable`` says if later may do."""

    reason: str
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider plug-in can do, as rules see it.

    ``reports``: it says what it has now · ``automatic``: linksub sets quantities there (else a person provisions) ·
    ``reduces``: it takes seats back · ``schedules``: it can change a quantity at renewal · ``provisions``: something is
    provisioned at all (Do Nothing: no).
    """

    reports: bool
    automatic: bool
    reduces: bool = True
    schedules: bool = False
    provisions: bool = True


ProviderView = ProviderSubscription | NotAtProvider | NotReported | Unreadable
"""A sum type, so that "not checked" can never look like "fine"."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything read for one family, complete or unusable. The whole input of a decision, with ``Policy`` and now.

    ``parent`` is None when children name a linked parent that cannot be read, or name none at all (then the family
    is just that one child). ``logs`` are all open logs of the parent and of the children, the parent's logs since the
    oldest of those (they carry the markers), and the children's Create logs where a reduction window needs them.
    ``bases`` are the bundle parents of the parent, nearest first, and ``base_logs`` their open logs. ``accounts`` are
    the provider accounts of the parent's customer.
    """

    parent: Subscription | None
    children: tuple[Subscription, ...]
    logs: tuple[LicenseChangeLog, ...]
    provider: ProviderView
    accounts: tuple[ProviderAccount, ...] = ()
    scheduled: tuple[ScheduledLicenseChangeLog, ...] = ()
    bases: tuple[Subscription, ...] = ()
    base_logs: tuple[LicenseChangeLog, ...] = ()
    catalogue: tuple[CatalogueEntry, ...] = ()
    """What the product catalogue says of the parent's product."""
    at_customer: tuple[ProviderSubscription, ...] = ()
    """Everything that the provider lists for the customer: limits may be pooled over it."""
    incomplete: str | None = None
    """Why this snapshot must not be decided on (a page failed, a row was deleted meanwhile); None when complete."""

    _by_subscription: dict[SubscriptionId, tuple[LicenseChangeLog, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    @property
    def subject(self) -> Subscription:
        """The row by which the family goes: its parent, or the child without one."""
        return self.parent or self.children[0]

    def logs_of(self, subscription_id: SubscriptionId) -> tuple[LicenseChangeLog, ...]:
        """The logs of one subscription in the order in which they were read."""
        if not self._by_subscription:
            grouped: dict[SubscriptionId, list[LicenseChangeLog]] = {}
            for log in self.logs:
                grouped.setdefault(log.subscription_id, []).append(log)
            self._by_subscription.update({key: tuple(value) for key, value in grouped.items()})
        return self._by_subscription.get(subscription_id, ())
