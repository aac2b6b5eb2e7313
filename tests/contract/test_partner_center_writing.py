"""Changing seats at Partner Center over HTTP: what is sent, what each answer means, what is never sent."""

from __future__ import annotations

import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import responses
from hypothesis import given
from hypothesis import strategies as st

from connector.domain.model import ProviderSubscription, ProviderSubscriptionId, TenantId
from connector.errors import (
    AuthError,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    RemoteError,
    Transient,
)
from connector.http.counter import RequestCounter
from connector.http.gate import RateGate
from connector.http.origin import Origin
from connector.http.session import make_session
from connector.http.transport import Transport, TransportSettings
from connector.providers.partner_center.client import PartnerCenter
from connector.providers.partner_center.codes import CODES, Kind
from connector.providers.partner_center.errors import classify, parse_error
from connector.providers.partner_center.resource import outgoing
from connector.providers.partner_center.schedule import ScheduledInstructions, adjust_schedule

BASE = "https://partner.example"
TENANT = TenantId("5d9a7e10-3c52-4b41-9c0e-6b0f3a2d1e01")
SUB = ProviderSubscriptionId("0f6c2a44-8e0b-4d6c-9a5e-2f1b7c3d4e01")
ONE = f"{BASE}/v1/customers/{TENANT}/subscriptions/{SUB}"
REQUEST_ID = "7b1de0f2-55c1-4a41-8a33-000000000abc"
NEXT_TERM = {
    "product": {
        "productId": "CFQ7TTC0LFLX",
        "skuId": "0001",
        "availabilityId": "CFQ7TTC0K4WR",
        "billingCycle": "annual",
        "termDuration": "P1Y",
        "promotionId": None,
    },
    "quantity": 20,
    "customTermEndDate": "2028-01-04T23:59:59.1234567",
}
ACTIONS = [{"scheduledType": "TermEnd", "actionType": "Cancel", "instructions": None}]


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


def resource(**changes: Any) -> dict[str, Any]:
    """A new-commerce Subscription with unknown fields, nulls and empty texts in it."""
    body: dict[str, Any] = {
        "id": SUB,
        "offerId": "CFQ7TTC0LFLX:0001:CFQ7TTC0K4WR",
        "friendlyName": "Tierarztpraxis „Zirbelkiefer“",
        "productType": {"id": "OnlineServicesNCE"},
        "quantity": 25,
        "commitmentEndDateTime": "2027-01-04T23:59:59Z",
        "cancellationAllowedUntilDate": None,
        "status": "active",
        "autoRenewEnabled": True,
        "renewalTermDuration": "",
        "somethingNew": {"kept": [1, None, "x", 0.5], "nothing": None},
        "scheduledNextTermInstructions": NEXT_TERM,
        "nextChargeInstructions": None,
        "attributes": {"objectType": "Subscription"},
    }
    return {**body, **changes}


def refusal(code: object, text: str = "no") -> dict[str, Any]:
    return {"code": code, "description": text, "data": [], "source": "PartnerFD"}


def read(adapter: PartnerCenter, body: dict[str, Any] | None = None) -> ProviderSubscription:
    responses.get(ONE, json=resource() if body is None else body)
    view = adapter.get_subscription(TENANT, SUB)
    assert isinstance(view, ProviderSubscription)
    return view


def set_seats(
    adapter: PartnerCenter, expected: ProviderSubscription, quantity: int = 35
) -> ProviderSubscription | None:
    return adapter.set_quantity(TENANT, SUB, expected=expected, quantity=quantity, request_id=REQUEST_ID)


def patches() -> list[Any]:
    return [call.request for call in responses.calls if call.request.method == "PATCH"]


@responses.activate
def test_a_change_sends_the_whole_resource_back_with_one_field_changed() -> None:
    adapter = connect()
    body = resource()
    responses.patch(ONE, json=resource(quantity=35))
    view = set_seats(adapter, read(adapter, body))
    sent = json.loads(patches()[0].body)
    assert sent == {**body, "quantity": 35}
    assert list(sent) == list(body)
    assert view is not None
    assert (view.quantity, view.status, view.scheduled_quantity) == (35, "active", 20)


@responses.activate
def test_a_change_carries_the_given_request_id_and_a_correlation_id_of_its_own() -> None:
    adapter = connect()
    responses.patch(ONE, json=resource(quantity=35))
    set_seats(adapter, read(adapter))
    headers = patches()[0].headers
    assert headers["MS-RequestId"] == REQUEST_ID
    assert headers["MS-CorrelationId"].startswith("00000000-0000-4000-8000-")
    assert headers["MS-CorrelationId"] != responses.calls[0].request.headers["MS-CorrelationId"]
    assert headers["Content-Type"] == "application/json"
    assert "If-Match" not in headers


@pytest.mark.parametrize(
    ("etag", "sent"),
    [("v-7", '"v-7"'), ('"v-7"', '"v-7"'), ('W/"v-7"', 'W/"v-7"'), ("", None), ('""', None), (None, None)],
)
@responses.activate
def test_if_match_is_sent_in_quotes_and_only_when_the_resource_carries_an_etag(etag: object, sent: str | None) -> None:
    adapter = connect()
    responses.patch(ONE, json=resource(quantity=35))
    set_seats(adapter, read(adapter, resource(attributes={"etag": etag, "objectType": "Subscription"})))
    assert patches()[0].headers.get("If-Match") == sent


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (202, json.dumps(resource(quantity=35))),
        (202, ""),
        (204, ""),
        (200, ""),
        (200, "{"),
        (200, json.dumps(resource(quantity=25))),
        (200, json.dumps(resource(quantity=35, id="0f6c2a44-8e0b-4d6c-9a5e-2f1b7c3d4e02"))),
        (200, json.dumps(resource(quantity=35, status=None))),
        (200, json.dumps(resource(quantity=35, status="pending"))),
        (200, json.dumps({"code": "400072", "description": "gone"})),
    ],
)
@responses.activate
def test_an_answer_that_does_not_show_the_new_quantity_confirms_nothing(status: int, body: str) -> None:
    adapter = connect()
    responses.patch(ONE, status=status, body=body)
    assert set_seats(adapter, read(adapter)) is None


@responses.activate
def test_a_body_that_was_not_read_just_before_is_never_made_up() -> None:
    adapter = connect()
    expected = read(adapter)
    responses.patch(ONE, json=resource(quantity=35))
    set_seats(adapter, expected)
    with pytest.raises(ProtocolError, match="not read just before"):
        set_seats(adapter, expected)
    assert len(patches()) == 1


@responses.activate
def test_a_read_that_failed_leaves_no_older_body_behind() -> None:
    adapter = connect()
    expected = read(adapter)
    responses.replace(responses.GET, ONE, status=400, json=refusal("800012"))
    with pytest.raises(Rejected):
        adapter.get_subscription(TENANT, SUB)
    with pytest.raises(ProtocolError, match="not read just before"):
        set_seats(adapter, expected)


@responses.activate
def test_bodies_of_subscriptions_that_are_handled_at_once_are_not_mixed_up() -> None:
    adapter = connect()
    names = [ProviderSubscriptionId(f"0f6c2a44-8e0b-4d6c-9a5e-2f1b7c3d4e{number:02d}") for number in range(16)]
    for number, name in enumerate(names):
        url = f"{BASE}/v1/customers/{TENANT}/subscriptions/{name}"
        responses.get(url, json=resource(id=name, quantity=number + 1, friendlyName=name))
        responses.patch(url, status=202)

    def grow(name: ProviderSubscriptionId) -> None:
        view = adapter.get_subscription(TENANT, name)
        assert isinstance(view, ProviderSubscription)
        adapter.set_quantity(TENANT, name, expected=view, quantity=view.quantity + 100, request_id=REQUEST_ID)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(grow, names))
    sent = {request.url.rpartition("/")[2]: json.loads(request.body) for request in patches()}
    assert {name: (body["id"], body["friendlyName"], body["quantity"]) for name, body in sent.items()} == {
        name: (name, name, number + 101) for number, name in enumerate(names)
    }


@responses.activate
def test_bodies_that_are_never_used_do_not_pile_up() -> None:
    adapter = connect()
    expected = read(adapter)

    def other(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        return 200, {}, json.dumps(resource(id=str(request.url).rpartition("/")[2]))

    responses.add_callback(responses.GET, re.compile(r".*/other-\d+"), callback=other)
    for number in range(512):
        adapter.get_subscription(TENANT, ProviderSubscriptionId(f"other-{number}"))
    with pytest.raises(ProtocolError, match="not read just before"):
        set_seats(adapter, expected)


@responses.activate
def test_a_change_is_refused_when_the_decision_was_made_on_another_quantity() -> None:
    adapter = connect()
    expected = read(adapter)
    responses.replace(responses.GET, ONE, json=resource(quantity=70))
    adapter.get_subscription(TENANT, SUB)
    with pytest.raises(ProtocolError, match="decided on at 25 seats and read last at 70"):
        set_seats(adapter, expected)
    assert patches() == []


@responses.activate
def test_a_change_to_no_seats_is_never_sent() -> None:
    adapter = connect()
    with pytest.raises(ProtocolError, match="0 is no number of seats"):
        set_seats(adapter, read(adapter), quantity=0)
    assert patches() == []


ODD = [60.0, "60", True, None, -5, 0, 2**63, 2**31, float("nan"), [60], {"value": 60}]
"""What a quantity must never be when it leaves, whether it was read, computed or handed in."""


@pytest.mark.parametrize("odd", ODD, ids=repr)
@responses.activate
def test_an_odd_number_of_seats_never_leaves(odd: object) -> None:
    adapter = connect()
    with pytest.raises(ProtocolError, match="no number of seats"):
        set_seats(adapter, read(adapter), quantity=odd)  # type: ignore[arg-type]
    assert patches() == []


@given(
    st.one_of(st.floats(), st.text(), st.booleans(), st.none(), st.integers(max_value=0), st.integers(min_value=2**31))
)
def test_only_whole_numbers_of_at_least_one_seat_leave(odd: object) -> None:
    with pytest.raises(ValueError, match="no number of seats"):
        outgoing({"quantity": odd}, odd)  # type: ignore[arg-type]


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_seats_that_the_decision_does_not_name_never_leave(found: int, named: int) -> None:
    if found == named:
        assert outgoing({"quantity": found}, named) == {"quantity": found}
    else:
        with pytest.raises(ValueError, match=f"carries {found} seats and the decision names {named}"):
            outgoing({"quantity": found}, named)


@pytest.mark.parametrize("odd", [60.0, "25", True, None, -5, 2**63, 26], ids=repr)
@responses.activate
def test_a_schedule_is_not_written_back_with_seats_that_were_read_oddly(odd: object) -> None:
    adapter = connect()
    was = ScheduledInstructions(NEXT_TERM, None, True)
    wanted = adjust_schedule(was, +10)
    assert wanted is not None
    responses.get(ONE, json=resource(quantity=odd, scheduledNextTermInstructions=None))
    with pytest.raises(ProtocolError):
        adapter.restore_schedule(TENANT, SUB, wanted, REQUEST_ID, seats=25, was=was)
    assert patches() == []


@pytest.mark.parametrize("value", ["missing", None, "true"])
@responses.activate
def test_a_body_without_its_renewal_switch_is_not_sent_back(value: object) -> None:
    body = resource(autoRenewEnabled=value)
    if value == "missing":
        del body["autoRenewEnabled"]
    adapter = connect()
    with pytest.raises(ProtocolError, match="turn its renewal off"):
        set_seats(adapter, read(adapter, body))
    assert patches() == []


@responses.activate
def test_a_subscription_of_the_old_commerce_may_lack_the_renewal_switch() -> None:
    body = resource(offerId="2b3b8d2d-10aa-4be4-b5fd-7f2feb0c3091", productType=None)
    del body["autoRenewEnabled"]
    adapter = connect()
    responses.patch(ONE, json={**body, "quantity": 35})
    assert set_seats(adapter, read(adapter, body)) is not None


# --- what each refusal means ------------------------------------------------------------------------------------------

EXPECTED_CLASS = {
    Kind.FINAL: Rejected,
    Kind.LATER: Transient,
    Kind.REREAD: PreconditionFailed,
    Kind.CONFIGURATION: AuthError,
}


@pytest.mark.parametrize("as_number", [True, False], ids=["number", "text"])
@pytest.mark.parametrize(("status", "code"), sorted(CODES))
@responses.activate
def test_every_listed_answer_is_raised_as_its_kind_and_is_not_sent_again(
    status: int, code: str, as_number: bool
) -> None:
    adapter = connect()
    expected = read(adapter)
    row = CODES[(status, code)]
    body = refusal(int(code) if as_number else code) if code else {}
    responses.patch(ONE, status=status, json=body)
    with pytest.raises(RemoteError) as caught:
        set_seats(adapter, expected)
    assert type(caught.value) is EXPECTED_CLASS[row.kind]
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.hint == f"{row.meaning} {row.remedy}"
    assert caught.value.retry_after == row.wait
    # A refused token is exchanged for a fresh one once; nothing else is sent twice.
    assert len(patches()) == (2 if status == 401 else 1)


@pytest.mark.parametrize(
    ("code", "seconds"), [(800082, 120), (None, 120), ("900278", 86_400), (800014, 300), (800060, 300), (800064, 300)]
)
@responses.activate
def test_a_busy_subscription_says_how_long_to_leave_it_alone(code: object, seconds: float) -> None:
    adapter = connect()
    expected = read(adapter)
    if code is None:
        responses.patch(ONE, status=409, body="<html>Conflict</html>")
    else:
        responses.patch(ONE, status=409, json=refusal(code))
    with pytest.raises(Transient) as caught:
        set_seats(adapter, expected)
    assert caught.value.retry_after == seconds
    assert len(patches()) == 1


@responses.activate
def test_a_longer_wait_that_the_service_names_wins() -> None:
    adapter = connect()
    expected = read(adapter)
    responses.patch(ONE, status=409, json=refusal(800082), headers={"Retry-After": "600"})
    with pytest.raises(Transient) as caught:
        set_seats(adapter, expected)
    assert caught.value.retry_after == 600


@pytest.mark.parametrize(("status", "code"), [(400, "123456"), (403, "123456"), (404, ""), (409, "123456"), (418, "1")])
@responses.activate
def test_a_refusal_that_nobody_listed_is_final(status: int, code: str) -> None:
    adapter = connect()
    expected = read(adapter)
    responses.patch(ONE, status=status, json=refusal(code))
    with pytest.raises(Rejected) as caught:
        set_seats(adapter, expected)
    assert (caught.value.code, caught.value.text) == (code, "no")
    assert len(patches()) == 1


@responses.activate
def test_the_seats_that_are_left_are_read_from_the_refusal() -> None:
    adapter = connect()
    expected = read(adapter)
    text = (
        "The requested number of 10 seat/s exceeded the remaining limit of 3 seats allowed per subscription "
        "for the CatalogID - CFQ7TTC0LFLX:0001"
    )
    responses.patch(ONE, status=403, json=refusal(800088, text))
    with pytest.raises(Rejected) as caught:
        set_seats(adapter, expected)
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("Seats still possible for this customer: 3.")


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 501])
@responses.activate
def test_trouble_of_the_service_leaves_the_outcome_of_a_change_unknown(status: int) -> None:
    adapter = connect()
    expected = read(adapter)
    responses.patch(ONE, status=status, json=refusal(800094))
    with pytest.raises(OutcomeUnknown):
        set_seats(adapter, expected)
    assert len(patches()) == 1


@responses.activate
def test_a_lost_answer_is_unknown_and_names_the_request_id() -> None:
    adapter = connect()
    expected = read(adapter)
    responses.patch(ONE, body=requests.exceptions.ReadTimeout("too late"))
    with pytest.raises(OutcomeUnknown) as caught:
        set_seats(adapter, expected)
    assert caught.value.request_id == REQUEST_ID
    assert caught.value.correlation_id == patches()[0].headers["MS-CorrelationId"]
    assert len(patches()) == 1


@responses.activate
def test_a_throttled_change_is_not_sent_again_from_here_because_a_person_may_have_been_there_meanwhile() -> None:
    adapter = connect()
    expected = read(adapter)
    throttled = {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}
    responses.patch(ONE, status=429, json=throttled, headers={"Retry-After": "57"})
    with pytest.raises(Transient):
        set_seats(adapter, expected)
    assert len(patches()) == 1


@responses.activate
def test_throttling_that_lasts_is_transient_with_the_services_own_wait() -> None:
    adapter = connect()
    expected = read(adapter)
    throttled = {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}
    responses.patch(ONE, status=429, json=throttled, headers={"Retry-After": "57"})
    with pytest.raises(Transient) as caught:
        set_seats(adapter, expected)
    assert caught.value.retry_after == 57
    assert caught.value.code == ""
    assert "Rate limit" in caught.value.text


# --- scheduled changes ------------------------------------------------------------------------------------------------


@responses.activate
def test_scheduled_instructions_are_those_of_the_body_that_was_read() -> None:
    adapter = connect()
    with pytest.raises(ProtocolError, match="was not read"):
        adapter.scheduled_instructions(TENANT, SUB)
    read(adapter)
    assert adapter.scheduled_instructions(TENANT, SUB) == ScheduledInstructions(NEXT_TERM, None, True)
    responses.replace(responses.GET, ONE, json=resource(scheduledNextTermInstructions=None))
    adapter.get_subscription(TENANT, SUB)
    assert adapter.scheduled_instructions(TENANT, SUB) is None


@responses.activate
def test_a_lost_schedule_is_written_back_adjusted_and_verified() -> None:
    adapter = connect()
    was = ScheduledInstructions(NEXT_TERM, None, True)
    wanted = adjust_schedule(was, +10)
    assert wanted is not None
    lost = resource(quantity=35, scheduledNextTermInstructions=None, autoRenewEnabled=False)
    # The service spells what it took in its own way, and names another availability.
    product = {**NEXT_TERM["product"], "billingCycle": "Annual", "availabilityId": "CFQ7TTC0ZZZZ"}  # type: ignore[dict-item]
    kept = {"product": product, "quantity": 30, "customTermEndDate": "2028-01-04T00:00:00Z", "extra": 1}
    responses.get(ONE, json=lost)
    responses.patch(ONE, json={})
    responses.get(ONE, json=resource(quantity=35, scheduledNextTermInstructions=kept))
    view = adapter.restore_schedule(TENANT, SUB, wanted, REQUEST_ID, seats=35, was=was)
    assert (view.quantity, view.scheduled_quantity, view.auto_renew) == (35, 30, True)
    sent = json.loads(patches()[0].body)
    expected = {**NEXT_TERM, "quantity": 30}
    assert sent == {**lost, "scheduledNextTermInstructions": expected, "autoRenewEnabled": True}
    assert patches()[0].headers["MS-RequestId"] == REQUEST_ID


@responses.activate
def test_a_schedule_that_survived_is_not_written_again() -> None:
    adapter = connect()
    responses.get(ONE, json=resource())
    adapter.restore_schedule(TENANT, SUB, ScheduledInstructions(NEXT_TERM, None, True), REQUEST_ID, seats=25)
    assert patches() == []


@responses.activate
def test_a_schedule_that_survived_with_its_old_quantity_is_adjusted() -> None:
    adapter = connect()
    was = ScheduledInstructions(NEXT_TERM, None, True)
    wanted = adjust_schedule(was, +10)
    assert wanted is not None
    responses.get(ONE, json=resource(quantity=35))
    responses.patch(ONE, json={})
    responses.get(ONE, json=resource(quantity=35, scheduledNextTermInstructions={**NEXT_TERM, "quantity": 30}))
    assert adapter.restore_schedule(TENANT, SUB, wanted, REQUEST_ID, seats=35, was=was).scheduled_quantity == 30


@responses.activate
def test_a_schedule_that_a_person_made_meanwhile_stands() -> None:
    adapter = connect()
    was = ScheduledInstructions(NEXT_TERM, None, True)
    responses.get(ONE, json=resource(scheduledNextTermInstructions={**NEXT_TERM, "quantity": 7}))
    with pytest.raises(PreconditionFailed):
        adapter.restore_schedule(TENANT, SUB, was, REQUEST_ID, seats=25, was=was)
    assert patches() == []


@responses.activate
def test_a_schedule_that_is_not_shown_after_it_was_written_is_unknown() -> None:
    adapter = connect()
    responses.get(ONE, json=resource(scheduledNextTermInstructions=None))
    responses.patch(ONE, status=202)
    with pytest.raises(OutcomeUnknown, match="does not show it"):
        adapter.restore_schedule(TENANT, SUB, ScheduledInstructions(NEXT_TERM, None, True), REQUEST_ID, seats=25)


@responses.activate
def test_a_schedule_is_not_restored_by_turning_on_a_renewal_that_was_off() -> None:
    with pytest.raises(ProtocolError, match="renewal was not on"):
        connect().restore_schedule(TENANT, SUB, ScheduledInstructions(NEXT_TERM, None, False), REQUEST_ID, seats=25)
    assert len(responses.calls) == 0


@responses.activate
def test_a_scheduled_cancellation_comes_back_with_renewal_still_off() -> None:
    adapter = connect()
    before = resource(scheduledNextTermInstructions=None, scheduledActions=ACTIONS, autoRenewEnabled=False)
    responses.patch(ONE, json=resource(quantity=35))
    expected = read(adapter, before)
    instructions = adapter.scheduled_instructions(TENANT, SUB)
    assert instructions is not None
    set_seats(adapter, expected)
    assert json.loads(patches()[0].body)["scheduledActions"] == ACTIONS
    responses.replace(responses.GET, ONE, json={**before, "quantity": 35, "scheduledActions": []})
    responses.get(ONE, json={**before, "quantity": 35})
    view = adapter.restore_schedule(TENANT, SUB, instructions, REQUEST_ID, seats=35)
    sent = json.loads(patches()[1].body)
    assert (sent["scheduledActions"], sent["autoRenewEnabled"]) == (ACTIONS, False)
    assert view.has_scheduled_change
