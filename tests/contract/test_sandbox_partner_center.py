"""The emulated Partner Center behaves as its documentation says, traps included."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from connector.sandbox.clock import SandboxClock
from connector.sandbox.partner_center.resource import CloudCustomer
from connector.sandbox.partner_center.service import PartnerCenterService
from connector.sandbox.partner_center.subscription import Batch, CloudSubscription, term_end
from connector.sandbox.wire import Request, Response

TENANT = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
SUB = "33333333-3333-4333-8333-333333333333"
START = datetime(2026, 3, 2, 14, tzinfo=UTC)
PATH = f"/v1/customers/{TENANT}/subscriptions/{SUB}"
SCHEDULE = {"product": {"productId": "CFQ7TTC0LFLX", "skuId": "0001", "termDuration": "P1Y"}, "quantity": 12}


@dataclass
class Cloud:
    clock: SandboxClock = field(default_factory=lambda: SandboxClock(START))

    def __post_init__(self) -> None:
        self.service = PartnerCenterService(self.clock.now, lambda header: "ok")
        self.clock.observe(self.service)
        self.service.add_customer(CloudCustomer(TENANT, "Pine Cone Vet", "pinecone.test"))
        self.service.add_subscription(
            CloudSubscription(
                id=SUB,
                tenant=TENANT,
                product_id="CFQ7TTC0LFLX",
                sku_id="0001",
                availability_id="CFQ7TTC0K971",
                offer_name="Microsoft 365 E3",
                friendly_name="E3 for all",
                quantity=25,
                created=START - timedelta(days=60),
                effective_start=START - timedelta(days=60),
                commitment_end=date(2026, 12, 31),
                order_id="0a1b2c3d4e5f",
            )
        )

    @property
    def sub(self) -> CloudSubscription:
        return self.service.subscriptions[SUB]

    def get(self, path: str = PATH, query: str = "", **headers: str) -> Response:
        return self.service.handle(
            Request("GET", path, query, {key.replace("_", "-"): v for key, v in headers.items()})
        )

    def body(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.get().body)
        return answer

    def patch(self, body: Any, **headers: str) -> Response:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.service.handle(Request("PATCH", PATH, "", named, json.dumps(body).encode()))

    def change(self, **fields: Any) -> Response:
        """Read, change, send the whole resource back: the way that the documentation asks for."""
        return self.patch(self.body() | fields)


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def refusal(response: Response) -> tuple[int, str]:
    return response.status, str(json.loads(response.body)["code"])


def test_the_resource_has_the_documented_shape(cloud: Cloud) -> None:
    body = cloud.body()
    assert body["offerId"] == "CFQ7TTC0LFLX:0001:CFQ7TTC0K971"
    assert body["productType"] == {"id": "OnlineServicesNCE", "displayName": "OnlineServicesNCE"}
    assert body["commitmentEndDate"] == "2026-12-31T00:00:00Z"
    assert body["commitmentEndDateTime"] == "2026-12-31T23:59:59Z"
    assert body["creationDate"] == "2026-01-01T14:00:00.0000000Z"
    assert body["refundableQuantity"] == {"totalQuantity": 0, "details": []}
    assert body["links"]["self"]["uri"] == f"/customers/{TENANT}/subscriptions/{SUB}"
    assert body["attributes"] == {"objectType": "Subscription"}, "new commerce has no ETag"


def test_a_list_has_every_state_but_does_not_tell_what_may_be_reduced(cloud: Cloud) -> None:
    cloud.sub.status = "expired"
    listed = json.loads(cloud.get(f"/v1/customers/{TENANT}/subscriptions").body)
    assert listed["totalCount"] == 1 and listed["items"][0]["status"] == "expired"
    assert "refundableQuantity" not in listed["items"][0]


def test_a_minimal_patch_switches_auto_renewal_off_and_deletes_the_scheduled_change(cloud: Cloud) -> None:
    cloud.change(scheduledNextTermInstructions=SCHEDULE)
    assert cloud.body()["scheduledNextTermInstructions"]["quantity"] == 12
    assert cloud.patch({"id": SUB, "friendlyName": "renamed"}).status == 200
    body = cloud.body()
    assert body["autoRenewEnabled"] is False and "scheduledNextTermInstructions" not in body


def test_sending_the_whole_resource_back_keeps_everything_else(cloud: Cloud) -> None:
    cloud.change(scheduledNextTermInstructions=SCHEDULE)
    assert cloud.change(friendlyName="renamed", unknownProperty={"a": 1}).status == 200
    body = cloud.body()
    assert body["friendlyName"] == "renamed" and body["autoRenewEnabled"] is True
    assert body["scheduledNextTermInstructions"]["quantity"] == 12


def test_an_increase_opens_a_batch_that_closes_after_seven_days(cloud: Cloud) -> None:
    assert cloud.change(quantity=35).status == 200
    assert cloud.body()["refundableQuantity"] == {
        "totalQuantity": 10,
        "details": [{"quantity": 10, "allowedUntilDateTime": "2026-03-09T14:00:00.000000Z"}],
    }
    cloud.clock.advance(timedelta(days=7))
    assert cloud.change(quantity=34).status == 200, "the last instant still counts"
    cloud.clock.advance(timedelta(seconds=1))
    refused = cloud.change(quantity=33)
    assert refusal(refused) == (400, "800090")
    assert isinstance(json.loads(refused.body)["code"], int)
    assert cloud.sub.quantity == 34


def test_no_more_than_the_open_batches_can_be_given_back_and_the_newest_goes_first(cloud: Cloud) -> None:
    cloud.change(quantity=30)
    cloud.clock.advance(timedelta(days=2))
    cloud.change(quantity=34)
    assert refusal(cloud.change(quantity=24)) == (400, "800090")
    assert cloud.change(quantity=29).status == 200
    assert [(batch.quantity, batch.until.day) for batch in cloud.sub.open_batches(cloud.clock.now())] == [(4, 9)]


def test_a_quantity_change_deletes_the_scheduled_change_even_if_the_body_carries_it(cloud: Cloud) -> None:
    cloud.change(scheduledNextTermInstructions=SCHEDULE)
    cloud.change(quantity=30)
    assert "scheduledNextTermInstructions" not in cloud.body()
    cloud.change(scheduledNextTermInstructions=SCHEDULE)
    assert cloud.body()["scheduledNextTermInstructions"]["quantity"] == 12, "a later PATCH may set it again"


def test_scheduling_needs_auto_renewal(cloud: Cloud) -> None:
    cloud.change(autoRenewEnabled=False)
    assert refusal(cloud.change(scheduledNextTermInstructions=SCHEDULE)) == (400, "800093")


def test_suspending_turns_auto_renewal_off_and_locks_the_quantity(cloud: Cloud) -> None:
    cloud.change(scheduledNextTermInstructions=SCHEDULE)
    assert cloud.change(status="suspended").status == 200
    body = cloud.body()
    assert (body["status"], body["autoRenewEnabled"], body["refundableQuantity"]) == ("suspended", False, None)
    assert "scheduledNextTermInstructions" not in body
    assert refusal(cloud.change(quantity=30)) == (400, "2001")
    assert cloud.change(status="active").status == 200
    assert cloud.body()["autoRenewEnabled"] is False, "reactivation does not bring it back"


@pytest.mark.parametrize(
    ("state", "change", "expected"),
    [
        ({"is_trial": True}, {"quantity": 30}, (400, "2006")),
        ({"is_trial": True}, {"status": "suspended"}, (400, "2006")),
        ({"status": "expired"}, {"quantity": 30}, (400, "800012")),
        ({"status": "deleted"}, {"quantity": 30}, (400, "2011")),
        ({"max_quantity": 28}, {"quantity": 30}, (403, "800067")),
        ({}, {"quantity": 0}, (400, "2002")),
        ({}, {"quantity": "30"}, (400, "3000")),
        ({}, {"status": "deleted"}, (400, "900117")),
        ({}, {"status": "frozen"}, (400, "800040")),
        ({"updates": 1200}, {"quantity": 30}, (400, "900311")),
    ],
)
def test_what_the_service_refuses_changes_nothing(
    cloud: Cloud, state: dict[str, Any], change: dict[str, Any], expected: tuple[int, str]
) -> None:
    for name, value in state.items():
        setattr(cloud.sub, name, value)
    assert refusal(cloud.change(**change)) == expected
    assert cloud.sub.quantity == 25 and cloud.service.accepted_writes == 0


def test_a_fresh_subscription_can_be_cancelled(cloud: Cloud) -> None:
    cloud.sub.cancellable_until = START + timedelta(days=1)
    assert cloud.change(status="deleted").status == 200
    assert cloud.body()["status"] == "deleted"


def test_the_renewal_day_refuses_updates_and_then_starts_a_new_term_with_one_open_batch(cloud: Cloud) -> None:
    cloud.change(scheduledNextTermInstructions=SCHEDULE)
    cloud.clock.set(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert cloud.sub.quantity == 25 and cloud.sub.commitment_end == date(2026, 12, 31), "the end date is inclusive"
    cloud.clock.set(datetime(2027, 1, 1, 0, 4, tzinfo=UTC))
    assert refusal(cloud.change(quantity=30)) == (409, "800082")
    cloud.clock.set(datetime(2027, 1, 1, 6, tzinfo=UTC))
    body = cloud.body()
    assert body["quantity"] == 12 and "scheduledNextTermInstructions" not in body
    assert body["commitmentEndDate"] == "2027-12-31T00:00:00Z"
    assert body["refundableQuantity"]["details"] == [
        {"quantity": 12, "allowedUntilDateTime": "2027-01-08T00:05:00.000000Z"}
    ]
    assert cloud.change(quantity=5).status == 200


def test_without_auto_renewal_the_subscription_expires(cloud: Cloud) -> None:
    cloud.change(autoRenewEnabled=False)
    cloud.clock.set(datetime(2027, 1, 1, tzinfo=UTC))
    assert cloud.body()["status"] == "expired"


def test_several_terms_pass_in_one_jump_of_the_clock(cloud: Cloud) -> None:
    cloud.sub.term, cloud.sub.commitment_end = "P1M", date(2026, 3, 31)
    cloud.clock.set(datetime(2026, 6, 15, tzinfo=UTC))
    assert cloud.sub.commitment_end == date(2026, 6, 30)


@pytest.mark.parametrize(
    ("start", "term", "end"),
    [
        (date(2026, 1, 31), "P1M", date(2026, 2, 27)),
        (date(2028, 2, 29), "P1Y", date(2029, 2, 27)),
        (date(2026, 1, 1), "P3Y", date(2028, 12, 31)),
        (date(2026, 12, 1), "P1M", date(2026, 12, 31)),
    ],
)
def test_terms_end_on_their_last_day(start: date, term: str, end: date) -> None:
    assert term_end(start, term) == end


def test_a_repeated_request_id_with_the_same_body_is_answered_but_not_done_again(cloud: Cloud) -> None:
    whole = cloud.body() | {"quantity": 35}
    first = cloud.patch(whole, ms_requestid="r-1")
    cloud.service.edit(SUB, lambda sub: sub.change_quantity(40, cloud.clock.now()))
    second = cloud.patch(whole, ms_requestid="r-1")
    assert second.body == first.body and second.status == 200
    assert cloud.sub.quantity == 40 and cloud.service.accepted_writes == 1
    assert second.header("MS-RequestId") == "r-1"


def test_a_request_id_is_remembered_for_a_day_and_only_after_a_success(cloud: Cloud) -> None:
    whole = cloud.body() | {"quantity": 20}
    assert cloud.patch(whole, ms_requestid="r-2").status == 400
    cloud.sub.batches = [Batch(10, START + timedelta(days=30))]
    assert cloud.patch(whole, ms_requestid="r-2").status == 200, "a refusal is not remembered"
    cloud.clock.advance(timedelta(hours=25))
    cloud.service.edit(SUB, lambda sub: sub.change_quantity(26, cloud.clock.now()))
    assert cloud.patch(whole, ms_requestid="r-2").status == 200
    assert cloud.sub.quantity == 20, "after a day the same id means a new request"


def test_a_legacy_subscription_has_an_etag_and_minds_it(cloud: Cloud) -> None:
    cloud.sub.legacy = True
    etag = cloud.body()["attributes"]["etag"]
    assert cloud.patch(cloud.body() | {"quantity": 20}, if_match=f'"{etag}"').status == 200, "no seven days for legacy"
    assert refusal(cloud.patch(cloud.body() | {"quantity": 19}, if_match=f'"{etag}"')) == (400, "2055")


def test_pascal_case_is_accepted(cloud: Cloud) -> None:
    body = {key[:1].upper() + key[1:]: value for key, value in cloud.body().items()}
    assert cloud.patch(body | {"Quantity": 27}).status == 200
    assert cloud.sub.quantity == 27 and cloud.sub.auto_renew


def test_an_accepted_change_may_be_answered_with_202_and_a_location(cloud: Cloud) -> None:
    cloud.service.accept_only = True
    answer = cloud.change(quantity=30)
    assert (answer.status, answer.header("Location"), answer.body) == (202, PATH, b"")
    assert cloud.body()["quantity"] == 30


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/v1/customers/{TENANT}/subscriptions/{OTHER}", (404, "20003")),
        (f"/v1/customers/{OTHER}/subscriptions/{SUB}", (404, "60003")),
        ("/v1/customers/not-a-guid/subscriptions", (400, "3000")),
        (f"/v1/customers/{TENANT}/subscriptions/{SUB}/provisioningstatus", (403, "900329")),
        ("/v1/products/CFQ7TTC0NONE/skus/0001", (404, "1000")),
        ("/v1/invoices", (501, "0")),
    ],
)
def test_what_is_not_there_is_refused_in_the_services_own_words(
    cloud: Cloud, path: str, expected: tuple[int, str]
) -> None:
    assert refusal(cloud.get(path)) == expected


def test_a_customer_who_left_is_refused(cloud: Cloud) -> None:
    cloud.service.add_customer(CloudCustomer(TENANT, "Pine Cone Vet", "pinecone.test", related=False))
    assert refusal(cloud.get()) == (403, "20002")


def test_malformed_bodies_are_refused(cloud: Cloud) -> None:
    for body in (b"{", b"[]", b'"text"'):
        assert refusal(cloud.service.handle(Request("PATCH", PATH, "", {}, body))) == (400, "3000")


def test_customers_come_in_pages_by_continuation_token(cloud: Cloud) -> None:
    for number in range(4):
        cloud.service.add_customer(CloudCustomer(f"{number}0000000-0000-4000-8000-000000000000", "x", "x.test"))
    first = json.loads(cloud.get("/v1/customers", "size=2").body)
    link = first["links"]["next"]
    assert link["headers"] == [{"key": "MS-ContinuationToken", "value": first["continuationToken"]}]
    seen = [item["id"] for item in first["items"]]
    page, pages = first, 1
    while "continuationToken" in page:
        answer = cloud.get("/v1/customers", "seekOperation=Next", ms_continuationtoken=page["continuationToken"])
        page, pages = json.loads(answer.body), pages + 1
        seen += [item["id"] for item in page["items"]]
    assert pages == 3 and len(seen) == len(set(seen)) == 5


def test_the_catalogue_knows_the_limits_of_a_sku(cloud: Cloud) -> None:
    body = json.loads(cloud.get("/v1/products/CFQ7TTC0LFLX/skus/0001", "country=US").body)
    assert (body["minimumQuantity"], body["maximumQuantity"]) == (1, 10_000)


def test_every_change_is_on_record_with_who_asked(cloud: Cloud) -> None:
    cloud.patch(cloud.body() | {"quantity": 35}, ms_requestid="r-9")
    cloud.service.edit(SUB, lambda sub: sub.change_quantity(36, cloud.clock.now()))
    assert [(change.request_id, change.fields["quantity"]) for change in cloud.service.changes] == [
        ("r-9", (25, 35)),
        (None, (35, 36)),
    ]
    assert cloud.sub.updates == 2
