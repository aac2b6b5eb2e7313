"""Dataverse rows → records of the domain, through the mapping. One bad row is a row with problems, never an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from connector.crm.fields import Fields, guid, price_per_month
from connector.crm.metadata import OrgMetadata, Table
from connector.domain.model import (
    CatalogueEntry,
    LicenseChangeLog,
    LogId,
    LogKind,
    ProviderAccount,
    ProviderSubscriptionId,
    ProvisioningStatus,
    ReductionBehavior,
    ScheduledEvent,
    ScheduledLicenseChangeLog,
    ScheduledStatus,
    Subscription,
    SubscriptionId,
    TenantId,
)
from connector.mapping import OWN_MARKER

# fmt: off
SUBSCRIPTION_WORDS = (
    "name", "customer", "contract", "product", "bundle_parent", "linked_parent", "quantity", "provider",
    "provider_account", "part_number", "provider_subscription", "is_trial", "commitment_end",
    "deactivate_on", "reduction_behavior", "reduction_window", "order_reference", "cost_price",
    "sales_unit", "currency", "state", "created_on", "modified_on", OWN_MARKER,
)
LOG_WORDS = (
    "name", "subscription", "customer", "quantity", "kind", "status", "message", "effective_date",
    "provision_on", "provisioned_on", "order_reference", "channel", "state", "status_reason", "created_on",
)
# fmt: on
SCHEDULED_WORDS = ["subscription", "event", "effective_date", "quantity", "status", "created_on"]
ACCOUNT_WORDS = ["name", "account", "tenant", "provider"]
PRICE_LIST_WORDS = ["product", "provider", "part_number"]

STATUS_KEYS: Mapping[ProvisioningStatus, str] = {
    ProvisioningStatus.AWAITING: "awaiting",
    ProvisioningStatus.PROVISIONED: "provisioned",
    ProvisioningStatus.FAILED: "failed",
    ProvisioningStatus.NOT_APPLICABLE: "not_applicable",
}
_STATUSES = {key: status for status, key in STATUS_KEYS.items()}
_KINDS = {kind.value.lower(): kind for kind in LogKind}
_REDUCTIONS = {
    "allowed": ReductionBehavior.ALLOWED,
    "disallowed": ReductionBehavior.DISALLOWED,
    "within_window": ReductionBehavior.WITHIN_WINDOW,
}
_EVENTS = {event.value.lower(): event for event in ScheduledEvent}
_SCHEDULED = {
    "pending": ScheduledStatus.PENDING,
    "archived": ScheduledStatus.ARCHIVED,
    "merge_failed": ScheduledStatus.MERGE_FAILED,
}
_NO_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RowReader:
    """Reads rows of one organisation. ``providers`` is provider id → plug-in key, ``currencies`` id → ISO code."""

    metadata: OrgMetadata
    zone: ZoneInfo
    providers: Mapping[str, str | None]
    currencies: Mapping[str, str]

    def subscription(self, row: Mapping[str, Any]) -> Subscription | None:
        """One subscription; None only for a row without a primary key."""
        fields = Fields(self.metadata.tables["subscription"], row, self.zone)
        row_id = fields.id()
        if row_id is None:
            return None
        state = fields.choice("state")
        if state is None and not fields.problems:
            fields.problems.append("state is empty")
        provider_id = fields.lookup("provider")
        provider = self.providers.get(provider_id) if provider_id is not None else None
        reduction = fields.choice("reduction_behavior")
        currency = fields.lookup("currency")
        unit = fields.choice("sales_unit", silent=True)
        linked, bundle = fields.lookup("linked_parent"), fields.lookup("bundle_parent")
        return Subscription(
            id=SubscriptionId(row_id),
            name=fields.text("name") or row_id,
            quantity=fields.quantity("quantity"),
            active=state != "inactive",
            provider=provider,
            etag=fields.etag(),
            provider_id=provider_id,
            linked_parent=SubscriptionId(linked) if linked is not None else None,
            bundle_parent=SubscriptionId(bundle) if bundle is not None else None,
            part_number=fields.text("part_number"),
            provider_account_id=fields.lookup("provider_account"),
            provider_subscription=self._provider_subscription(fields, provider),
            customer_id=fields.lookup("customer"),
            contract_id=fields.lookup("contract"),
            product_id=fields.lookup("product"),
            is_trial=fields.flag("is_trial"),
            commitment_end=fields.day("commitment_end"),
            deactivate_on=fields.day("deactivate_on"),
            reduction=_REDUCTIONS.get(reduction) if reduction is not None else None,
            reduction_days=fields.days("reduction_window"),
            order_reference=fields.text("order_reference"),
            cost=price_per_month(
                fields.raw("cost_price"), unit, self.currencies.get(currency) if currency is not None else None
            ),
            created_on=fields.instant("created_on"),
            marker_text=fields.as_written(marker_word(fields.table)),
            modified_on=fields.instant("modified_on"),
            problems=tuple(dict.fromkeys(fields.problems)),
        )

    def log(self, row: Mapping[str, Any]) -> LicenseChangeLog | None:
        """One licence change log; None only for a row without a primary key.

        A log without a subscription gets the empty id. An empty status is a problem unless the log is an Audit log,
        which moves no seats.
        """
        fields = Fields(self.metadata.tables["license_change_log"], row, self.zone)
        row_id = fields.id()
        if row_id is None:
            return None
        subscription = fields.lookup("subscription")
        if subscription is None:
            fields.problems.append("it names no subscription")
        kind_key, status_key = fields.choice("kind"), fields.choice("status")
        kind = _KINDS.get(kind_key) if kind_key is not None else None
        if status_key is None and fields.raw("status") is None and kind is not LogKind.AUDIT:
            fields.problems.append("status is empty")
        created = fields.instant("created_on")
        if created is None:
            fields.problems.append("created_on is empty")
        archived = "inactive" in (fields.choice("state", silent=True),) or "archived" in (
            fields.choice("status_reason", silent=True),
        )
        return LicenseChangeLog(
            id=LogId(row_id),
            subscription_id=SubscriptionId(subscription or ""),
            quantity=fields.quantity("quantity", signed=True),
            status=_STATUSES.get(status_key) if status_key is not None else None,
            created_on=created or _NO_INSTANT,
            etag=fields.etag(),
            kind=kind,
            effective_on=fields.day("effective_date"),
            provision_on=fields.day_or_instant("provision_on"),
            provisioned_on=fields.instant("provisioned_on"),
            order_reference=fields.text("order_reference"),
            message=fields.text("message"),
            customer_id=fields.lookup("customer"),
            channel=fields.choice("channel", silent=True) or fields.label("channel"),
            archived=archived,
            name=fields.text("name") or "",
            problems=tuple(fields.problems),
        )

    def scheduled(self, row: Mapping[str, Any]) -> ScheduledLicenseChangeLog | None:
        """One scheduled change; None for a row without a primary key or subscription."""
        fields = Fields(self.metadata.tables["scheduled_license_change_log"], row, self.zone)
        row_id, subscription = fields.id(), fields.lookup("subscription")
        if row_id is None or subscription is None:
            return None
        event, status = fields.choice("event"), fields.choice("status")
        return ScheduledLicenseChangeLog(
            id=row_id,
            subscription_id=SubscriptionId(subscription),
            event=_EVENTS.get(event) if event is not None else None,
            status=_SCHEDULED.get(status) if status is not None else None,
            effective_on=fields.day("effective_date"),
            quantity=fields.quantity("quantity", signed=True),
            created_on=fields.instant("created_on"),
        )

    def account(self, row: Mapping[str, Any]) -> ProviderAccount | None:
        """One provider account; None for a row without a primary key. A tenant that is no GUID is None."""
        fields = Fields(self.metadata.tables["provider_account"], row, self.zone)
        row_id = fields.id()
        if row_id is None:
            return None
        tenant = guid(fields.text("tenant"))
        return ProviderAccount(
            id=row_id,
            name=fields.text("name") or row_id,
            account_id=fields.lookup("account"),
            provider_id=fields.lookup("provider"),
            tenant=TenantId(tenant) if tenant is not None else None,
        )

    def product_default(self, row: Mapping[str, Any]) -> CatalogueEntry | None:
        """A product's default provider; None if it names none."""
        fields = Fields(self.metadata.tables["product"], row, self.zone)
        return self._entry(fields.id(), fields.lookup("default_provider"), None, is_default=True)

    def price_list_item(self, row: Mapping[str, Any]) -> CatalogueEntry | None:
        """A price list item's provider; None if it names none."""
        fields = Fields(self.metadata.tables["price_list_item"], row, self.zone)
        part_number = fields.text("part_number")
        return self._entry(fields.lookup("product"), fields.lookup("provider"), part_number, is_default=False)

    def _entry(
        self, product: str | None, provider: str | None, part_number: str | None, *, is_default: bool
    ) -> CatalogueEntry | None:
        if product is None or provider is None:
            return None
        return CatalogueEntry(product, provider, self.providers.get(provider) or provider, part_number, is_default)

    @staticmethod
    def _provider_subscription(fields: Fields, provider: str | None) -> ProviderSubscriptionId | None:
        text = fields.text("provider_subscription")
        if text is None:
            return None
        normal = guid(text)
        if normal is None and provider == "partner_center":
            fields.problems.append(
                f"provider_subscription is {text[:60]!r}, which is no subscription id of Partner Center"
            )
            return None
        return ProviderSubscriptionId(normal or text)


def marker_word(table: Table) -> str:
    """The word of the subscription's column that holds the marker: its own, if the mapping names one."""
    return OWN_MARKER if table.has(OWN_MARKER) else "order_reference"
