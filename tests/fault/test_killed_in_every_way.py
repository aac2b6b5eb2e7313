"""Money stories in every kind of organisation, killed at every call, and finished by the same host or by another one.

What the organisation's Work 365 does with the parent's log is not public, so each of its ways is played. The end must be
that of the undisturbed story: quantities, statuses and the parent's own Order Reference, with as many orders.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import cache
from typing import Any
from zlib import crc32

import pytest

from connector.domain.policy import Policy
from connector.sandbox.app import Sandbox
from connector.sandbox.grammar import Step
from connector.sandbox.scenario import build_scenario
from connector.sandbox.wire import Request, Response
from tests.harness.faults import Kind
from tests.harness.scenarios import SIZE
from tests.support.rig import Host, ask, suffer

SKU = {"product": "M365-E3", "part_number": "CFQ7TTC0LFLX:0001"}
BOUGHT = {
    "quantity": 50,
    "term": "P1Y",
    "commitment_end": "2026-12-31",
    "auto_renew": True,
    "batches": [{"quantity": 12, "until": "2026-03-08T14:00:00Z"}],
}
WAYS: dict[str, dict[str, Any]] = {
    "makes it": {"parent_log": "makes"},
    "makes it late": {"parent_log": "late", "late_by": "7s"},
    "makes it Not Applicable": {"parent_log": "not_applicable"},
    "makes none": {"parent_log": "none"},
    "makes none, and linksub may": {"parent_log": "none"},
    "raises the parent itself": {"parent_log": "makes", "pushes": "yes"},
    "does not copy Order Reference": {"parent_log": "makes", "copies_order_reference": "no"},
}
GROW, SHRINK = {"change": {"subscription": "ny", "by": 10}}, {"change": {"subscription": "ny", "by": -4}}
SIBLING = {"change": {"subscription": "atlanta", "by": 3}}
STOP = {"set_lcl": {"subscription": "ny", "index": 0, "status": "Failed", "message": "ordered by mistake"}}
STORIES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "more seats": ([GROW], []),
    "fewer seats": ([SHRINK], []),
    "a move and more": ([SHRINK, SIBLING, {"change": {"subscription": "memphis", "by": 4}}], []),
    "more, and more meanwhile": ([GROW], [SIBLING]),
    "more, and stopped meanwhile": ([GROW, SIBLING], [STOP]),
}
"""Name → what people do before the pass that is killed, and what they do between its death and the next one."""

KILLS = (Kind.CRASH_BEFORE, Kind.CRASH_AFTER)
PART = 7
"""In CI size every seventh of these deaths is played, another seventh of each story; LINKSUB_FAULTS=full plays all."""
AFTER = ("the same host", "the same host without its journal", "another host")


class Play:
    """One story in one organisation."""

    def __init__(self, way: str) -> None:
        children = [
            {"id": name, "contract": name, **SKU, "provider": "linked", "linked_to": "parent", "quantity": seats}
            for name, seats in (("atlanta", 10), ("ny", 25), ("memphis", 15))
        ]
        parent = {"id": "parent", "contract": "parent", **SKU, "provider": "partner_center", "quantity": 50}
        self.sandbox = Sandbox(
            build_scenario(
                {
                    "name": way,
                    "clock": "2026-03-02T14:00:00Z",
                    "time_zone": "America/New_York",
                    "work365": WAYS[way],
                    "accounts": [{"id": "pinecone", "tenant": "11111111-1111-4111-8111-111111111111"}],
                    "contracts": [
                        {"id": each, "account": "pinecone"} for each in ("parent", "atlanta", "ny", "memphis")
                    ],
                    "subscriptions": [parent | {"order_reference": "SO-4711", "at_provider": BOUGHT}, *children],
                    "steps": [],
                }
            )
        )
        policy = Policy(parent_log="create" if "linksub may" in way else "leave")
        self.hosts = [Host(self.sandbox, name, self._exchange, policy=policy) for name in ("one", "two")]
        for host in self.hosts:
            pushes = "yes" if WAYS[way].get("pushes") == "yes" else "no"
            host.declare(parent_log=WAYS[way]["parent_log"], pushes=pushes)
        self.calls = 0
        self._kill_at: tuple[int, Kind] | None = None

    def do(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            self.sandbox.perform(Step.model_validate(step))

    def run(self, host: int, kill_at: tuple[int, Kind] | None = None) -> bool:
        """One pass; False if it was killed."""
        self.calls, self._kill_at = 0, kill_at
        return self.hosts[host].run_once() is not None

    def settle(self, host: int) -> None:
        """Passes until one writes nothing: two are enough, and the third is silent."""
        for _ in range(3):
            before = self.sandbox.writes()
            self.run(host)
            if self.sandbox.writes() == before:
                return
            self.sandbox.clock.set(self.sandbox.clock.now() + timedelta(minutes=20))
        pytest.fail("the third undisturbed pass still wrote")

    def end(self) -> dict[str, Any]:
        """What people see in the end: seats, the parent's own reference, and which changes are through."""
        found = self.sandbox.describe()["subscriptions"]
        seen = {
            name: (row["quantity"], sorted((log["quantity"], log["status"]) for log in row.get("lcls", ())))
            for name, row in found.items()
            if name != "parent"
        }
        parent = found["parent"]
        bought = self.sandbox.world.bought("parent")
        assert bought is not None
        reference = self.sandbox.store.get("work365_subscription", self.sandbox.world.id_of("parent"))
        assert reference is not None
        return seen | {
            "parent": (parent["quantity"], bought.quantity, reference["work365_subscription_orderreference"]),
        }

    def _exchange(self, host: Host, service: str, request: Request) -> tuple[Response, bool]:
        self.calls += 1
        kind = self._kill_at[1] if self._kill_at is not None and self._kill_at[0] == self.calls else None
        return suffer(host, kind, service, lambda: ask(self.sandbox, service, request))


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1)


@cache
def _undisturbed(way: str, story: str) -> tuple[int, dict[str, Any]]:
    """(calls of the pass that will be killed, the end) where people act between two passes and nothing else happens."""
    before, meanwhile = STORIES[story]
    measured = Play(way)
    measured.do(before)
    assert measured.run(0)
    calls = measured.calls
    play = Play(way)
    play.do([*before, *meanwhile])
    play.settle(0)
    return calls, play.end()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("story", STORIES)
def test_killed_at_any_call_whoever_goes_on_comes_to_the_same_end(way: str, story: str) -> None:
    before, meanwhile = STORIES[story]
    calls, end = _undisturbed(way, story)
    assert calls >= 6
    every = [(call, kind, after) for call in range(3, calls + 1) for kind in KILLS for after in AFTER]
    share = every if SIZE != "ci" else every[crc32(f"{way} {story}".encode()) % PART :: PART]
    for call, kind, after in share:
        play = Play(way)
        play.do(before)
        if play.run(0, (call, kind)):
            continue
        if after == AFTER[1]:
            play.hosts[0].forget()
        play.do(meanwhile)
        play.sandbox.clock.set(play.sandbox.clock.now() + timedelta(minutes=20))
        play.settle(1 if after == AFTER[2] else 0)
        found = play.end()
        if story == "more, and stopped meanwhile" and found != end:
            # Told before the person stopped it: then it is through, and was bought, whatever is written over it.
            told_at_once = call == calls and kind is Kind.CRASH_AFTER
            status = "Failed" if told_at_once else "Provisioned"
            assert found["ny"][1][0] == (10, status) and found["parent"][:2] == (63, 63), (call, kind, after)
            continue
        assert found == end, f"{kind.value} at call {call}, then {after}"
