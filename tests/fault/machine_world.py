"""The world of the state machine: one or two families, people, time, and connectors that run in it and are disturbed.

Faults, worlds, transport and the words of a history are those of :mod:`tests.harness`; what is new is that anything may
happen again and again, to several families, and that a second connector may run inside a call of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connector.sandbox.app import Sandbox
from connector.sandbox.grammar import Scenario, Step
from connector.sandbox.scenario import build_scenario
from connector.sandbox.work365 import LOG, QUANTITY, SUBSCRIPTION
from tests.harness.history import Actor, Event, History, Log, State

_STATUS = {"Awaiting Provisioning": "Awaiting", "Failed Provisioning": "Failed"}
_LCL = "work365_licensechangelog_"


@dataclass(frozen=True, slots=True)
class Family:
    """A parent and its children by alias, with the seats they begin with. Amounts that people add to a parent or to the
    provider are far from anything that children of this size can explain."""

    parent: str
    seats: Mapping[str, int]
    manual: bool

    @property
    def total(self) -> int:
        return sum(self.seats.values())


NORTH = Family("north", {"atlanta": 41, "boston": 53, "chicago": 67}, manual=False)
SOUTH = Family("south", {"dallas": 61, "houston": 47}, manual=False)
MANUAL = Family("manual", {"memphis": 43, "nashville": 59}, manual=True)


def scenario_of(families: tuple[Family, ...]) -> Scenario:
    """Each family has an account of its own. A few seats may be given back until the 8th of March."""
    sku = {"product": "M365-E3", "part_number": "CFQ7TTC0LFLX:0001"}
    accounts: list[dict[str, Any]] = []
    contracts: list[dict[str, Any]] = []
    subscriptions: list[dict[str, Any]] = []
    for number, family in enumerate(families, start=1):
        account = f"customer{number}"
        accounts.append(
            {"id": account, "name": f"Customer {number}", "tenant": f"{number}" * 8 + "-1111-4111-8111-111111111111"}
        )
        contracts += [{"id": each, "account": account} for each in (family.parent, *family.seats)]
        bought = {
            "quantity": family.total, "term": "P1Y", "commitment_end": "2026-12-31", "auto_renew": True,
            "batches": [{"quantity": 12, "until": "2026-03-08T14:00:00Z"}],
        }  # fmt: skip
        parent = {"id": family.parent, "contract": family.parent, **sku, "quantity": family.total}
        how = {"provider": "manual"} if family.manual else {"provider": "partner_center", "at_provider": bought}
        subscriptions.append(parent | how)
        subscriptions += [
            {"id": child, "contract": child, **sku, "provider": "linked", "linked_to": family.parent, "quantity": seats}
            for child, seats in family.seats.items()
        ]
    return build_scenario(
        {
            "name": "state machine",
            "clock": "2026-03-02T14:00:00Z",
            "time_zone": "America/New_York",
            "accounts": accounts,
            "contracts": contracts,
            "subscriptions": subscriptions,
            "steps": [],
        }
    )


class Watched:
    """One family under observation."""

    def __init__(self, sandbox: Sandbox, family: Family) -> None:
        self._sandbox = sandbox
        self.family = family
        self.state = self.observe()
        self.history = History(self.state)
        self.collided = False
        """Somebody else wrote the provider in the one instant that no check can cover: what it has now is open."""
        self.added = 0
        """Seats that a person added to the parent by hand and did not take back."""
        self.touched = False
        """A person changed something that only people may explain: parent, provider, or the status of a log."""

    def observe(self) -> State:
        """The family straight from the rows. Without a provider to ask, what a person confirmed stands for it."""
        world, store = self._sandbox.world, self._sandbox.store
        owners = {world.id_of(alias): alias for alias in (self.family.parent, *self.family.seats)}
        seats: dict[str, int] = {}
        for key, alias in owners.items():
            row = store.get(SUBSCRIPTION, key)
            assert row is not None
            seats[alias] = 0 if row["statecode"] == 1 else row[QUANTITY]
        logs: dict[str, Log] = {}
        for key, alias in owners.items():
            for row in store.find(LOG, f"{_LCL}subscription", key):
                if row[f"{LOG}id"] not in world.initial_logs:
                    label = store.schema.label(LOG, f"{_LCL}provisioningstatus", row[f"{_LCL}provisioningstatus"])
                    assert label is not None
                    logs[row[f"{LOG}id"]] = Log(alias, row[f"{_LCL}quantity"], _STATUS.get(label, label))
        parent = seats.pop(self.family.parent)
        bought = world.bought(self.family.parent)
        if bought is not None:
            return State(parent, bought.quantity, bought.auto_renew, seats, logs)
        pending = sum(
            log.quantity
            for log in logs.values()
            if log.owner == self.family.parent and log.status in ("Awaiting", "Failed")
        )
        return State(parent, parent - pending, True, seats, logs)

    @property
    def parent_id(self) -> str:
        """The parent's GUID, by which outcomes name the family."""
        return self._sandbox.world.id_of(self.family.parent)

    def message(self, log_id: str) -> str:
        row = self._sandbox.store.get(LOG, log_id)
        assert row is not None
        return row[f"{_LCL}provisioningmessage"] or ""

    @property
    def subscription(self) -> str | None:
        """Its id at the provider."""
        bought = self._sandbox.world.bought(self.family.parent)
        return None if bought is None else bought.id


class MachineWorld:
    """The sandbox, what is watched in it, and everything that was found wrong with an exchange."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self.sandbox = Sandbox(scenario_of(families))
        self.watched = tuple(Watched(self.sandbox, family) for family in families)
        self.complaints: list[str] = []
        self.on_event: Callable[[Watched, Event], None] = lambda _watched, _event: None
        self.calls = 0

    def person(self, what: str, *steps: dict[str, Any]) -> None:
        """Somebody does something in the forms of the CRM or in the provider's portal."""
        for step in steps:
            self.sandbox.perform(Step.model_validate(step))
        self.note("person", what)

    def note(self, actor: Actor, what: str) -> bool:
        """Write down whatever moved since the last look; True if anything did."""
        moved = False
        for watched in self.watched:
            before, after = watched.state, watched.observe()
            if before != after:
                watched.state = after
                event = Event(actor, what, self.calls, self.sandbox.clock.now(), before, after)
                watched.history.events.append(event)
                self.on_event(watched, event)
                moved = True
        return moved
