"""One small family whose passes are killed, or disturbed, at a given call, and finished by whoever goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connector.domain.policy import Policy
from connector.sandbox.app import Sandbox
from connector.sandbox.faults import Fault, status_answer
from connector.sandbox.grammar import Step
from connector.sandbox.scenario import build_scenario
from connector.sandbox.trace import is_write
from connector.sandbox.wire import Request, Response
from tests.harness.faults import Kind
from tests.support.rig import Host, ask, suffer

Steps = Sequence[Mapping[str, Any]]

PASS_LATER = timedelta(minutes=20)
"""Between a death and the next pass: nobody waits any more for what the dead process sent, and the quiet time is over."""
MOST_PASSES = 3
"""Two undisturbed passes are enough, and the third writes nothing."""
_SKU = {"product": "M365-E3", "part_number": "CFQ7TTC0LFLX:0001"}
_SEATS = {"atlanta": 10, "ny": 25, "memphis": 15}


@dataclass(frozen=True, slots=True)
class World:
    """The organisation of one story.

    ``work365`` is what it does with the parent's log, which its hosts are told, but for the times. ``bought`` is what
    differs at the provider. ``refusal``: the answer of the provider to every order, until people lift it.
    """

    work365: Mapping[str, Any] = field(default_factory=lambda: {"parent_log": "makes"})
    bought: Mapping[str, Any] = field(default_factory=dict)
    provider: str = "partner_center"
    policy: Policy = field(default_factory=Policy)
    refusal: Fault | None = None


class Play:
    """One world with two hosts. ``seen`` are the calls of the last pass: (service, whether it writes, when)."""

    def __init__(self, world: World) -> None:
        children = [
            {"id": name, "contract": name, **_SKU, "provider": "linked", "linked_to": "parent", "quantity": seats}
            for name, seats in _SEATS.items()
        ]
        parent: dict[str, Any] = {
            "id": "parent", "contract": "parent", **_SKU, "provider": world.provider, "quantity": 50,
            "order_reference": "SO-4711",
        }  # fmt: skip
        if world.provider == "partner_center":
            parent["at_provider"] = {
                "quantity": 50, "term": "P1Y", "commitment_end": "2026-12-31", "auto_renew": True, **world.bought,
            }  # fmt: skip
        document = {
            "name": "killed",
            "clock": "2026-03-02T14:00:00Z",
            "time_zone": "America/New_York",
            "work365": dict(world.work365),
            "accounts": [{"id": "pinecone", "tenant": "11111111-1111-4111-8111-111111111111"}],
            "contracts": [{"id": each, "account": "pinecone"} for each in ("parent", *_SEATS)],
            "subscriptions": [parent, *children],
            "steps": [],
        }
        self.sandbox = Sandbox(build_scenario(document))
        self.refusal = world.refusal
        self.hosts = [Host(self.sandbox, name, self._exchange, policy=world.policy) for name in ("one", "two")]
        pushes = "yes" if world.work365.get("pushes") == "yes" else "no"
        for host in self.hosts:
            host.declare(parent_log=world.work365["parent_log"], pushes=pushes)
        self.seen: list[tuple[str, bool, datetime]] = []
        self._trouble_at: tuple[int, Kind] | None = None
        self._people_at: tuple[int, Steps] | None = None

    def do(self, steps: Steps) -> None:
        """What people do; ``{"policy": …}`` is what they configure, ``{"refusal": None}`` lifts the provider's refusal."""
        for step in steps:
            if "policy" in step:
                for host in self.hosts:
                    host.policy = Policy.model_validate(step["policy"])
            elif "refusal" in step:
                self.refusal = step["refusal"]
            else:
                self.sandbox.perform(Step.model_validate(step))

    @property
    def calls(self) -> int:
        """HTTP calls of the last pass."""
        return len(self.seen)

    def run(
        self, host: int, trouble_at: tuple[int, Kind] | None = None, people_at: tuple[int, Steps] | None = None
    ) -> bool:
        """One pass, with trouble at one of its calls, or with people who do something before one; False if it was killed."""
        self.seen, self._trouble_at, self._people_at = [], trouble_at, people_at
        return self.hosts[host].run_once() is not None

    def wait(self) -> None:
        self.sandbox.clock.set(self.sandbox.clock.now() + PASS_LATER)

    def settle(self, host: int) -> None:
        """Passes until one writes nothing.

        Raises: AssertionError if the third still writes.
        """
        for _ in range(MOST_PASSES):
            before = self.sandbox.writes()
            self.run(host)
            if self.sandbox.writes() == before:
                return
            self.wait()
        raise AssertionError("the third undisturbed pass still wrote")

    def orders(self) -> int:
        """Writes that the provider accepted."""
        return self.sandbox.writes().provider

    def end(self) -> dict[str, Any]:
        """What people see in the end: seats on both sides, what is scheduled for the renewal, the parent's own reference,
        and every change with its status and message."""
        found = self.sandbox.describe()["subscriptions"]
        seen: dict[str, Any] = {name: (row["quantity"], _logs(row)) for name, row in found.items()}
        row = self.sandbox.store.get("work365_subscription", self.sandbox.world.id_of("parent"))
        assert row is not None
        bought = self.sandbox.world.bought("parent")
        if bought is not None:
            scheduled = None if bought.scheduled is None else bought.scheduled["quantity"]
            seen["provider"] = (bought.quantity, scheduled, bought.auto_renew)
        return seen | {"reference": row["work365_subscription_orderreference"]}

    def _exchange(self, host: Host, service: str, request: Request) -> tuple[Response, bool]:
        self.seen.append((service, is_write(request), self.sandbox.clock.now()))
        if self._people_at is not None and self._people_at[0] == self.calls:
            self.do(self._people_at[1])
        kind = self._trouble_at[1] if self._trouble_at is not None and self._trouble_at[0] == self.calls else None
        return suffer(host, kind, service, lambda: self._answer(service, request))

    def _answer(self, service: str, request: Request) -> Response:
        if self.refusal is not None and service == "partner_center" and is_write(request):
            return status_answer(service, self.refusal)
        return ask(self.sandbox, service, request)


def _logs(row: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    return sorted((log["quantity"], log["status"], log.get("message") or "") for log in row.get("lcls", ()))
