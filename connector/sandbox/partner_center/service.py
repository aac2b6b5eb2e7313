"""The Partner Center service: routes, headers, paging, replays and renewals.

Source: Partner Center developer documentation, "REST headers" (MS-RequestId), "Get a list of customers",
"Get a subscription by ID", "Update a subscription by ID".
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote

from connector.sandbox.partner_center.answers import (
    Refused,
    invalid_property,
    no_relationship,
    not_emulated,
    subscription_not_found,
    tenant_not_found,
)
from connector.sandbox.partner_center.replica import Replica
from connector.sandbox.partner_center.resource import (
    CloudCustomer,
    Sku,
    collection,
    customer_body,
    etag,
    link,
    sku_body,
    subscription_body,
)
from connector.sandbox.partner_center.subscription import LIVE, WRITABLE, CloudSubscription, patched
from connector.sandbox.wire import Request, Response, json_response

REPLAY_MEMORY = timedelta(hours=24)
DEFAULT_PAGE = 500


@dataclass(frozen=True, slots=True)
class CloudChange:
    """One accepted change: when, of what, by which request (None: a person in the portal), old and new values."""

    at: datetime
    subscription_id: str
    request_id: str | None
    fields: dict[str, tuple[object, object]]
    by_client: bool = False
    """Whether a client of the API asked for it, and not a person, another party or the calendar."""


@dataclass(frozen=True, slots=True)
class Replay(Response):
    """The answer to a request that came before with the same id and body: nothing was done again."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    digest: str
    at: datetime
    answer: Response


class PartnerCenterService:
    """Customers and subscriptions behind ``/v1``. Thread-safe; time is the sandbox's.

    ``renewal_takes`` is how long a subscription refuses updates on its renewal day. With ``accept_only`` a change is
    answered with 202 and ``Location`` instead of 200 and the resource.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        authorize: Callable[[str | None], str],
        *,
        renewal_takes: timedelta = timedelta(minutes=5),
        accept_only: bool = False,
    ) -> None:
        self.now = now
        self._authorize = authorize
        self._lock = threading.RLock()
        self._answered: dict[tuple[str, str], _Remembered] = {}
        self._serial = 0
        self.renewal_takes = renewal_takes
        self.accept_only = accept_only
        self.customers: dict[str, CloudCustomer] = {}
        self.subscriptions: dict[str, CloudSubscription] = {}
        self.skus: dict[tuple[str, str], Sku] = {}
        self.changes: list[CloudChange] = []
        self.accepted_writes = 0
        self.replica: Replica | None = None
        """What reads come from when they lag behind; None: they see everything."""

    # -- the world's side -------------------------------------------------------------------------------------------

    def add_customer(self, customer: CloudCustomer) -> None:
        """Put a customer into the world."""
        self.customers[customer.tenant] = customer

    def add_subscription(self, sub: CloudSubscription) -> None:
        """Put a subscription into the world; a renewal that is overdue happens at once."""
        with self._lock:
            sub.term_passes(self.now(), self.renewal_takes)
            self.subscriptions[sub.id] = sub
            known = self.skus.get((sub.product_id, sub.sku_id))
            limit = sub.max_quantity if sub.max_quantity is not None else known.max_quantity if known else 10_000
            self.skus[sub.product_id, sub.sku_id] = Sku(sub.product_id, sub.sku_id, sub.offer_name, 1, limit)

    def let_reads_lag(self, lag: timedelta) -> None:
        """From now on reads show what is older than ``lag``; nothing ends it."""
        with self._lock:
            self.replica = Replica(lag) if lag else None

    def _written(self, before: CloudSubscription) -> None:
        """Keep what a lagging read shows, if reads lag. Call it before the subscription changes."""
        if self.replica is not None:
            self.replica.written(copy.deepcopy(before), self.now())

    def _shown(self, sub: CloudSubscription) -> CloudSubscription:
        return sub if self.replica is None else self.replica.shown(sub, self.now())

    def edit(self, subscription_id: str, change: Callable[[CloudSubscription], None]) -> None:
        """Somebody changes a subscription in the portal: it just happens. Raises KeyError."""
        with self._lock:
            sub = self.subscriptions[subscription_id]
            before = _visible(sub)
            updates = sub.updates
            self._written(sub)
            change(sub)
            if sub.updates == updates:
                sub.updates += 1
            sub.etag += 1
            sub.term_passes(self.now(), self.renewal_takes)
            self._note(sub.id, None, before, _visible(sub))

    def set_quantity(self, subscription_id: str, quantity: int) -> None:
        """Another party changes a quantity through the API, under its rules. Raises KeyError and Refused."""
        with self._lock:
            before = self.subscriptions[subscription_id]
            body = {"quantity": quantity, "autoRenewEnabled": before.auto_renew}
            after = patched(before, body, self.now())
            self._written(before)
            self.subscriptions[subscription_id] = after
            self._note(subscription_id, None, _visible(before), _visible(after))

    def next_due(self) -> datetime | None:
        """The next renewal that begins or ends."""
        with self._lock:
            events = (sub.next_event(self.renewal_takes) for sub in self.subscriptions.values())
            return min((event for event in events if event is not None), default=None)

    def run_due(self, now: datetime) -> None:
        """Begin and end the renewals that are due."""
        with self._lock:
            for sub in self.subscriptions.values():
                if sub.status in LIVE:
                    before = _visible(sub)
                    old = None if self.replica is None else copy.deepcopy(sub)
                    if sub.term_passes(now, self.renewal_takes):
                        self._note(sub.id, None, before, _visible(sub))
                        if old is not None and self.replica is not None:
                            self.replica.written(old, now)

    # -- the clients' side ------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        verdict = self._authorize(request.header("authorization"))
        answer = _unauthorized(verdict) if verdict != "ok" else self._route(request)
        with self._lock:
            self._serial += 1
            serial = self._serial
        headers = (
            ("MS-RequestId", request.header("ms-requestid") or _guid(f"request {serial}")),
            ("MS-CorrelationId", request.header("ms-correlationid") or _guid(f"correlation {serial}")),
            ("MS-CV", f"sandbox{serial:08x}.0"),
            ("MS-ServerId", "1"),
            ("X-Locale", request.header("x-locale") or "en-US"),
        )
        return type(answer)(answer.status, (*answer.headers, *headers), answer.body)

    def _route(self, request: Request) -> Response:
        parts = [unquote(part) for part in request.path.split("/") if part]
        query = {key: values[-1] for key, values in parse_qs(request.query, keep_blank_values=True).items()}
        try:
            match request.method, [part.lower() if place % 2 == 1 else part for place, part in enumerate(parts)]:
                case "GET", ["v1", "customers"] if "filter" not in query:
                    return self._list_customers(request, query)
                case "GET", ["v1", "customers", tenant]:
                    return json_response(200, customer_body(self._customer(tenant), by_id=True))
                case "GET", ["v1", "customers", tenant, "subscriptions"]:
                    return self._list_subscriptions(tenant, query)
                case "GET", ["v1", "customers", tenant, "subscriptions", sub_id]:
                    with self._lock:
                        sub = self._shown(self._subscription(tenant, sub_id))
                        return json_response(200, subscription_body(sub, self.now(), by_id=True))
                case "PATCH", ["v1", "customers", tenant, "subscriptions", sub_id]:
                    with self._lock:
                        return self._patch(request, tenant, sub_id)
                case "GET", ["v1", "customers", tenant, "subscriptions", _, "provisioningstatus"]:
                    self._customer(tenant)
                    return Refused(
                        403, "900329", "This resource does not support application-only authentication."
                    ).answer()
                case "GET", ["v1", "products", product, "skus", sku]:
                    return self._sku(product, sku)
        except Refused as refused:
            return refused.answer()
        return not_emulated(request.method, request.path)

    def _customer(self, tenant: str) -> CloudCustomer:
        try:
            key = str(uuid.UUID(tenant))
        except ValueError:
            raise invalid_property(f"customer id {tenant!r} is not a GUID") from None
        customer = self.customers.get(key)
        if customer is None:
            raise tenant_not_found(tenant)
        if not customer.related:
            raise no_relationship(tenant)
        return customer

    def _subscription(self, tenant: str, subscription_id: str) -> CloudSubscription:
        customer = self._customer(tenant)
        sub = self.subscriptions.get(subscription_id.lower())
        if sub is None or sub.tenant != customer.tenant:
            raise subscription_not_found(subscription_id)
        return sub

    def _list_customers(self, request: Request, query: dict[str, str]) -> Response:
        try:
            size = int(query.get("size", DEFAULT_PAGE))
            token = request.header("ms-continuationtoken") or "0:0"
            start, _, remembered = token.partition(":")
            offset = int(start)
            size = size if "size" in query or remembered in ("", "0") else int(remembered)
        except ValueError:
            raise invalid_property("size or MS-ContinuationToken") from None
        if size < 1:
            raise invalid_property("size")
        if query.get("seekOperation", "Next") != "Next":
            return not_emulated("GET", f"/v1/customers?seekOperation={query['seekOperation']}")
        listed = sorted((customer for customer in self.customers.values() if customer.related), key=lambda c: c.tenant)
        page = [customer_body(customer, by_id=False) for customer in listed[offset : offset + size]]
        links = {"self": link(f"/customers?size={size}")}
        body = collection(page, links)
        if offset + size < len(listed):
            following = f"{offset + size}:{size}"
            body["continuationToken"] = following
            body["links"]["next"] = link(
                f"/customers?size={size}&seekOperation=Next", ("MS-ContinuationToken", following)
            )
        return json_response(200, body)

    def _list_subscriptions(self, tenant: str, query: dict[str, str]) -> Response:
        with self._lock:
            customer = self._customer(tenant)
            own = [self._shown(sub) for sub in self.subscriptions.values() if sub.tenant == customer.tenant]
            if "order_id" in query:
                own = [sub for sub in own if sub.order_id == query["order_id"]]
            if "mpn_id" in query:
                own = [sub for sub in own if sub.partner_id == query["mpn_id"]]
            items = [subscription_body(sub, self.now(), by_id=False) for sub in own]
        return json_response(200, collection(items, {"self": link(f"/customers/{customer.tenant}/subscriptions")}))

    def _sku(self, product: str, sku: str) -> Response:
        known = self.skus.get((product, sku))
        if known is None:
            raise Refused(404, "1000", "Not found")
        return json_response(200, sku_body(known))

    def _patch(self, request: Request, tenant: str, subscription_id: str) -> Response:
        before = self._subscription(tenant, subscription_id)
        try:
            body = request.json()
        except ValueError:
            raise invalid_property("the body is not JSON") from None
        if not isinstance(body, dict):
            raise invalid_property("the body is not an object")
        now = self.now()
        request_id = request.header("ms-requestid")
        digest = _digest(body)
        if request_id is not None:
            self._forget_old_answers(now)
            earlier = self._answered.get((request_id.lower(), before.id))
            if earlier is not None and earlier.digest == digest:
                return Replay(earlier.answer.status, earlier.answer.headers, earlier.answer.body)
        condition = request.header("if-match")
        if before.legacy and condition is not None and condition.strip().strip('"') not in (etag(before), "*"):
            raise Refused(400, "2055", "Etag is no longer valid")
        after = patched(before, body, now)
        self._written(before)
        self.subscriptions[before.id] = after
        self.accepted_writes += 1
        self._note(after.id, request_id, _visible(before), _visible(after), by_client=True)
        answer = self._changed(after, now)
        if request_id is not None:
            self._answered[request_id.lower(), before.id] = _Remembered(digest, now, answer)
        return answer

    def _changed(self, after: CloudSubscription, now: datetime) -> Response:
        if self.accept_only:
            return Response(202, (("Location", f"/v1/customers/{after.tenant}/subscriptions/{after.id}"),))
        return json_response(200, subscription_body(after, now, by_id=True))

    def _forget_old_answers(self, now: datetime) -> None:
        old = [key for key, entry in self._answered.items() if now - entry.at > REPLAY_MEMORY]
        for key in old:
            del self._answered[key]

    def _note(
        self,
        sub_id: str,
        request_id: str | None,
        before: dict[str, Any],
        after: dict[str, Any],
        *,
        by_client: bool = False,
    ) -> None:
        moved = {key: (before[key], value) for key, value in after.items() if before[key] != value}
        self.changes.append(CloudChange(self.now(), sub_id, request_id, moved, by_client))


def _visible(sub: CloudSubscription) -> dict[str, Any]:
    return {
        "quantity": sub.quantity,
        "status": sub.status,
        "autoRenewEnabled": sub.auto_renew,
        "scheduledNextTermInstructions": sub.scheduled,
        "friendlyName": sub.friendly_name,
        "commitmentEndDate": sub.commitment_end,
        "renewing": sub.renewing_since is not None,
    }


def _unauthorized(verdict: str) -> Response:
    if verdict == "wrong_audience":
        text = "The audience in the token is invalid and is no longer supported in Partner Center API."
        return Refused(401, "900420", text).answer()
    if verdict in ("missing", "expired"):
        return Response(401, (("WWW-Authenticate", 'Bearer realm="", error="invalid_token"'),))
    return Refused(403, "900308", "Insufficient privileges to complete the operation.").answer()


def _digest(body: dict[str, Any]) -> str:
    """What a body asks for. Read-only parts do not count: they differ when a client reads again before it repeats."""
    asked = {key.lower(): value for key, value in body.items() if key.lower() in WRITABLE}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode("utf-8")).hexdigest()


def _guid(seed: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"linksub sandbox partner center {seed}"))
