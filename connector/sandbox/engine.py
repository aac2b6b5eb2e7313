"""Work 365's own push to an automatic provider, for worlds in which it is switched on beside the connector."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from connector.sandbox.partner_center.answers import Refused
from connector.sandbox.partner_center.service import PartnerCenterService
from connector.sandbox.store import Store
from connector.sandbox.work365 import LOG, QUANTITY, SUBSCRIPTION, Work365

_LCL = "work365_licensechangelog_"


class Engine:
    """Provisions the awaiting logs of subscriptions that Partner Center provides, towards the CRM's quantity."""

    def __init__(
        self, store: Store, work365: Work365, cloud: PartnerCenterService, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._work365 = work365
        self._cloud = cloud
        self._now = now

    def work(self) -> None:
        """Handle every log that is due. A refusal makes it Failed with the provider's words."""
        status = f"{_LCL}provisioningstatus"
        waiting = self._store.schema.option(LOG, status, "Awaiting Provisioning")
        for log in sorted(self._store.find(LOG, status, waiting), key=lambda row: row["createdon"]):
            sub = self._store.get(SUBSCRIPTION, log[f"{_LCL}subscription"] or "")
            later = log[f"{_LCL}provisionon"] is not None and log[f"{_LCL}provisionon"] > self._now()
            if sub is None or later or self._work365.provider_type(sub) != "Microsoft CSP":
                continue
            bought = self._cloud.subscriptions.get(sub["work365_subscription_subscriptionid"] or "")
            if bought is None or sub[QUANTITY] is None:
                continue
            values: dict[str, object] = {
                status: self._store.schema.option(LOG, status, "Provisioned"),
                f"{_LCL}actualprovisionedon": self._now(),
            }
            if bought.quantity != sub[QUANTITY]:
                try:
                    self._cloud.set_quantity(bought.id, sub[QUANTITY])
                except Refused as refused:
                    values = {
                        status: self._store.schema.option(LOG, status, "Failed Provisioning"),
                        f"{_LCL}provisioningmessage": refused.description,
                    }
            self._store.update(LOG, log[f"{LOG}id"], values)
