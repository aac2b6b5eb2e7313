"""Contoso's own provider: a store that keeps numbers of seats in memory, to show what a plug-in has to do."""

from __future__ import annotations

from collections.abc import Mapping

from connector.domain.model import (
    Capabilities,
    NotAtProvider,
    ProviderSubscription,
    ProviderSubscriptionId,
    TenantId,
)
from connector.providers.capabilities import FulfilledBy
from connector.providers.plugin import ProviderPlugin, ProviderServices
from connector.sync.ports import Fulfilment

SEATS: dict[tuple[str, str], int] = {}
"""(tenant, subscription) → seats: the far side."""


class Store:
    """The adapter: it reports seats and sets them."""

    def list_subscriptions(self, tenant: TenantId) -> Mapping[ProviderSubscriptionId, ProviderSubscription]:
        """All subscriptions of one customer."""
        return {
            ProviderSubscriptionId(key): self._view(tenant, ProviderSubscriptionId(key))
            for owner, key in SEATS
            if owner == tenant
        }

    def get_subscription(
        self, tenant: TenantId, subscription_id: ProviderSubscriptionId
    ) -> ProviderSubscription | NotAtProvider:
        """One subscription."""
        if (tenant, subscription_id) not in SEATS:
            return NotAtProvider("the store does not know it")
        return self._view(tenant, subscription_id)

    def set_quantity(
        self,
        tenant: TenantId,
        subscription_id: ProviderSubscriptionId,
        *,
        expected: ProviderSubscription,
        quantity: int,
        request_id: str,
    ) -> ProviderSubscription | None:
        """Set the seats."""
        SEATS[(tenant, subscription_id)] = quantity
        return self._view(tenant, subscription_id)

    def _view(self, tenant: TenantId, subscription_id: ProviderSubscriptionId) -> ProviderSubscription:
        return ProviderSubscription(subscription_id, tenant, SEATS[(tenant, subscription_id)], "active")


def _connect(settings: Mapping[str, object], services: ProviderServices) -> Fulfilment | None:
    return Store()


PLUGIN = ProviderPlugin(
    "contoso_store", "Contoso Store", Capabilities(reports=True, automatic=True), FulfilledBy.ADAPTER, _connect
)
