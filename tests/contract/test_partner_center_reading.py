"""Reading from Partner Center over HTTP: requests as documented, answers in every documented form."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import responses
from responses import matchers

from connector.domain.model import NotAtProvider, ProviderSubscription, ProviderSubscriptionId, ReducibleBatch, TenantId
from connector.errors import AuthError, ProtocolError, Rejected, Transient
from connector.http.counter import RequestCounter
from connector.http.gate import RateGate
from connector.http.origin import Origin
from connector.http.session import make_session
from connector.http.transport import Transport, TransportSettings
from connector.providers.partner_center.client import PartnerCenter
from connector.providers.partner_center.errors import classify, parse_error

BASE = "https://partner.example"
TENANT = TenantId("5d9a7e10-3c52-4b41-9c0e-6b0f3a2d1e01")
SUB = ProviderSubscriptionId("0f6c2a44-8e0b-4d6c-9a5e-2f1b7c3d4e01")
LIST = f"{BASE}/v1/customers/{TENANT}/subscriptions"
ONE = f"{LIST}/{SUB}"


class VirtualClock:
    """Waiting moves it."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class FixedToken:
    """A token that never runs out."""

    def token(self) -> str:
        return "a-token"

    def refresh(self) -> None:
        pass


def connect() -> PartnerCenter:
    clock = VirtualClock()
    numbers = itertools.count(1)
    transport = Transport(
        service="partner_center",
        origin=Origin(BASE, "partner_center"),
        session=make_session(),
        auth=FixedToken(),
        gate=RateGate(clock),
        clock=clock,
        counter=RequestCounter(),
        settings=TransportSettings(attempts=2),
        parse_error=parse_error,
        classify=classify,
        correlation_header="MS-CorrelationId",
        jitter=lambda: 0.0,
    )
    return PartnerCenter(transport, new_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012d}")


def resource(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A new-commerce Subscription of the documented shape, with a field that nobody knows."""
    body: dict[str, Any] = {
        "id": f"0f6c2a44-8e0b-4d6c-9a5e-2f1b7c3d4e{number:02d}",
        "offerId": "CFQ7TTC0LFLX:0001:CFQ7TTC0K4WR",
        "friendlyName": "Pine Cone Vet",
        "productType": {"id": "OnlineServicesNCE", "displayName": "OnlineServicesNCE"},
        "quantity": 25,
        "unitType": "Licenses",
        "creationDate": "2026-01-05T08:11:09.1234567Z",
        "commitmentEndDate": "2027-01-04T00:00:00Z",
        "commitmentEndDateTime": "2027-01-04T23:59:59Z",
        "cancellationAllowedUntilDate": None,
        "status": "active",
        "autoRenewEnabled": True,
        "isTrial": False,
        "billingCycle": "monthly",
        "termDuration": "P1Y",
        "refundableQuantity": {
            "totalQuantity": 4,
            "details": [{"quantity": 4, "allowedUntilDateTime": "2026-03-08T10:00:00.498252Z"}],
        },
        "somethingNew": {"kept": [1, None, "x"]},
        "attributes": {"objectType": "Subscription"},
    }
    return {**body, **changes}


def collection(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"totalCount": len(items), "items": list(items), "attributes": {"objectType": "Collection"}, **more}


def refusal(code: object, text: str = "no") -> dict[str, Any]:
    return {"code": code, "description": text, "data": [], "source": "PartnerFD"}


def read_back(body: dict[str, Any]) -> ProviderSubscription:
    with responses.RequestsMock() as wire:
        wire.get(ONE, json=body)
        view = connect().get_subscription(TENANT, SUB)
    assert isinstance(view, ProviderSubscription)
    return view


@responses.activate
def test_a_read_carries_the_documented_headers() -> None:
    responses.get(ONE, json=resource())
    connect().get_subscription(TENANT, SUB)
    headers = responses.calls[0].request.headers
    assert headers["Authorization"] == "Bearer a-token"
    assert headers["Accept"] == "application/json"
    assert headers["MS-RequestId"] == "00000000-0000-4000-8000-000000000001"
    assert headers["MS-CorrelationId"] == "00000000-0000-4000-8000-000000000002"


def test_a_subscription_is_read_with_everything_that_rules_look_at() -> None:
    view = read_back(resource(isTrial=True, cancellationAllowedUntilDate="2026-03-05T09:00:00+02:00"))
    assert view == ProviderSubscription(
        id=SUB,
        tenant=TENANT,
        quantity=25,
        status="active",
        part_number="CFQ7TTC0LFLX:0001",
        auto_renew=True,
        is_trial=True,
        commitment_end=datetime(2027, 1, 4, 23, 59, 59, tzinfo=UTC),
        term="P1Y",
        reducible=(ReducibleBatch(4, datetime(2026, 3, 8, 10, 0, 0, 498252, tzinfo=UTC)),),
        cancellable_until=datetime(2026, 3, 5, 7, 0, tzinfo=UTC),
    )


@pytest.mark.parametrize(("code", "in_reason"), [(20003, "404/20003"), ("60003", "404/60003"), ("1000", "404/1000")])
@responses.activate
def test_a_404_of_the_service_means_not_at_the_provider(code: object, in_reason: str) -> None:
    responses.get(ONE, status=404, json=refusal(code, "not found"))
    view = connect().get_subscription(TENANT, SUB)
    assert isinstance(view, NotAtProvider)
    assert in_reason in view.reason
    assert str(SUB) in view.reason


@pytest.mark.parametrize("body", ["<html>nothing here</html>", "", '{"statusCode": 404, "message": "no such route"}'])
@responses.activate
def test_a_404_that_is_not_the_services_own_is_not_taken_for_an_absent_subscription(body: str) -> None:
    responses.get(ONE, status=404, body=body)
    with pytest.raises(ProtocolError, match="404"):
        connect().get_subscription(TENANT, SUB)


@responses.activate
@pytest.mark.parametrize("bad", ["", "  ", "..", "../../other", "a/b", "a?b", "n/a"])
def test_an_id_that_would_steer_the_path_is_never_sent(bad: str) -> None:
    adapter = connect()
    assert isinstance(adapter.get_subscription(TENANT, ProviderSubscriptionId(bad)), NotAtProvider)
    assert isinstance(adapter.get_subscription(TenantId(bad), SUB), NotAtProvider)
    with pytest.raises(ProtocolError, match="cannot be an id"):
        adapter.list_subscriptions(TenantId(bad))
    assert len(responses.calls) == 0


@responses.activate
def test_the_answer_for_another_subscription_is_refused() -> None:
    responses.get(ONE, json=resource(2))
    with pytest.raises(ProtocolError, match="not that subscription"):
        connect().get_subscription(TENANT, SUB)


@pytest.mark.parametrize(
    "change",
    [{"quantity": None}, {"quantity": 2.5}, {"quantity": "25"}, {"quantity": True}, {"quantity": -1}, {"status": ""}],
)
@responses.activate
def test_a_resource_without_usable_quantity_or_status_is_refused(change: dict[str, Any]) -> None:
    responses.get(ONE, json=resource(**change))
    with pytest.raises(ProtocolError, match=r"quantity|status"):
        connect().get_subscription(TENANT, SUB)


@responses.activate
def test_a_read_that_was_cut_short_is_repeated() -> None:
    responses.get(ONE, body=json.dumps(resource())[:200])
    responses.get(ONE, json=resource())
    assert isinstance(connect().get_subscription(TENANT, SUB), ProviderSubscription)
    assert len(responses.calls) == 2


@responses.activate
def test_trouble_of_the_service_during_a_read_is_transient_and_not_absence() -> None:
    responses.get(ONE, status=500, json=refusal(800003))
    with pytest.raises(Transient):
        connect().get_subscription(TENANT, SUB)


@responses.activate
def test_a_customer_without_relationship_is_a_refusal_of_this_customer_only() -> None:
    responses.get(LIST, status=403, json=refusal("20002"))
    with pytest.raises(Rejected) as caught:
        connect().list_subscriptions(TENANT)
    assert caught.value.code == "20002"
    assert "relationship" in (caught.value.hint or "")


@responses.activate
def test_a_missing_second_factor_is_a_sign_in_error_with_its_remedy() -> None:
    responses.get(LIST, status=401, json=refusal(900421))
    with pytest.raises(AuthError) as caught:
        connect().list_subscriptions(TENANT)
    assert "multi-factor" in (caught.value.hint or "")


# --- lists ------------------------------------------------------------------------------------------------------------


@responses.activate
def test_a_list_holds_every_state_and_is_keyed_by_id() -> None:
    responses.get(LIST, json=collection(resource(1), resource(2, status="deleted"), resource(3, status="suspended")))
    listed = connect().list_subscriptions(TENANT)
    assert {key[-2:]: view.status for key, view in listed.items()} == {
        "01": "active",
        "02": "deleted",
        "03": "suspended",
    }


@responses.activate
def test_pages_are_followed_by_continuation_token() -> None:
    responses.get(
        LIST,
        match=[matchers.query_param_matcher({})],
        json=collection(resource(1), totalCount=2, continuationToken="t-1"),
    )
    responses.get(
        LIST,
        match=[
            matchers.query_param_matcher({"seekOperation": "Next"}),
            matchers.header_matcher({"MS-ContinuationToken": "t-1"}),
        ],
        json=collection(resource(2), totalCount=2),
    )
    assert len(connect().list_subscriptions(TENANT)) == 2


@responses.activate
def test_a_continuation_token_in_a_response_header_is_followed_too() -> None:
    responses.get(LIST, json=collection(resource(1)), headers={"MS-ContinuationToken": "t-1"})
    responses.get(LIST, match=[matchers.header_matcher({"MS-ContinuationToken": "t-1"})], json=collection(resource(2)))
    assert len(connect().list_subscriptions(TENANT)) == 2


@pytest.mark.parametrize(
    "uri",
    [
        f"/customers/{TENANT}/subscriptions?seekOperation=Next",
        f"/v1/customers/{TENANT}/subscriptions?seekOperation=Next",
        f"customers/{TENANT}/subscriptions?seekOperation=Next",
        f"{LIST}?seekOperation=Next",
    ],
)
@responses.activate
def test_pages_are_followed_by_link_with_its_headers(uri: str) -> None:
    link = {
        "uri": uri,
        "method": "GET",
        "headers": [{"key": "MS-ContinuationToken", "value": "t-1"}, {"key": "Authorization", "value": "Bearer other"}],
    }
    responses.get(
        LIST, match=[matchers.query_param_matcher({})], json=collection(resource(1), totalCount=2, links={"next": link})
    )
    responses.get(
        LIST,
        match=[matchers.query_param_matcher({"seekOperation": "Next"})],
        json=collection(resource(2), totalCount=2, links={"self": link}),
    )
    assert len(connect().list_subscriptions(TENANT)) == 2
    second = responses.calls[1].request.headers
    assert second["MS-ContinuationToken"] == "t-1"
    assert second["Authorization"] == "Bearer a-token"
    assert second["MS-RequestId"] != responses.calls[0].request.headers["MS-RequestId"]


@pytest.mark.parametrize(
    "uri", ["https://evil.example/v1/customers", "//evil.example/v1/customers", "http://partner.example/v1/customers"]
)
@responses.activate
def test_a_link_to_another_origin_is_refused_and_nothing_is_sent_there(uri: str) -> None:
    responses.get(LIST, json=collection(resource(1), totalCount=2, links={"next": {"uri": uri, "method": "GET"}}))
    with pytest.raises(ProtocolError, match="does not belong"):
        connect().list_subscriptions(TENANT)
    assert len(responses.calls) == 1


def _token(page: int) -> dict[str, Any]:
    return collection(resource(page), continuationToken="same")


def _repeats(page: int) -> dict[str, Any]:
    return collection(resource(1), continuationToken=f"t-{page}")


@pytest.mark.parametrize("make", [_token, _repeats])
@responses.activate
def test_pages_that_lead_in_a_circle_are_an_error(make: Callable[[int], dict[str, Any]]) -> None:
    for page in range(1, 4):
        responses.get(LIST, json=make(page))
    with pytest.raises(ProtocolError, match=r"circle|repeats"):
        connect().list_subscriptions(TENANT)


@responses.activate
def test_a_list_that_is_shorter_than_announced_is_an_error_and_never_part_of_it() -> None:
    responses.get(LIST, json=collection(resource(1), resource(2), totalCount=3))
    with pytest.raises(ProtocolError, match="announced 3 items and gave 2"):
        connect().list_subscriptions(TENANT)


@responses.activate
def test_the_same_item_on_two_pages_does_not_make_up_for_a_missing_one() -> None:
    responses.get(LIST, json=collection(resource(1), resource(2), totalCount=4, continuationToken="t-1"))
    responses.get(LIST, json=collection(resource(2), resource(3), totalCount=4))
    with pytest.raises(ProtocolError, match="announced 4 items and gave 3"):
        connect().list_subscriptions(TENANT)


@responses.activate
def test_an_empty_customer_has_an_empty_list() -> None:
    responses.get(LIST, json=collection())
    assert connect().list_subscriptions(TENANT) == {}


@pytest.mark.parametrize(
    "body",
    [
        {"totalCount": 0},
        {"totalCount": 0, "items": None},
        [],
        {"items": [{"quantity": 1}]},
        {"totalCount": "many", "items": []},
        {"items": [], "links": {"next": {"method": "GET"}}},
        {"items": [], "links": {"next": {"uri": "/customers", "method": "POST"}}},
        {"items": [], "links": {"next": {"uri": "/customers", "headers": [{"key": "MS-ContinuationToken"}]}}},
        {"items": [], "continuationToken": {"token": 1}},
    ],
)
@responses.activate
def test_an_answer_that_is_not_a_collection_is_an_error(body: object) -> None:
    responses.get(LIST, json=body)
    with pytest.raises(ProtocolError):
        connect().list_subscriptions(TENANT)


@responses.activate
def test_a_page_that_fails_fails_the_list() -> None:
    responses.get(LIST, json=collection(resource(1), continuationToken="t-1"))
    responses.get(LIST, status=503)
    responses.get(LIST, status=503)
    with pytest.raises(Transient):
        connect().list_subscriptions(TENANT)
