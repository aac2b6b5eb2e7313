"""Small random organisations, and what an onlooker sees of them: the rows of the services after every event."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from connector.sandbox.app import Sandbox
from connector.sandbox.grammar import Scenario, Step
from connector.sandbox.scenario import build_scenario
from connector.sandbox.work365 import LOG, QUANTITY, SUBSCRIPTION
from tests.harness.checkpoint import Checkpoint

_LCL = "work365_licensechangelog_"
REFERENCE = "work365_subscription_orderreference"
OPEN = ("Awaiting", "Failed")
_STATUS = {"Awaiting Provisioning": "Awaiting", "Failed Provisioning": "Failed"}
_OURS = frozenset({QUANTITY, REFERENCE, "versionnumber", "modifiedon", "modifiedby"})
"""Columns of a parent that the connector may write, and those that move by themselves."""

Actor = Literal["connector", "person", "nature"]
"""Who brought something about: a host; somebody in a form or portal; time, the CRM's jobs, a request that was under way."""


@dataclass(frozen=True, slots=True)
class Family:
    """A parent and its children by alias, with the seats they begin with."""

    parent: str
    seats: Mapping[str, int]
    manual: bool
    reference: str | None = None
    """What people wrote into the parent's Order Reference."""
    scheduled: int | None = None
    """What the renewal is to bring the provider to."""

    @property
    def total(self) -> int:
        return sum(self.seats.values())


@dataclass(frozen=True, slots=True)
class Log:
    """One licence change log that was made since the world began. ``born`` orders them."""

    owner: str
    quantity: int
    status: str
    born: datetime


@dataclass(frozen=True, slots=True)
class State:
    """One family at one moment. ``provider`` is None where a person is the provider."""

    parent: int
    provider: int | None
    reference: str | None
    scheduled: bool
    auto_renew: bool
    children: Mapping[str, int]
    logs: Mapping[str, Log]

    def of(self, owner: str) -> list[tuple[str, Log]]:
        """The logs of a subscription, oldest first."""
        found = [(key, log) for key, log in self.logs.items() if log.owner == owner]
        return sorted(found, key=lambda each: (each[1].born, each[0]))


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one family."""

    actor: Actor
    what: str
    at: datetime
    before: State
    after: State
    written: tuple[str, ...] = ()
    """Aliases of subscriptions whose row was written though no number of theirs moved, and columns that are not ours."""

    def __str__(self) -> str:
        old, new = self.before, self.after
        pairs = [("P", old.parent, new.parent), ("provider", old.provider, new.provider)]
        pairs += [(name, old.children[name], seats) for name, seats in new.children.items()]
        moved = [f"{name} {was} → {now}" for name, was, now in pairs if was != now]
        if old.reference != new.reference:
            moved.append(f"reference {old.reference!r} → {new.reference!r}")
        if old.scheduled != new.scheduled:
            moved.append("schedule gone" if old.scheduled else "schedule made")
        for key, log in new.logs.items():
            before = old.logs.get(key)
            if before is None or before.status != log.status:
                moved.append(f"{log.owner} {log.quantity:+d} {before.status if before else 'new'} → {log.status}")
        return f"{self.actor} ({self.what}): {', '.join(moved) or 'a row was touched'}"


class Watched:
    """One family under observation. ``states`` are all that were seen, oldest first."""

    def __init__(self, sandbox: Sandbox, family: Family) -> None:
        self._sandbox = sandbox
        self.family = family
        self._ids = {alias: sandbox.world.id_of(alias) for alias in (family.parent, *family.seats)}
        self._words: dict[Any, str] = {}
        self._version = -1
        self.begin()

    def begin(self) -> None:
        """Forget what was seen: the world was put back to its beginning."""
        self._version = -1
        self._rows = {alias: self._sandbox.store.get(SUBSCRIPTION, key) for alias, key in self._ids.items()}
        self.state = self._observe()
        self.states = [self.state]
        self.events: list[Event] = []

    @property
    def parent_id(self) -> str:
        return self._ids[self.family.parent]

    @property
    def subscription(self) -> str | None:
        """Its id at the provider."""
        bought = self._sandbox.world.bought(self.family.parent)
        return None if bought is None else bought.id

    def look(self, actor: Actor, what: str) -> Event | None:
        """What changed since the last look, if anything did."""
        store = self._sandbox.store
        before, rows = self.state, self._rows
        if store.version == self._version and self._provider() == (
            before.provider,
            before.scheduled,
            before.auto_renew,
        ):
            return None
        after = self._observe()
        self._rows = {alias: store.get(SUBSCRIPTION, key) for alias, key in self._ids.items()}
        written = tuple(self._touched(rows))
        if before == after and not (actor == "connector" and written):
            return None
        event = Event(actor, what, self._sandbox.clock.now(), before, after, written)
        self.state = after
        self.states.append(after)
        self.events.append(event)
        return event

    def index_of(self, key: str) -> int:
        """By which index a person finds a log among those of its subscription."""
        made = self._sandbox.world.logs_of(self.state.logs[key].owner)
        return [row[f"{LOG}id"] for row in made].index(key)

    def message(self, key: str) -> str:
        row = self._sandbox.store.get(LOG, key)
        assert row is not None
        return row[f"{_LCL}provisioningmessage"] or ""

    def _touched(self, before: Mapping[str, Any]) -> list[str]:
        found = []
        for alias, row in self._rows.items():
            was = before[alias]
            if row is was or row is None or was is None:
                continue
            if alias != self.family.parent:
                found.append(alias)
                continue
            found += [f"P.{name}" for name in row if name not in _OURS and row[name] != was.get(name)]
        return found

    def _provider(self) -> tuple[int | None, bool, bool]:
        bought = None if self.family.manual else self._sandbox.world.bought(self.family.parent)
        return (
            (None, False, True)
            if bought is None
            else (bought.quantity, bought.scheduled is not None, bought.auto_renew)
        )

    def _observe(self) -> State:
        world, store = self._sandbox.world, self._sandbox.store
        seats: dict[str, int] = {}
        logs: dict[str, Log] = {}
        for alias, key in self._ids.items():
            row = store.get(SUBSCRIPTION, key)
            assert row is not None
            seats[alias] = 0 if row["statecode"] == 1 else row[QUANTITY]
            for log in store.find(LOG, f"{_LCL}subscription", key):
                name = log[f"{LOG}id"]
                if name not in world.initial_logs:
                    status = self._word(log[f"{_LCL}provisioningstatus"])
                    logs[name] = Log(alias, log[f"{_LCL}quantity"], status, log["createdon"])
        parent = store.get(SUBSCRIPTION, self._ids[self.family.parent])
        assert parent is not None
        provider, scheduled, auto_renew = self._provider()
        self._version = store.version
        return State(
            seats.pop(self.family.parent), provider, parent[REFERENCE] or None, scheduled, auto_renew, seats, logs
        )

    def _word(self, value: Any) -> str:
        if value not in self._words:
            label = self._sandbox.store.schema.label(LOG, f"{_LCL}provisioningstatus", value)
            assert label is not None
            self._words[value] = _STATUS.get(label, label)
        return self._words[value]


@dataclass(slots=True)
class World:
    """One organisation that can be put back to its beginning. ``see`` is told of every event of every family."""

    sandbox: Sandbox
    watched: tuple[Watched, ...]
    ways: Ways
    start: Checkpoint
    see: Callable[[Watched, Event], None] = field(default=lambda _watched, _event: None)

    def begin(self) -> None:
        """Put everything back."""
        self.start.restore()
        for watched in self.watched:
            watched.begin()

    def look(self, actor: Actor, what: str) -> bool:
        """Tell what changed since the last look; True if anything did."""
        moved = False
        for watched in self.watched:
            event = watched.look(actor, what)
            if event is not None:
                moved = True
                self.see(watched, event)
        return moved

    def perform(self, actor: Actor, what: str, *steps: Mapping[str, Any]) -> bool:
        """Somebody does something in a form or a portal, or time passes. What time did until now is nobody's doing."""
        self.look("nature", "time")
        for step in steps:
            self.sandbox.perform(Step.model_validate(step))
        return self.look(actor, what)


# --- drawing one by lot ------------------------------------------------------------------------------------------------

TEMPLATES = 96
"""How many organisations there are; thousands of games are played in each, and building one takes longer than a pass."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What the organisation's Work 365 does, and whether the connector is told."""

    parent_log: str = "makes"
    pushes: str = "no"
    copies: str = "yes"
    declared: bool = True
    engine: bool = False
    """The CRM's own push to Partner Center is at work beside the connector."""

    @property
    def is_usual(self) -> bool:
        return (self.parent_log, self.pushes, self.copies) == ("makes", "no", "yes")


def _ways(rng: random.Random, *, usual: bool) -> Ways:
    if usual or rng.random() < 0.4:
        return Ways(engine=rng.random() < 0.08)
    return Ways(
        rng.choice(("makes", "makes", "late", "late", "not_applicable", "none")),
        rng.choice(("no", "no", "yes", "late")),
        rng.choice(("yes", "no", "altered")),
        rng.random() < 0.8,
    )


@lru_cache(maxsize=TEMPLATES)
def world(number: int, *, usual: bool = False) -> World:
    """Organisation ``number`` of `TEMPLATES`, the same every time. ``usual``: its Work 365 has no ways of its own."""
    rng = random.Random(f"organisation {number}")
    ways = _ways(rng, usual=usual)
    families, scenario = _organisation(rng, ways)
    sandbox = Sandbox(scenario)
    watched = tuple(Watched(sandbox, family) for family in families)
    return World(sandbox, watched, ways, Checkpoint(sandbox))


def _organisation(rng: random.Random, ways: Ways) -> tuple[list[Family], Scenario]:
    accounts: list[dict[str, Any]] = []
    contracts: list[dict[str, Any]] = []
    subscriptions: list[dict[str, Any]] = []
    families: list[Family] = []
    many, shared = rng.choice((1, 1, 1, 1, 2, 3)), rng.random() < 0.5
    for number in range(1, many + 1):
        account = "customer" if shared else f"customer{number}"
        if not any(each["id"] == account for each in accounts):
            tenant = f"{number}" * 8 + "-1111-4111-8111-111111111111"
            accounts.append({"id": account, "name": account.title(), "tenant": tenant})
        manual = not ways.engine and ways.parent_log in ("makes", "late") and rng.random() < 0.3
        family = Family(
            f"p{number}",
            {f"p{number}{letter}": rng.randint(3, 40) for letter in "abc"[: rng.randint(1, 3)]},
            manual,
            rng.choice((None, "SO-4711", "PO 2026/0815")),
            None if manual or rng.random() < 0.75 else rng.randint(5, 150),
        )
        above = families[-1] if shared and families and rng.random() < 0.5 else None
        families.append(family)
        contracts += [{"id": each, "account": account} for each in (family.parent, *family.seats)]
        subscriptions += _rows(rng, number, family, above)
    content: dict[str, Any] = {
        "name": "random organisation",
        "clock": "2026-03-02T14:00:00Z",
        "time_zone": rng.choice(("America/New_York", "Europe/Berlin", "UTC")),
        "engine": ways.engine,
        "accounts": accounts,
        "contracts": contracts,
        "subscriptions": subscriptions,
        "steps": [],
    }
    if not ways.is_usual:
        content["work365"] = {
            "parent_log": ways.parent_log,
            "pushes": ways.pushes,
            "copies_order_reference": ways.copies,
            "declared": ways.declared,
        }
    return families, build_scenario(content)


def _rows(rng: random.Random, number: int, family: Family, above: Family | None) -> list[dict[str, Any]]:
    sku = {"product": f"Product {number}", "part_number": f"CFQ7TTC0ZZ{number}A:0001"}
    parent: dict[str, Any] = {"id": family.parent, "contract": family.parent, **sku, "quantity": family.total}
    if family.reference is not None:
        parent["order_reference"] = family.reference
    if above is not None:
        parent["base"] = above.parent
    if family.manual:
        parent["provider"] = "manual"
    else:
        window = rng.choice((4, 12, 500, 500, 500))
        bought: dict[str, Any] = {
            "quantity": family.total, "term": "P1Y", "commitment_end": "2026-12-31", "auto_renew": True,
            "batches": [{"quantity": window, "until": rng.choice(("2026-03-04T14:00:00Z", "2026-03-09T14:00:00Z"))}],
        }  # fmt: skip
        if family.scheduled is not None:
            bought["scheduled"] = {"quantity": family.scheduled}
        parent |= {"provider": "partner_center", "at_provider": bought}
    if rng.random() < 0.2:
        parent |= {"reduction": "within_window", "reduction_days": 7}
    return [
        parent,
        *(
            {"id": child, "contract": child, **sku, "provider": "linked", "linked_to": family.parent, "quantity": seats}
            for child, seats in family.seats.items()
        ),
    ]
