"""What a client of the sandbox really sees on the wire when something goes wrong on purpose."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests

from connector.sandbox.app import Sandbox
from connector.sandbox.faults import Fault, path_matches, status_answer
from connector.sandbox.scenario import build_scenario, build_step
from connector.sandbox.server import SandboxServer
from connector.sandbox.trace import batch_parts, is_write
from connector.sandbox.wire import Request, Response

TENANT = "11111111-1111-4111-8111-111111111111"
WORLD: dict[str, Any] = {
    "name": "one family",
    "accounts": [{"id": "pinecone", "name": "Pine Cone Vet", "tenant": TENANT}],
    "contracts": [{"id": "parent", "account": "pinecone"}],
    "subscriptions": [
        {
            "id": "p-e3",
            "contract": "parent",
            "provider": "partner_center",
            "part_number": "CFQ7TTC0LFLX:0001",
            "quantity": 25,
            "at_provider": {"quantity": 25},
        }
    ],
}


class Client:
    """A partner's client: reads, changes one field, sends the whole resource back."""

    def __init__(self, server: SandboxServer) -> None:
        self.sandbox = server.sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = server.endpoints.ca_bundle
        self.session.headers["Authorization"] = f"Bearer {self.sandbox.sign_in.issue('partner_center')}"
        bought = self.sandbox.world.bought("p-e3")
        assert bought is not None
        self.base = server.endpoints.partner_center
        self.url = f"{self.base}/v1/customers/{TENANT}/subscriptions/{bought.id}"

    def set(self, quantity: int, request_id: str | None = None) -> requests.Response:
        body = self.session.get(self.url).json() | {"quantity": quantity}
        headers = {"MS-RequestId": request_id} if request_id else {}
        return self.session.patch(self.url, json=body, headers=headers)

    @property
    def quantity(self) -> int:
        bought = self.sandbox.world.bought("p-e3")
        assert bought is not None
        return bought.quantity


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Sandbox(build_scenario(WORLD))) as running:
        yield running
        assert running.crashes == []


@pytest.fixture
def client(server: SandboxServer) -> Iterator[Client]:
    server.sandbox.faults.clear()
    client = Client(server)
    yield client
    client.session.close()


def fault(client: Client, **fields: Any) -> None:
    client.sandbox.perform(build_step({"fault": {"service": "partner_center", **fields}}, client.sandbox.scenario))


def test_a_lost_response_leaves_the_change_done(client: Client) -> None:
    before, accepted = client.quantity, client.sandbox.writes().provider
    fault(client, method="PATCH", kind="lost_response")
    with pytest.raises(requests.ConnectionError):
        client.set(before + 1, "lost-1")
    assert client.quantity == before + 1
    assert client.set(before + 1, "lost-1").status_code == 200, "the fault is used up; the same id is answered"
    assert client.sandbox.writes().provider == accepted + 1


def test_a_lost_request_was_never_processed(client: Client) -> None:
    before = client.quantity
    fault(client, method="PATCH", kind="lost_request")
    with pytest.raises(requests.ConnectionError):
        client.set(before + 1)
    assert client.quantity == before


def test_a_truncated_answer_breaks_off_in_the_body_after_the_change_was_made(client: Client) -> None:
    before = client.quantity
    fault(client, method="PATCH", kind="truncated")
    with pytest.raises(requests.RequestException):
        client.set(before + 1)
    assert client.quantity == before + 1


def test_a_slow_answer_never_comes_unless_seconds_are_given(client: Client) -> None:
    before, moment = client.quantity, client.sandbox.clock.now()
    fault(client, method="PATCH", kind="slow")
    with pytest.raises(requests.ConnectionError):
        client.set(before + 1)
    assert client.quantity == before + 1
    fault(client, method="GET", kind="slow", seconds=90)
    assert client.session.get(client.url).status_code == 200
    assert client.sandbox.clock.now() - moment == timedelta(seconds=90)


def test_a_status_is_answered_instead_of_the_request_being_processed(client: Client) -> None:
    before = client.quantity
    fault(client, method="PATCH", kind="status", status=409)
    answer = client.set(before + 1)
    assert (answer.status_code, answer.json()["code"]) == (409, "800082")
    assert client.quantity == before
    fault(client, method="PATCH", kind="status", status=500, applied=True)
    assert client.set(before + 1).status_code == 500
    assert client.quantity == before + 1


def test_throttling_has_its_own_body_and_retry_after(client: Client) -> None:
    fault(client, kind="status", status=429, retry_after=57)
    answer = client.session.get(client.url)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "57")
    assert answer.json() == {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}


def test_skip_lets_requests_pass_and_times_counts_hits(client: Client) -> None:
    fault(client, method="GET", kind="status", status=503, skip=1, times=2)
    assert [client.session.get(client.url).status_code for _ in range(4)] == [200, 503, 503, 200]


def test_a_fault_without_end_hits_until_it_is_cleared(client: Client) -> None:
    fault(client, method="GET", kind="status", status=503, times=None)
    assert {client.session.get(client.url).status_code for _ in range(3)} == {503}


def test_only_the_named_path_is_hit(client: Client) -> None:
    fault(client, path="/customers/*/subscriptions/*", kind="status", status=500)
    assert client.session.get(f"{client.base}/v1/customers").status_code == 200
    assert client.session.get(client.url).status_code == 500


def test_a_connection_survives_many_requests(client: Client) -> None:
    assert {client.session.get(client.url).status_code for _ in range(20)} == {200}


def test_several_clients_are_served_at_once(server: SandboxServer, client: Client) -> None:
    seen: list[int] = []

    def ask() -> None:
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Authorization": client.session.headers["Authorization"]}
            seen.append(session.get(client.url, headers=headers, verify=server.endpoints.ca_bundle).status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [200] * 8


def test_the_control_endpoint_shows_and_moves_the_world(server: SandboxServer, client: Client) -> None:
    base = f"{server.endpoints.dataverse}/__sandbox__"
    moment = server.sandbox.clock.now()
    step = {"provider_change": {"subscription": "p-e3", "quantity": 77}}
    assert client.session.post(f"{base}/step", json=step).status_code == 200
    assert client.quantity == 77
    assert client.session.post(f"{base}/advance", json={"by": "10m"}).status_code == 200
    assert server.sandbox.clock.now() - moment == timedelta(minutes=10)
    world = client.session.get(f"{base}/world").json()
    assert world["subscriptions"]["p-e3"]["at_provider"]["quantity"] == 77
    assert isinstance(client.session.get(f"{base}/trace").json(), list)
    wrong = client.session.post(f"{base}/step", json={"provider_change": {"subscription": "p-e4", "quantty": 1}})
    assert wrong.status_code == 400 and "did you mean 'quantity'" in wrong.text
    assert client.session.post(f"{base}/step", json={"run": {}}).status_code == 409
    assert client.session.get(f"{base}/nothing").status_code == 404


@pytest.mark.parametrize(
    ("pattern", "hit"),
    [
        ("subscriptions", True),
        ("SUBSCRIPTIONS/abc", True),
        ("/v1/customers/*/subscriptions*", True),
        (r"subscriptions/[a-c]+\?size", True),
        ("$batch", False),
        ("/v1/orders", False),
    ],
)
def test_paths_match_as_substring_glob_or_regular_expression(pattern: str, hit: bool) -> None:
    assert path_matches(pattern, "/v1/customers/x/subscriptions/abc?size=1") is hit


BATCH = (
    b"--b\r\nContent-Type: application/http\r\n\r\n"
    b"%s /api/data/v9.2/work365_licensechangelogs(0) HTTP/1.1\r\n\r\n{}\r\n--b--\r\n"
)


def test_a_batch_is_a_write_only_if_it_holds_one_and_a_fault_finds_its_parts() -> None:
    read = Request("POST", "/api/data/v9.2/$batch", body=BATCH % b"GET")
    write = Request("POST", "/api/data/v9.2/$batch", body=BATCH % b"PATCH")
    assert (is_write(read), is_write(write)) == (False, True)
    assert list(batch_parts(write.body)) == [("PATCH", "/api/data/v9.2/work365_licensechangelogs(0)")]
    inner = Fault("lost_response", "dataverse", "PATCH", "licensechangelogs")
    assert (inner.matches("dataverse", read), inner.matches("dataverse", write)) == (False, True)
    assert Fault("status", "dataverse", "PATCH").matches("dataverse", write) is False


@pytest.mark.parametrize(
    ("service", "status", "needle"),
    [
        ("dataverse", 412, "0x80060882"),
        ("dataverse", 429, "0x80072322"),
        ("dataverse", 403, "0x80072560"),
        ("dataverse", 500, "0x80040216"),
        ("partner_center", 404, "1000"),
        ("partner_center", 500, "800003"),
        ("sign_in", 401, "AADSTS7000215"),
        ("sign_in", 503, "AADSTS90033"),
    ],
)
def test_a_status_comes_with_the_body_that_the_real_service_gives(service: str, status: int, needle: str) -> None:
    assert needle in status_answer(service, Fault("status", status=status)).body.decode()


def test_a_401_has_no_body_and_a_given_body_wins() -> None:
    assert status_answer("dataverse", Fault("status", status=401)).body == b""
    page = status_answer("dataverse", Fault("status", status=502, body="<html>Bad gateway</html>"))
    assert page.header("Content-Type") == "text/html; charset=utf-8"
    own = status_answer("partner_center", Fault("status", status=400, body={"code": 900278}))
    assert own.body == b'{"code": 900278}'


def test_a_mistake_of_the_sandbox_is_loud(server: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(service: str, request: Request) -> Response:
        raise RuntimeError("broken")

    monkeypatch.setattr(server.sandbox, "handle", broken)
    answer = server.answer("partner_center", Request("GET", "/v1/customers"))
    assert isinstance(answer, Response) and answer.status == 500 and b"broken" in answer.body
    assert server.crashes == ["partner_center GET /v1/customers: RuntimeError: broken"]
    server.crashes.clear()
