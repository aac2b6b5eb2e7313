"""What happened in one scenario, as the world saw it: every state that it was in, and who brought it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from connector.sandbox.app import Sandbox
from connector.sandbox.work365 import LOG, QUANTITY, SUBSCRIPTION
from tests.harness.stories import CHILDREN, PARENT

_STATUS = {"Awaiting Provisioning": "Awaiting", "Failed Provisioning": "Failed"}


@dataclass(frozen=True, slots=True)
class Log:
    """One licence change log that was made in the story."""

    owner: str
    quantity: int
    status: str


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the oracle looks at, at one moment, straight from the rows of the services."""

    parent: int
    provider: int
    auto_renew: bool
    children: Mapping[str, int]
    logs: Mapping[str, Log]

    @property
    def asked(self) -> int:
        """Seats that the children stand for: what the people of the locations ask for."""
        return sum(self.children.values())


def observe(sandbox: Sandbox) -> State:
    """The state of the world now."""
    world, store = sandbox.world, sandbox.store
    bought = world.bought(PARENT)
    assert bought is not None
    quantities = {}
    for alias in (PARENT, *CHILDREN):
        row = store.get(SUBSCRIPTION, world.id_of(alias))
        assert row is not None
        quantities[alias] = row[QUANTITY]
    logs = {}
    for row in store.rows(LOG):
        key = row[f"{LOG}id"]
        if key not in world.initial_logs:
            owner = world.alias_of(row["work365_licensechangelog_subscription"])
            label = store.schema.label(LOG, "work365_licensechangelog_provisioningstatus",
                                       row["work365_licensechangelog_provisioningstatus"])  # fmt: skip
            assert owner is not None and label is not None
            logs[key] = Log(owner, row["work365_licensechangelog_quantity"], _STATUS.get(label, label))
    return State(quantities.pop(PARENT), bought.quantity, bought.auto_renew, quantities, logs)


Actor = Literal["connector", "person"]


@dataclass(frozen=True, slots=True)
class Event:
    """One change of the world. ``call`` is the HTTP call that made it, or before which a person did."""

    actor: Actor
    what: str
    call: int
    at: datetime
    before: State
    after: State

    def __str__(self) -> str:
        moved = []
        if self.before.parent != self.after.parent:
            moved.append(f"parent {self.before.parent} → {self.after.parent}")
        if self.before.provider != self.after.provider:
            moved.append(f"provider {self.before.provider} → {self.after.provider}")
        for name, seats in self.after.children.items():
            if self.before.children[name] != seats:
                moved.append(f"{name} {self.before.children[name]} → {seats}")
        for key, log in self.after.logs.items():
            was = self.before.logs.get(key)
            if was is None or was.status != log.status:
                moved.append(f"{log.owner} {log.quantity:+d} {was.status if was else 'new'} → {log.status}")
        return f"call {self.call} {self.actor} ({self.what}): {', '.join(moved) or 'nothing moved'}"


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One exchange with the provider: whether it was a write, when it was sent, and whether it was answered well."""

    call: int
    at: datetime
    write: bool
    answered: bool


@dataclass(slots=True)
class History:
    """One scenario. ``complaints`` are what the exchange itself found wrong, such as a write without If-Match."""

    start: State
    events: list[Event] = field(default_factory=list)
    provider_calls: list[ProviderCall] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def states(self) -> list[State]:
        """Every state in order, the first included; number n is the one after event n."""
        return [self.start, *(event.after for event in self.events)]
