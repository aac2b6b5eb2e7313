"""The moment at which a client's process dies, told by what its calls did and not by how many they were.

The sandbox only notices the moment; whoever armed the watch ends the process, before it can look at the answer.
"""

from __future__ import annotations

import threading
from typing import Any

from connector.sandbox.notation import Effect
from connector.sandbox.partner_center.service import PartnerCenterService
from connector.sandbox.store import Store
from connector.sandbox.trace import is_write
from connector.sandbox.wire import Request
from connector.sandbox.work365 import LOG, QUANTITY, SUBSCRIPTION

_STATUS = "work365_licensechangelog_provisioningstatus"


class Watch:
    """Waits for one effect of a client's call, or for the first batch that writes. Trips once.

    ``parent_raised``: the quantity of a subscription that others are linked to changed. ``purchased``: the provider
    accepted another quantity. ``scheduled``: it accepted other instructions for the next term and the same quantity.
    ``acknowledged``: a licence change log became Provisioned. With ``batch_items`` only so many items of the first batch
    that writes are carried out.
    """

    def __init__(
        self,
        store: Store,
        cloud: PartnerCenterService,
        effect: Effect | None = None,
        *,
        batch_items: int | None = None,
    ) -> None:
        self.tripped = False
        self.batch_items = batch_items
        self.calls = threading.RLock()
        """Held by the sandbox for the length of a call, so that an effect belongs to one call."""
        self._store = store
        self._cloud = cloud
        self._effect = effect
        self._provisioned = store.schema.option(LOG, _STATUS, "Provisioned")
        self._version = -1
        self._known: dict[str, Any] = {}
        self._seen_at_provider = 0

    def cuts(self, service: str, request: Request) -> bool:
        """Whether this is the batch in the middle of which the process dies."""
        asked = self.batch_items is not None and not self.tripped and service == "dataverse"
        return asked and request.path.rstrip("/").endswith("$batch") and is_write(request)

    def begins(self) -> None:
        """A call begins: what happened until now was not its doing."""
        self._news()
        self._seen_at_provider = len(self._cloud.changes)

    def ends(self) -> None:
        """A call ended: trip if it had the effect."""
        if self._effect is None or self.tripped:
            return
        if self._effect in ("purchased", "scheduled"):
            accepted = [change.fields for change in self._cloud.changes[self._seen_at_provider :] if change.by_client]
            if self._effect == "purchased":
                self.tripped = any("quantity" in fields for fields in accepted)
            else:
                self.tripped = any(
                    "scheduledNextTermInstructions" in fields and "quantity" not in fields for fields in accepted
                )
            return
        news = self._news()
        if self._effect == "acknowledged":
            self.tripped = self._provisioned in news.values()
        else:
            self.tripped = any(self._is_parent(row_id) for row_id in news)

    def _news(self) -> dict[str, Any]:
        """Ids of the rows whose watched column took another value since the last look, with that value."""
        if self._effect not in ("parent_raised", "acknowledged"):
            return {}
        table, column = (LOG, _STATUS) if self._effect == "acknowledged" else (SUBSCRIPTION, QUANTITY)
        with self._store.transaction():
            changes = self._store.changes(table, self._version)
            self._version = self._store.version
            news: dict[str, Any] = {}
            for _, row_id in changes.rows:
                row = self._store.get(table, row_id)
                value = None if row is None else row[column]
                if self._known.get(row_id) != value:
                    self._known[row_id] = news[row_id] = value
            return news

    def _is_parent(self, row_id: str) -> bool:
        return bool(self._store.find(SUBSCRIPTION, "work365_subscription_linkedsubscription", row_id))
