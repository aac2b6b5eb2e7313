"""Partner Center as a :class:`connector.sync.ports.Fulfilment`: read subscriptions, set the seats of one.

Source: Microsoft's "Get all of a customer's subscriptions", "Get a subscription by ID", "Change the quantity of a
subscription", "Update a subscription by ID", "Create scheduled changes" and "Headers".
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from connector.domain.model import NotAtProvider, ProviderSubscription, ProviderSubscriptionId, TenantId
from connector.errors import AnotherChange, ConnectorError, OutcomeUnknown, ProtocolError, Rejected
from connector.http.transport import Answer, Transport, json_body
from connector.providers.partner_center.errors import SERVICE, explained, is_json
from connector.providers.partner_center.paging import read_collection
from connector.providers.partner_center.resource import (
    Resource,
    etag,
    is_new_commerce,
    outgoing,
    read_subscription,
    renews,
)
from connector.providers.partner_center.schedule import (
    ScheduledInstructions,
    adjust_schedule,
    instructions_from_json,
    plain_renewal,
    read_schedule,
    with_quantity,
)

_LIST = "list subscriptions"
_GET = "get subscription"
_SET = "patch subscription quantity"
_RESTORE = "patch subscription schedule"

_ID = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z-]{0,126}[0-9A-Za-z])?")
# Far more than run in parallel; bodies that were read and never used must not fill the memory of a full audit.
_MOST_KEPT = 512


class PartnerCenter:
    """Subscriptions of customer tenants at Partner Center, over one transport. Thread-safe.

    ``new_id`` makes request and correlation ids (GUIDs). Errors carry a remedy from Microsoft's error catalogue in
    ``hint``, and in ``retry_after`` how long to leave the subscription alone (renewal day: 120 s, a pending operation:
    86,400 s).
    """

    def __init__(self, transport: Transport, *, new_id: Callable[[], str] = lambda: str(uuid4())) -> None:
        self._transport = transport
        self._new_id = new_id
        self._kept: OrderedDict[tuple[str, str], Resource] = OrderedDict()
        self._lock = Lock()

    def list_subscriptions(self, tenant: TenantId) -> Mapping[ProviderSubscriptionId, ProviderSubscription]:
        """Everything that a customer has, whatever its life-cycle state. Nothing is kept for a later change.

        Raises ProtocolError rather than return part of the list, Rejected when the customer is unknown or not ours.
        """
        path = f"v1/customers/{_segment(tenant, _LIST)}/subscriptions"
        with explained():
            resources = read_collection(self._transport, path, operation=_LIST, headers=self._headers)
        listed = (_understood(resource, tenant, _LIST) for resource in resources)
        return {subscription.id: subscription for subscription in listed}

    def get_subscription(
        self, tenant: TenantId, subscription_id: ProviderSubscriptionId
    ) -> ProviderSubscription | NotAtProvider:
        """One subscription. Its whole body is kept, once, for the next :meth:`set_quantity` of the same subscription.

        NotAtProvider when the service itself says that it knows no such subscription or customer. A 404 without one of
        its error codes comes from something in between and raises ProtocolError.
        """
        self._take(tenant, subscription_id)
        for value, what in ((tenant, "customer tenant"), (subscription_id, "subscription")):
            if not _ID.fullmatch(value):
                return NotAtProvider(f"{value!r} cannot be the id of a {what} at Partner Center")
        try:
            resource = self._read(tenant, subscription_id)
        except Rejected as refusal:
            if refusal.status != 404:
                raise
            if not refusal.code:
                raise ProtocolError(
                    f"no Partner Center answered for subscription {subscription_id} of customer {tenant}: "
                    "404 without an error of the service",
                    service=SERVICE,
                    operation=_GET,
                    status=404,
                    request_id=refusal.request_id,
                    correlation_id=refusal.correlation_id,
                    hint="Check the configured address of Partner Center and any proxy in between.",
                ) from refusal
            return NotAtProvider(
                f"Partner Center does not list subscription {subscription_id} for customer {tenant} "
                f"(404/{refusal.code}: {refusal.text or 'no text'})"
            )
        view = _understood(resource, tenant, _GET)
        with self._lock:
            self._kept[_key(tenant, subscription_id)] = resource
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return view

    def scheduled_instructions(
        self, tenant: TenantId, subscription_id: ProviderSubscriptionId
    ) -> ScheduledInstructions | None:
        """The scheduled changes in the body that the last :meth:`get_subscription` kept; None when it holds none.

        Ask before :meth:`set_quantity`, which uses the body up and after which the service has deleted them. Raises
        ProtocolError when no body is kept, so that "not read" can never look like "nothing scheduled".
        """
        with self._lock:
            resource = self._kept.get(_key(tenant, subscription_id))
        if resource is None:
            raise _refuse(_GET, f"subscription {subscription_id} was not read, so its scheduled changes are not known")
        return read_schedule(resource)

    def set_quantity(
        self,
        tenant: TenantId,
        subscription_id: ProviderSubscriptionId,
        *,
        expected: ProviderSubscription,
        quantity: int,
        request_id: str,
    ) -> ProviderSubscription | None:
        """Set the seats of one subscription to ``quantity`` (a total), once, and say what the answer shows.

        Sends back the body that :meth:`get_subscription` kept with only ``quantity`` changed, as Partner Center takes a
        field that is missing for a wish to clear it. Returns None when the answer does not show the subscription with
        its new quantity (202, no body, another quantity): then only a read can confirm.

        Raises ProtocolError without sending anything when no body is kept, when the body is not at
        ``expected.quantity``, and when a new-commerce body lacks its auto-renew switch: sent like this, Partner Center
        would turn renewal off. Raises Rejected, Transient, PreconditionFailed, OutcomeUnknown, AuthError.
        """
        kept = self._take(tenant, subscription_id)
        if kept is None:
            raise _refuse(_SET, f"subscription {subscription_id} was not read just before, so it is not changed")
        if kept.get("quantity") != expected.quantity or _key(expected.tenant, expected.id) != _key(
            tenant, subscription_id
        ):
            raise _refuse(
                _SET,
                f"subscription {subscription_id} was decided on at {expected.quantity} seats "
                f"and read last at {kept.get('quantity')}",
            )
        _require_renewal_switch(kept, subscription_id, _SET)
        answer = self._patch(tenant, subscription_id, {**kept, "quantity": quantity}, _SET, request_id, seats=quantity)
        return _confirmed(answer, tenant, subscription_id, quantity)

    def restore_schedule(
        self,
        tenant: TenantId,
        subscription_id: ProviderSubscriptionId,
        instructions: ScheduledInstructions,
        request_id: str,
        *,
        seats: int,
        was: ScheduledInstructions | None = None,
    ) -> ProviderSubscription:
        """Write scheduled changes back that a change of seats deleted, and return the subscription as it then reads.

        ``instructions`` are what shall be scheduled, ``seats`` what the subscription has (the body carries them again, so
        one that was read with another number is not sent), ``was`` what was scheduled before the change of seats. Nothing is
        written when the subscription says them already. Raises AnotherChange when it holds scheduled changes that
        are neither (a person was there first), ProtocolError when renewal was off although a change of the next term
        needs it on, OutcomeUnknown when the write went through and a read does not show it, and what
        :meth:`set_quantity` raises. Errors here mean "scheduled change lost": the seats stand.
        """
        if instructions.next_term is not None and instructions.actions is None and instructions.auto_renew is not True:
            raise _refuse(
                _RESTORE,
                f"the change scheduled for subscription {subscription_id} needs renewal on, and renewal was not on",
            )
        self._take(tenant, subscription_id)
        resource = self._read(tenant, subscription_id)
        present = read_schedule(resource)
        says_it = instructions.agrees_with(present)
        if says_it and renews(resource) == instructions.auto_renew:
            return _understood(resource, tenant, _RESTORE)
        as_it_was = was is not None and was.agrees_with(present)
        if present is not None and not says_it and not as_it_was:
            raise AnotherChange(
                f"subscription {subscription_id} meanwhile has another scheduled change",
                service=SERVICE,
                operation=_RESTORE,
                hint="It is left as it is. Look at it in Partner Center.",
            )
        body: dict[str, Any] = {**resource, **instructions.fields()}
        if instructions.auto_renew is not None:
            body["autoRenewEnabled"] = instructions.auto_renew
        _require_renewal_switch(body, subscription_id, _RESTORE)
        self._patch(tenant, subscription_id, body, _RESTORE, request_id, seats=seats)
        after = self._read(tenant, subscription_id)
        if not instructions.agrees_with(read_schedule(after)):
            raise OutcomeUnknown(
                f"Partner Center took the scheduled change of subscription {subscription_id} and does not show it",
                service=SERVICE,
                operation=_RESTORE,
                request_id=request_id,
                hint="Look at the subscription's scheduled change in Partner Center and set it again if it is missing.",
            )
        return _understood(after, tenant, _RESTORE)

    def scheduled_change(self, tenant: TenantId, subscription_id: ProviderSubscriptionId) -> str | None:
        """What is scheduled in the body that the last :meth:`get_subscription` kept, as a text to keep."""
        found = self.scheduled_instructions(tenant, subscription_id)
        return found.to_json() if found is not None else None

    def keep_scheduled_change(
        self,
        tenant: TenantId,
        subscription_id: ProviderSubscriptionId,
        kept: str,
        delta: int,
        request_id: str,
        *,
        seats: int,
    ) -> ProviderSubscription | None:
        """Write back what :meth:`scheduled_change` gave, moved by ``delta`` seats; see :meth:`restore_schedule`."""
        was = instructions_from_json(kept)
        wanted = adjust_schedule(was, delta) if was is not None else None
        if wanted is None:
            return None
        return self.restore_schedule(tenant, subscription_id, wanted, request_id, seats=seats, was=was)

    def schedule_quantity(
        self, tenant: TenantId, subscription_id: ProviderSubscriptionId, quantity: int, request_id: str, *, seats: int
    ) -> ProviderSubscription:
        """Schedule a number of seats for the renewal, product and term unchanged.

        A change that is scheduled already keeps everything but its quantity. Raises ProtocolError without sending
        anything when renewal is off or the product cannot be read off the subscription.
        """
        resource = self._read(tenant, subscription_id)
        present = read_schedule(resource)
        wanted = with_quantity(present, quantity) if present is not None else plain_renewal(resource, quantity)
        if wanted is None or renews(resource) is not True:
            raise _refuse(_RESTORE, f"nothing can be scheduled for the renewal of subscription {subscription_id}")
        return self.restore_schedule(tenant, subscription_id, wanted, request_id, seats=seats, was=present)

    def _read(self, tenant: TenantId, subscription_id: ProviderSubscriptionId) -> Resource:
        with explained():
            answer = self._transport.read(
                "GET",
                _path(tenant, subscription_id, _GET),
                operation=_GET,
                kind="GET subscription",
                headers=self._headers(),
                check=is_json,
            )
        resource = answer.json()
        if not isinstance(resource, dict) or str(resource.get("id")).lower() != subscription_id.lower():
            raise _refuse(_GET, f"the answer for subscription {subscription_id} is not that subscription")
        return resource

    def _patch(
        self,
        tenant: TenantId,
        subscription_id: ProviderSubscriptionId,
        resource: Resource,
        operation: str,
        request_id: str,
        *,
        seats: int,
    ) -> Answer:
        try:
            resource = outgoing(resource, seats)
        except ValueError as problem:
            raise _refuse(operation, f"nothing was sent for subscription {subscription_id}: {problem}") from problem
        headers = {**self._headers(), "MS-RequestId": request_id, "Content-Type": "application/json"}
        tag = etag(resource)
        if tag is not None:
            headers["If-Match"] = tag
        with explained(request_id):
            return self._transport.write(
                "PATCH",
                _path(tenant, subscription_id, operation),
                operation=operation,
                kind="PATCH subscription",
                headers=headers,
                body=json_body(resource),
                # Partner Center has no condition on seats: after any wait they must be read and compared again.
                repeat=False,
            )

    def _headers(self) -> dict[str, str]:
        return {"Accept": "application/json", "MS-RequestId": self._new_id(), "MS-CorrelationId": self._new_id()}

    def _take(self, tenant: TenantId, subscription_id: ProviderSubscriptionId) -> Resource | None:
        with self._lock:
            return self._kept.pop(_key(tenant, subscription_id), None)


def _key(tenant: str, subscription_id: str) -> tuple[str, str]:
    return tenant.lower(), subscription_id.lower()


def _path(tenant: TenantId, subscription_id: ProviderSubscriptionId, operation: str) -> str:
    return f"v1/customers/{_segment(tenant, operation)}/subscriptions/{_segment(subscription_id, operation)}"


def _segment(value: str, operation: str) -> str:
    """One id as a segment of a path. Ids come from text columns of the CRM, and a path must not be steered by them."""
    if not _ID.fullmatch(value):
        raise _refuse(operation, f"{value!r} cannot be an id at Partner Center")
    return quote(value, safe="")


def _require_renewal_switch(resource: Resource, subscription_id: str, operation: str) -> None:
    if is_new_commerce(resource) and renews(resource) is None:
        raise _refuse(
            operation,
            f"subscription {subscription_id} was read without autoRenewEnabled, and sending it back like this "
            "would turn its renewal off",
            hint="Change the seats in Partner Center by hand and report this subscription.",
        )


def _confirmed(
    answer: Answer, tenant: TenantId, subscription_id: ProviderSubscriptionId, quantity: int
) -> ProviderSubscription | None:
    """What the answer to a change proves: the subscription at its new quantity, or nothing (a read has to tell)."""
    if answer.status != 200 or not answer.body.strip():
        return None
    try:
        shown = read_subscription(answer.json(), tenant)
    except (ValueError, ConnectorError):
        return None
    complete = shown.id == subscription_id.lower() and shown.quantity == quantity and shown.status != "pending"
    return shown if complete else None


def _understood(resource: Resource, tenant: TenantId, operation: str) -> ProviderSubscription:
    try:
        return read_subscription(resource, tenant)
    except ValueError as error:
        raise _refuse(operation, str(error)) from error


def _refuse(operation: str, what: str, *, hint: str | None = None) -> ProtocolError:
    return ProtocolError(f"Partner Center: {what}", service=SERVICE, operation=operation, hint=hint)
