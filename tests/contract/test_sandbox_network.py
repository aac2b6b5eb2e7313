"""A network that repeats, delays and loses, and a provider whose reads lag: what the client sees and what happened."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector.sandbox.app import Sandbox
from connector.sandbox.faults import Dropped
from connector.sandbox.scenario import build_scenario, build_step
from connector.sandbox.wire import Request, Response
from connector.sandbox.work365 import QUANTITY, SUBSCRIPTION

TENANT = "11111111-1111-4111-8111-111111111111"


class Client:
    """Reads and writes one subscription at the provider, without sockets."""

    def __init__(self, *steps: Any) -> None:
        document = {
            "name": "one parent",
            "clock": "2026-03-02T14:00:00Z",
            "accounts": [{"id": "pinecone", "tenant": TENANT}],
            "contracts": [{"id": "c"}],
            "subscriptions": [{"id": "p", "contract": "c", "quantity": 25, "at_provider": {"max_quantity": 900}}],
        }
        self.sandbox = Sandbox(build_scenario(document))
        bought = self.sandbox.world.bought("p")
        assert bought is not None
        self.path = f"/v1/customers/{TENANT}/subscriptions/{bought.id}"
        for step in steps:
            self.do(**step)

    def do(self, **step: Any) -> None:
        self.sandbox.perform(build_step(step, self.sandbox.scenario))

    def fault(self, **fields: Any) -> None:
        self.do(fault={"service": "partner_center", **fields})

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response | Dropped:
        token = {"authorization": f"Bearer {self.sandbox.sign_in.issue('partner_center')}"}
        return self.sandbox.handle("partner_center", Request(method, path, "", token | headers, body))

    def get(self, path: str | None = None) -> Any:
        answer = self.ask("GET", path or self.path)
        return json.loads(answer.body) if isinstance(answer, Response) and answer.status == 200 else answer

    def set(self, quantity: int, **headers: str) -> Response | Dropped:
        return self.ask("PATCH", self.path, json.dumps({"quantity": quantity}).encode(), **headers)

    def status(self) -> int | None:
        answer = self.ask("GET", self.path)
        return answer.status if isinstance(answer, Response) else None

    @property
    def quantity(self) -> int:
        bought = self.sandbox.world.bought("p")
        assert bought is not None
        return bought.quantity


def test_a_late_patch_arrives_after_a_later_one_and_overwrites_it() -> None:
    client = Client()
    client.fault(method="PATCH", kind="late")
    assert client.set(35) == Dropped()
    assert client.quantity == 25 and client.sandbox.writes().provider == 0
    client.do(advance="10m")
    assert isinstance(client.set(40), Response) and client.quantity == 40
    client.do(advance="29m")
    assert client.quantity == 40
    client.do(advance="1m")
    assert client.quantity == 35, "the seats that were bought in between may be given back, so nothing stops it"
    assert client.sandbox.writes().provider == 2
    shown = [(entry.status, entry.applied, entry.fault) for entry in client.sandbox.trace.entries() if entry.write]
    assert shown == [(None, 0, "late"), (200, 1, None), (None, 1, "late")]


def test_a_late_request_arrives_with_a_token_that_counts_as_good_only_if_it_was() -> None:
    client = Client()
    client.fault(method="PATCH", kind="late", after="3h", times=2)
    client.set(35)
    client.set(36, authorization="Bearer nonsense")
    client.do(advance="1d")
    assert client.quantity == 35
    assert all("authorization" not in entry.headers for entry in client.sandbox.trace.entries())


def test_a_late_request_that_was_repeated_under_its_id_meanwhile_does_nothing() -> None:
    client = Client()
    client.fault(method="PATCH", kind="late")
    client.set(35, **{"ms-requestid": "one"})
    client.set(35, **{"ms-requestid": "one"})
    client.set(40, **{"ms-requestid": "two"})
    client.do(advance="1h")
    assert client.quantity == 40 and client.sandbox.writes().provider == 2


def test_late_requests_arrive_in_the_order_of_their_times() -> None:
    client = Client()
    client.fault(method="PATCH", kind="late", after="2m")
    client.fault(method="PATCH", kind="late", after="1m")
    client.set(50)
    client.set(60)
    client.sandbox.clock.sleep(60)
    assert client.quantity == 60
    client.sandbox.clock.sleep(60)
    assert client.quantity == 50


def test_a_replayed_request_reaches_the_service_twice_and_the_client_sees_the_first_answer() -> None:
    client = Client()
    client.fault(method="PATCH", kind="replayed")
    answer = client.set(35)
    assert isinstance(answer, Response) and json.loads(answer.body)["quantity"] == 35
    assert client.sandbox.writes().provider == 2, "without a request id the service cannot know it again"
    client.fault(method="PATCH", kind="replayed")
    client.set(36, **{"ms-requestid": "one"})
    assert client.sandbox.writes().provider == 3, "with one it can"
    assert [entry.status for entry in client.sandbox.trace.entries()] == [200, None, 200, None]


def test_a_replayed_conditional_patch_of_a_row_is_done_once() -> None:
    sandbox = Client().sandbox
    sandbox.perform(build_step({"fault": {"service": "dataverse", "kind": "replayed"}}, sandbox.scenario))
    row_id = sandbox.world.id_of("p")
    row = sandbox.store.get(SUBSCRIPTION, row_id)
    assert row is not None
    headers = {
        "authorization": f"Bearer {sandbox.sign_in.issue('dataverse')}",
        "content-type": "application/json",
        "if-match": f'W/"{row["versionnumber"]}"',
    }
    body = json.dumps({QUANTITY: 35}).encode()
    path = f"/api/data/v9.2/{SUBSCRIPTION}s({row_id})"
    answer = sandbox.handle("dataverse", Request("PATCH", path, "", headers, body, "https://org.example"))
    assert isinstance(answer, Response) and answer.status == 204
    assert len(sandbox.world.logs_of("p")) == 1 and sandbox.writes().crm == 1


def test_a_fault_with_a_length_hits_every_request_until_its_time_is_over() -> None:
    client = Client()
    client.fault(method="GET", kind="status", status=503, **{"for": "104s"})
    assert [client.status() for _ in range(3)] == [503, 503, 503]
    client.sandbox.clock.sleep(103)
    assert client.status() == 503 and len(client.sandbox.faults.pending()) == 1
    client.sandbox.clock.sleep(1)
    assert client.status() == 200 and client.sandbox.faults.pending() == []


@pytest.mark.parametrize("kind", ["status", "late", "replayed", "lost_request"])
def test_skip_times_method_and_path_hold_for_faults_with_a_length_too(kind: str) -> None:
    client = Client()
    client.fault(kind=kind, path="subscriptions/", method="GET", skip=1, times=2, **{"for": "1h"})
    client.ask("GET", f"/v1/customers/{TENANT}/subscriptions")
    client.ask("PATCH", client.path, b"{}")
    for _ in range(5):
        client.ask("GET", client.path)
    hit = [entry.fault for entry in client.sandbox.trace.entries()]
    expected = [None, None, None, kind, kind, *([kind, kind] if kind == "replayed" else []), None, None]
    assert hit == expected


def test_lagging_reads_show_a_subscription_as_it_was_before_each_write_that_is_younger() -> None:
    client = Client({"lagging_reads": {"service": "partner_center", "for": "90s"}})
    answer = client.set(35)
    assert isinstance(answer, Response) and json.loads(answer.body)["quantity"] == 35, (
        "the write itself sees what it did"
    )
    listed = f"/v1/customers/{TENANT}/subscriptions"

    def seen() -> tuple[int, int]:
        return client.get()["quantity"], client.get(listed)["items"][0]["quantity"]

    assert seen() == (25, 25)
    client.sandbox.clock.sleep(60)
    client.do(provider_change={"subscription": "p", "quantity": 50})
    assert seen() == (25, 25) and client.quantity == 50
    client.sandbox.clock.sleep(30)
    assert seen() == (35, 35)
    client.sandbox.clock.sleep(59)
    assert seen() == (35, 35)
    client.sandbox.clock.sleep(1)
    assert seen() == (50, 50)


def test_a_renewal_too_is_seen_late_and_lagging_ends_when_it_is_said() -> None:
    client = Client({"provider_change": {"subscription": "p", "scheduled": {"quantity": 20}}})
    client.do(lagging_reads={"for": "1h"})
    end = client.get()["commitmentEndDate"]
    client.do(at="2027-01-31T00:10:00Z")
    assert client.quantity == 20
    assert (client.get()["quantity"], client.get()["commitmentEndDate"]) == (25, end)
    client.do(lagging_reads={"for": "0s"})
    assert client.get()["quantity"] == 20
