"""The moment at which a process dies: after an effect, whatever the number of calls, or in the middle of a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector.sandbox.app import Sandbox
from connector.sandbox.deaths import Watch
from connector.sandbox.faults import Dropped
from connector.sandbox.scenario import build_scenario, build_step
from connector.sandbox.wire import Request, Response
from connector.sandbox.work365 import LOG, QUANTITY, SUBSCRIPTION

TENANT = "11111111-1111-4111-8111-111111111111"
STATUS = "work365_licensechangelog_provisioningstatus"


class Client:
    """A client of both services, without sockets."""

    def __init__(self, **section: Any) -> None:
        document: dict[str, Any] = {
            "name": "one family",
            "clock": "2026-03-02T14:00:00Z",
            "accounts": [{"id": "pinecone", "tenant": TENANT}],
            "contracts": [{"id": "c"}],
            "subscriptions": [
                {"id": "p", "contract": "c", "quantity": 25, "at_provider": {}},
                {"id": "ny", "contract": "c", "linked_to": "p", "quantity": 25},
            ],
        }
        self.sandbox = Sandbox(build_scenario(document | section))
        self.do(change={"subscription": "ny", "quantity": 35})

    def do(self, **step: Any) -> None:
        self.sandbox.perform(build_step(step, self.sandbox.scenario))

    def send(self, service: str, method: str, path: str, body: bytes, kind: str) -> Response | Dropped:
        headers = {"authorization": f"Bearer {self.sandbox.sign_in.issue(service)}", "content-type": kind}
        return self.sandbox.handle(service, Request(method, path, "", headers, body, "https://org.example"))

    def write_row(self, table: str, row_id: str, **values: Any) -> None:
        path = f"/api/data/v9.2/{table}s({row_id})"
        answer = self.send("dataverse", "PATCH", path, json.dumps(values).encode(), "application/json")
        assert isinstance(answer, Response) and answer.status == 204

    def raise_subscription(self, alias: str, quantity: int) -> None:
        self.write_row(SUBSCRIPTION, self.sandbox.world.id_of(alias), **{QUANTITY: quantity})

    def tell(self, alias: str, status: str) -> None:
        log_id = self.sandbox.world.logs_of(alias)[-1][f"{LOG}id"]
        self.write_row(LOG, log_id, **{STATUS: self.sandbox.store.schema.option(LOG, STATUS, status)})

    def patch_provider(self, **body: Any) -> Response | Dropped:
        bought = self.sandbox.world.bought("p")
        assert bought is not None
        path = f"/v1/customers/{TENANT}/subscriptions/{bought.id}"
        full = {"autoRenewEnabled": True, **body}
        return self.send("partner_center", "PATCH", path, json.dumps(full).encode(), "application/json")

    def batch(self, *items: str) -> Response | Dropped:
        body = "".join(f"--b\r\n{item}\r\n" for item in items) + "--b--\r\n"
        return self.send("dataverse", "POST", "/api/data/v9.2/$batch", body.encode(), "multipart/mixed; boundary=b")

    def part(self, method: str, alias: str, body: Any = None, number: int = 1) -> str:
        path = f"/api/data/v9.2/work365_subscriptions({self.sandbox.world.id_of(alias)})"
        head = f"Content-Type: application/http\r\nContent-ID: {number}\r\n\r\n{method} {path} HTTP/1.1\r\n"
        return f"{head}Content-Type: application/json\r\n\r\n{'' if body is None else json.dumps(body)}"

    def quantity(self, alias: str) -> int:
        row = self.sandbox.store.get(SUBSCRIPTION, self.sandbox.world.id_of(alias))
        assert row is not None
        return int(row[QUANTITY])


def one_set(*parts: str) -> str:
    inner = "".join(f"--c\r\n{part}\r\n" for part in parts)
    return f"Content-Type: multipart/mixed; boundary=c\r\n\r\n{inner}--c--\r\n"


SCHEDULE = {"scheduledNextTermInstructions": {"quantity": 20, "product": {}}}


def trips(client: Client, watch: Watch) -> list[str]:
    """Which of a pass's calls trips the watch."""
    done = []
    for name, call in (
        ("child", lambda: client.raise_subscription("ny", 36)),
        ("same", lambda: client.raise_subscription("p", 25)),
        ("failed", lambda: client.tell("ny", "Failed Provisioning")),
        ("raised", lambda: client.raise_subscription("p", 36)),
        ("refused", lambda: client.patch_provider(quantity=-1)),
        ("renamed", lambda: client.patch_provider(quantity=25, friendlyName="x")),
        ("bought", lambda: client.patch_provider(quantity=36)),
        ("scheduled", lambda: client.patch_provider(quantity=36, **SCHEDULE)),
        ("told", lambda: client.tell("p", "Provisioned")),
    ):
        call()
        if watch.tripped:
            done.append(name)
            break
    return done


@pytest.mark.parametrize(
    ("effect", "call"),
    [("parent_raised", "raised"), ("purchased", "bought"), ("scheduled", "scheduled"), ("acknowledged", "told")],
)
def test_a_watch_trips_at_the_call_that_had_the_effect(effect: Any, call: str) -> None:
    client = Client()
    assert trips(client, client.sandbox.watch_for(effect)) == [call]


def test_what_people_the_portal_and_the_crm_itself_do_trips_nothing() -> None:
    client = Client(work365={"pushes": "late"})
    effects: list[Any] = ["parent_raised", "purchased", "scheduled", "acknowledged"]
    for effect in effects:
        watch = client.sandbox.watch_for(effect)
        client.raise_subscription("ny", client.quantity("ny"))
        client.do(change={"subscription": "p", "by": 1})
        client.do(advance="10s")
        client.do(set_lcl={"subscription": "p", "status": "Provisioned"})
        client.do(provider_change={"subscription": "p", "quantity": 40 + client.quantity("p")})
        client.do(provider_change={"subscription": "p", "scheduled": {"quantity": 20}})
        client.do(provider_change={"subscription": "p", "scheduled": None})
        client.raise_subscription("ny", client.quantity("ny"))
        assert not watch.tripped, effect


def test_an_effect_whose_answer_was_lost_is_one_all_the_same() -> None:
    client = Client()
    watch = client.sandbox.watch_for("purchased")
    client.do(fault={"service": "partner_center", "kind": "lost_response"})
    client.patch_provider(quantity=35)
    assert watch.tripped
    client.do(fault={"service": "partner_center", "kind": "lost_request"})
    again = client.sandbox.watch_for("purchased")
    assert client.patch_provider(quantity=40) == Dropped() and not again.tripped


def test_a_change_set_that_comes_to_nothing_had_no_effect() -> None:
    client = Client()
    watch = client.sandbox.watch_for("parent_raised")
    client.batch(one_set(client.part("PATCH", "p", {QUANTITY: 35}), client.part("PATCH", "ny", {QUANTITY: "x"}, 2)))
    assert not watch.tripped and client.quantity("p") == 25
    client.batch(one_set(client.part("PATCH", "p", {QUANTITY: 35})))
    assert watch.tripped


@pytest.mark.parametrize(
    ("items", "parent", "child", "applied"),
    [(0, 25, 35, 0), (1, 25, 35, 0), (2, 30, 35, 1), (3, 31, 36, 3), (9, 32, 36, 4)],
)
def test_a_batch_that_the_death_cuts_is_carried_out_up_to_there(
    items: int, parent: int, child: int, applied: int
) -> None:
    client = Client()
    watch = client.sandbox.watch_for(batch_items=items)
    client.batch(client.part("GET", "p"))
    assert not watch.tripped, "a batch that only reads is not the one"
    client.batch(
        client.part("GET", "p"),
        client.part("PATCH", "p", {QUANTITY: 30}),
        one_set(client.part("PATCH", "p", {QUANTITY: 31}), client.part("PATCH", "ny", {QUANTITY: 36}, 2)),
        client.part("PATCH", "p", {QUANTITY: 32}),
        client.part("GET", "p"),
    )
    assert watch.tripped
    assert (client.quantity("p"), client.quantity("ny"), client.sandbox.writes().crm) == (parent, child, applied)
    assert client.sandbox.trace.entries()[-1].status is None, "nobody saw an answer"
    client.batch(client.part("PATCH", "p", {QUANTITY: 40}), client.part("PATCH", "p", {QUANTITY: 41}))
    assert client.quantity("p") == 41, "only one process died, and only once"
