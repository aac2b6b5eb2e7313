"""Playing a scenario compares exactly what it mentions, and each kind of expectation can fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector.sandbox.app import Sandbox
from connector.sandbox.grammar import RunStep
from connector.sandbox.player import PlayResult, play
from connector.sandbox.scenario import build_scenario
from connector.sandbox.wire import Request, Response
from connector.sandbox.work365 import SUBSCRIPTION

TENANT = "11111111-1111-4111-8111-111111111111"
WORLD: dict[str, Any] = {
    "name": "one family",
    "clock": "2026-03-02T14:00:00Z",
    "accounts": [{"id": "pinecone", "tenant": TENANT}],
    "contracts": [{"id": "parent"}, {"id": "ny"}],
    "subscriptions": [
        {
            "id": "p-e3",
            "contract": "parent",
            "provider": "partner_center",
            "quantity": 25,
            "at_provider": {"commitment_end": "2026-12-31", "scheduled": {"quantity": 20}},
        },
        {"id": "ny-e3", "contract": "ny", "provider": "linked", "linked_to": "p-e3", "quantity": 25},
    ],
}
CHANGE = {"change": {"subscription": "ny-e3", "quantity": 35}}


class Played:
    """A scenario played with a stand-in for the connector that sets the provider's quantity to 35."""

    def __init__(self, *steps: Any, code: int = 0, rules: str | list[str] | None = None) -> None:
        scenario = build_scenario(WORLD | {"steps": list(steps)})
        self.sandbox = Sandbox(scenario)
        self.code = code
        self.runs: list[RunStep] = []
        self.asked: list[str] = []
        self.forgotten = 0

        def explain(identifier: str) -> str | list[str] | None:
            self.asked.append(identifier)
            return rules

        self.result: PlayResult = play(scenario, self.sandbox, self.run, self.forget, explain if rules else None)

    def run(self, step: RunStep) -> int:
        self.runs.append(step)
        bought = self.sandbox.world.bought("p-e3")
        assert bought is not None
        path = f"/v1/customers/{TENANT}/subscriptions/{bought.id}"
        headers = {"authorization": f"Bearer {self.sandbox.sign_in.issue('partner_center')}", "ms-requestid": "one"}
        body = json.dumps({"quantity": 35, "autoRenewEnabled": True}).encode()
        answer = self.sandbox.handle("partner_center", Request("PATCH", path, "", headers, body))
        assert isinstance(answer, Response) and answer.status == 200, answer
        return self.code

    def forget(self) -> None:
        self.forgotten += 1


def expect(**what: Any) -> dict[str, Any]:
    return {"expect": what}


def test_a_play_that_goes_as_written_has_no_differences() -> None:
    played = Played(
        CHANGE,
        {"run": {"exit": 0, "only": "p-e3"}},
        expect(
            subscriptions={"ny-e3": {"quantity": 35, "state": "active", "provider": "linked", "linked_to": "p-e3"}},
            provider={
                "p-e3": {"quantity": 35, "auto_renew": True, "status": "active", "scheduled": None, "updates": 1}
            },
            lcls={"ny-e3": [{"quantity": 10, "status": "Awaiting", "kind": "Update", "archived": False}], "p-e3": []},
            provider_writes=1,
            crm_writes=0,
            explain={"ny-e3": "LS-014"},
        ),
        rules="LS-014",
    )
    assert played.result.differences == [] and played.result.ok
    assert [step.kind for step in played.result.steps] == ["change", "run", "expect"]
    assert played.runs[0].only == "p-e3"
    assert played.asked == [played.sandbox.world.id_of("ny-e3")]


@pytest.mark.parametrize(
    ("wanted", "difference"),
    [
        ({"provider": {"p-e3": {"quantity": 35}}}, "provider p-e3 quantity: expected 35, was 25"),
        ({"provider": {"p-e3": {"status": "suspended"}}}, "provider p-e3 status: expected 'suspended', was 'active'"),
        ({"provider": {"p-e3": {"auto_renew": False}}}, "provider p-e3 auto_renew: expected False, was True"),
        (
            {"provider": {"p-e3": {"scheduled": {"quantity": 9}}}},
            "provider p-e3 scheduled quantity: expected 9, was 20",
        ),
        ({"provider": {"p-e3": {"updates": 3}}}, "provider p-e3 updates: expected 3, was 0"),
        ({"provider": {"p-e3": {"reducible": 3}}}, "provider p-e3 reducible: expected 3, was 0"),
        ({"provider": {"p-e3": None}}, "provider p-e3: expected none, was one"),
        ({"provider": {"ny-e3": {"quantity": 1}}}, "provider ny-e3: expected one, was none"),
        ({"subscriptions": {"p-e3": {"quantity": 35}}}, "subscription p-e3 quantity: expected 35, was 25"),
        (
            {"subscriptions": {"p-e3": {"state": "suspended"}}},
            "subscription p-e3 state: expected 'suspended', was 'active'",
        ),
        (
            {"subscriptions": {"p-e3": {"provider": "manual"}}},
            "subscription p-e3 provider: expected 'manual', was 'partner_center'",
        ),
        (
            {"subscriptions": {"p-e3": {"order_reference": "LS"}}},
            "subscription p-e3 order_reference: expected 'LS', was none",
        ),
        ({"subscriptions": {"p-e3": None}}, "subscription p-e3: expected none, was one"),
        ({"lcls": {"ny-e3": []}}, "lcls ny-e3: expected 0, were 1 (+10 Awaiting)"),
        ({"lcls": {"p-e3": [{"quantity": 10}]}}, "lcls p-e3: expected 1, were 0 (none)"),
        ({"lcls": {"ny-e3": [{"quantity": 9}]}}, "lcls ny-e3[1] quantity: expected 9, was 10"),
        (
            {"lcls": {"ny-e3": [{"status": "Failed"}]}},
            "lcls ny-e3[1] status: expected 'Failed', was 'Awaiting'",
        ),
        ({"lcls": {"ny-e3": [{"message": "no.*link"}]}}, "lcls ny-e3[1] message: expected 'no.*link', was none"),
        ({"lcls": {"ny-e3": [{"kind": "Create"}]}}, "lcls ny-e3[1] kind: expected 'Create', was 'Update'"),
        ({"lcls": {"ny-e3": [{"archived": True}]}}, "lcls ny-e3[1] archived: expected True, was False"),
        ({"lcls": {"ny-e3": [{"scheduled": True}]}}, "lcls ny-e3[1] scheduled: expected True, was False"),
        (
            {"lcls": {"ny-e3": [{"effective": "2026-03-01"}]}},
            "lcls ny-e3[1] effective: expected 2026-03-01, was 2026-03-02",
        ),
        ({"slcls": {"ny-e3": [{"status": "Pending"}]}}, "slcls ny-e3: expected 1, were 0"),
        ({"provider_writes": 1}, "provider_writes: expected 1, were 0"),
        ({"crm_writes": 2}, "crm_writes: expected 2, were 0 (in 0 requests)"),
        ({"explain": {"ny-e3": "LS-001"}}, "explain ny-e3: expected LS-001, was LS-014"),
        ({"explain": {"ny-e3": None}}, "explain ny-e3: expected nothing, was LS-014"),
    ],
)
def test_each_kind_of_expectation_can_fail(wanted: dict[str, Any], difference: str) -> None:
    played = Played(CHANGE, expect(**wanted), rules=["LS-014"])
    assert played.result.differences == [f"step 2 expect: {difference}"]
    assert [step.ok for step in played.result.steps] == [True, False]


def test_nothing_can_be_explained_when_nobody_is_there() -> None:
    assert "nobody is here" in Played(expect(explain={"ny-e3": "LS-1"})).result.differences[0]


def test_an_exit_code_is_compared_only_if_it_is_given() -> None:
    assert Played({"run": {"exit": 0}}, code=3).result.differences == ["step 1 run: exit code: expected 0, was 3"]
    assert Played({"run": {}}, "run", {"run": None}, code=3).result.ok


def test_writes_are_counted_since_the_last_expect_and_replays_do_not_count() -> None:
    played = Played("run", expect(provider_writes=1), "run", expect(provider_writes=0), expect(provider_writes=0))
    assert played.result.differences == []


def test_crm_writes_may_be_counted_by_parts_or_by_requests() -> None:
    from connector.sandbox.expectations import Writes, differences
    from connector.sandbox.expected import Expect

    world = Sandbox(build_scenario(WORLD)).world
    writes = Writes(provider=0, crm=3, crm_requests=2)
    assert [len(differences(Expect(crm_writes=number), world, writes)) for number in (1, 2, 3, 4)] == [1, 0, 0, 1]


def test_messages_are_searched_for_as_regular_expressions() -> None:
    told = {"set_lcl": {"subscription": "ny-e3", "status": "Failed", "message": "LS-011: no linked parent"}}
    assert Played(CHANGE, told, expect(lcls={"ny-e3": [{"message": r"no \w+ parent", "status": "Failed"}]})).result.ok


def test_scheduled_logs_can_be_expected() -> None:
    later = {"change": {"subscription": "ny-e3", "quantity": 20, "effective": "on_renewal"}}
    wanted = {"quantity": 20, "status": "Pending", "event": "Update", "effective": "2027-01-01"}
    assert Played(later, expect(slcls={"ny-e3": [wanted]}, lcls={"ny-e3": []})).result.ok


def test_the_provider_may_change_by_itself() -> None:
    played = Played(
        {"provider_change": {"subscription": "p-e3", "quantity": 70}},
        expect(provider={"p-e3": {"quantity": 70, "scheduled": None, "reducible": 45}}, provider_writes=0),
        {"provider_change": {"subscription": "p-e3", "status": "suspended"}},
        expect(provider={"p-e3": {"status": "suspended", "auto_renew": False}}),
        {
            "provider_change": {
                "subscription": "p-e3",
                "status": "active",
                "auto_renew": True,
                "scheduled": {"quantity": 9},
            }
        },
        expect(provider={"p-e3": {"status": "active", "auto_renew": True, "scheduled": {"quantity": 9}}}),
        {"at": "2027-01-02T00:00:00Z"},
        expect(provider={"p-e3": {"quantity": 9, "commitment_end": "2027-12-31"}}),
    )
    assert played.result.differences == []


def test_state_is_forgotten_when_a_step_says_so() -> None:
    assert Played({"forget_state": True}, {"forget_state": False}, "forget_state").forgotten == 2


def test_a_step_that_cannot_be_done_ends_the_play() -> None:
    played = Played(
        {"provider_change": {"subscription": "ny-e3", "quantity": 1}},
        expect(provider={"p-e3": {"quantity": 1}}),
    )
    assert played.result.differences == [
        "step 1 provider_change: cannot be done: ny-e3 was never bought; give it at_provider"
    ]
    assert [step.played for step in played.result.steps] == [False, False] and not played.result.ok


@pytest.mark.parametrize(
    ("step", "needle"),
    [
        ({"at": "2026-03-02T13:59:59Z"}, "never runs backwards"),
        ({"set_lcl": {"subscription": "ny-e3", "index": 5, "status": "Failed"}}, "there is none at index 5"),
    ],
)
def test_impossible_steps_say_why(step: dict[str, Any], needle: str) -> None:
    assert needle in Played(step).result.differences[0]


def test_a_silent_change_of_the_crm_makes_no_log() -> None:
    played = Played(
        {"crm_change": {"subscription": "p-e3", "quantity": 70, "silent": True}},
        expect(subscriptions={"p-e3": {"quantity": 70}}, lcls={"p-e3": []}),
    )
    assert played.result.ok
    assert played.sandbox.store.count(SUBSCRIPTION) == 2
