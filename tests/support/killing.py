"""Two hosts as real processes, on one world that is served over loopback, and a hand that kills them.

Each host comes in through a door of its own to the same services, so that it is known who asked. A process is killed at
the n-th request of its life: nothing of it may be heard, or it is heard and not answered, or the answer went out. Requests
are looked at one after the other; the oracles see what each of them changed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import yaml

from connector.cli.rehearsal import settings_for, write_secret
from connector.sandbox.app import Sandbox
from connector.sandbox.faults import Dropped
from connector.sandbox.scenario import build_scenario
from connector.sandbox.server import SandboxServer
from connector.sandbox.wire import Request, Response
from tests.harness.checkpoint import Checkpoint
from tests.support.oracles import Oracle
from tests.support.people import People
from tests.support.worlds import Event, Family, Watched, Ways, World

ROOT = Path(__file__).parents[2]

Manner = Literal["unheard", "unanswered", "answered"]
MANNERS: tuple[Manner, ...] = ("unheard", "unanswered", "answered")

FAMILIES = (
    Family("north", {"north1": 12, "north2": 20, "north3": 7}, manual=False, reference="SO-4711"),
    Family("south", {"south1": 31, "south2": 9}, manual=False, scheduled=60),
    Family("east", {"east1": 15, "east2": 25}, manual=False),
    Family("west", {"west1": 18, "west2": 22}, manual=True, reference="PO 2026/0815"),
)


def organisation() -> World:
    """Four families of one customer: two with an own Order Reference, one that a person orders, one with a schedule."""
    contracts: list[dict[str, Any]] = []
    subscriptions: list[dict[str, Any]] = []
    for number, family in enumerate(FAMILIES, start=1):
        sku = {"product": f"Product {number}", "part_number": f"CFQ7TTC0ZZ{number}A:0001"}
        bought: dict[str, Any] = {
            "quantity": family.total, "term": "P1Y", "commitment_end": "2026-12-31", "auto_renew": True,
            "batches": [{"quantity": 500, "until": "2026-05-01T14:00:00Z"}],
        }  # fmt: skip
        if family.scheduled is not None:
            bought["scheduled"] = {"quantity": family.scheduled}
        how = {"provider": "manual"} if family.manual else {"provider": "partner_center", "at_provider": bought}
        parent = {"id": family.parent, "contract": family.parent, **sku, "quantity": family.total, **how}
        if family.reference is not None:
            parent["order_reference"] = family.reference
        contracts += [{"id": each, "account": "customer"} for each in (family.parent, *family.seats)]
        subscriptions.append(parent)
        subscriptions += [
            {"id": child, "contract": child, **sku, "provider": "linked", "linked_to": family.parent, "quantity": seats}
            for child, seats in family.seats.items()
        ]
    content = {
        "name": "killed hosts",
        "clock": "2026-03-02T14:00:00Z",
        "time_zone": "America/New_York",
        "accounts": [{"id": "customer", "name": "Customer", "tenant": "11111111-1111-4111-8111-111111111111"}],
        "contracts": contracts,
        "subscriptions": subscriptions,
        "steps": [],
    }
    sandbox = Sandbox(build_scenario(content))
    watched = tuple(Watched(sandbox, family) for family in FAMILIES)
    return World(sandbox, watched, Ways(), Checkpoint(sandbox))


@dataclass(eq=False, slots=True)
class Life:
    """One process of a host. ``dies_at`` is the number of its request at which it is killed; None: it lives.

    ``from_first_write``: its first request that changed something is number 1.
    """

    dies_at: int | None = None
    from_first_write: bool = False
    manner: Manner = "answered"
    process: subprocess.Popen[str] | None = None
    requests: int = 0
    since_write: int = 0
    """Requests since the first that changed something, that one included."""
    stages: dict[str, str] = field(default_factory=dict)
    """Family → how far this process has come with it."""
    last: str = ""
    """What its last request brought about; empty for nothing."""
    phase: str = ""
    """Where it was when it was killed."""

    def is_over(self, *, more: int = 0) -> bool:
        """Whether this is the request at which it dies; ``more``: requests that are not counted yet."""
        if self.from_first_write:
            return self.since_write > 0 and self.since_write + more == self.dies_at
        return self.requests == self.dies_at

    def kill(self) -> None:
        """SIGKILL; harmless if it has ended already."""
        self.phase = self._where()
        assert self.process is not None
        self.process.kill()

    def _where(self) -> str:
        if self.last:
            return f"{'in' if self.manner == 'unanswered' else 'just after'} {self.last}"
        for stage, told in (("ordered", "after an order"), ("raised", "between a raise and its order")):
            if stage in self.stages.values():
                return told
        return "after an acknowledgement" if self.stages else "before any write"


class Door(SandboxServer):
    """Where one host comes in."""

    def __init__(self, sandbox: Sandbox, exchange: Callable[[str, Request], Response | Dropped]) -> None:
        super().__init__(sandbox)
        self._exchange = exchange

    def answer(self, service: str, request: Request) -> Response | Dropped:
        """Through the hands of whoever watches."""
        return self._exchange(service, request)

    def serve(self, service: str, request: Request) -> Response | Dropped:
        """The services themselves."""
        return super().answer(service, request)


class Host:
    """A state directory, a configuration, and one process at a time."""

    def __init__(self, town: Town, name: str, directory: Path, journal: str | None) -> None:
        self.name = name
        self.state = directory / name
        self._town = town
        self._directory = directory
        self._journal = journal
        self._lives = threading.Lock()
        self._life = Life()
        self.door = Door(town.world.sandbox, self._exchange)

    def __enter__(self) -> Host:
        endpoints = self.door.start()
        secrets = self._directory / f"{self.name}-secret"
        secrets.mkdir()
        settings = settings_for(endpoints, write_secret(secrets, endpoints.client_secret), self.state)
        if self._journal is not None:
            settings["state"]["url"] = self._journal
        # Whatever is waited for for longer is left to a later run, so nobody here really waits for minutes.
        settings["run"] = {"deadline": "15s"}
        self.config = self._directory / f"{self.name}.yaml"
        self.config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._life.process is not None:
            self._life.process.kill()
            self._life.process.communicate()
        self.door.stop()

    def live(self, life: Life, *arguments: str) -> tuple[int, str]:
        """One process from its beginning to its end, whichever that is: (exit code, what it said)."""
        with self._lives:
            life.process = subprocess.Popen(
                [sys.executable, "-m", "connector", "--config", str(self.config), *(arguments or ("run",))],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=self._directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            self._life = life
        out, err = life.process.communicate(timeout=120)
        return life.process.returncode, out + err

    def _exchange(self, service: str, request: Request) -> Response | Dropped:
        with self._lives:
            life = self._life
        with self._town.one_at_a_time:
            life.requests += 1
            life.last = ""
            if life.is_over(more=1) and life.manner == "unheard":
                life.kill()
                return Dropped()
            answer = self._town.serve(self, life, service, request)
            life.since_write += bool(life.stages)
            is_last = life.is_over()
            if is_last and life.manner == "unanswered":
                life.kill()
                return Dropped()
        if is_last:
            # The answer is on its way when the signal comes; how far it gets with it is the machine's business.
            threading.Timer(self._town.chance.choice((0.0, 0.002, 0.005, 0.01, 0.02)), life.kill).start()
        return answer


class Town:
    """The world, its people, its hosts, and everything that was found wrong."""

    def __init__(self, directory: Path, seed: str, journal: str | None) -> None:
        self.chance = random.Random(seed)
        self.world = organisation()
        self.one_at_a_time = threading.RLock()
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.notes: list[str] = []
        self.requests = 0
        self.bought = self.returned = self.orders = 0
        self.people = People(self.world, self.chance, self.counts, allowed=())
        self.oracles = {each.family.parent: Oracle(each, self.counts, self._complain) for each in self.world.watched}
        self.hosts = (Host(self, "one", directory, journal), Host(self, "two", directory, journal))
        self.wish_at: set[int] = set()
        """After which requests somebody wishes for something."""
        self._life: Life | None = None
        self.world.see = self._see

    def serve(self, host: Host, life: Life, service: str, request: Request) -> Response | Dropped:
        """One request of one host, and what it changed."""
        self.requests += 1
        answer = host.door.serve(service, request)
        self._life = life
        self.world.look("connector", f"{host.name}, request {life.requests}: {request.method} {service}")
        self._life = None
        if self.requests in self.wish_at:
            self.people.wish()
        return answer

    def advance(self, span: timedelta) -> None:
        """Time passes; no process lives meanwhile."""
        with self.one_at_a_time:
            self.world.perform("nature", "time passes", {"advance": f"{int(span.total_seconds())}s"})

    def _see(self, watched: Watched, event: Event) -> None:
        self.notes.append(f"{self.world.sandbox.clock.now():%d %H:%M:%S}  {watched.family.parent}: {event}")
        self.oracles[watched.family.parent].see(event)
        if self._life is not None:
            self._note(self._life, watched, event)

    def _note(self, life: Life, watched: Watched, event: Event) -> None:
        before, after, parent = event.before, event.after, watched.family.parent
        if before.provider != after.provider and before.provider is not None and after.provider is not None:
            self.orders += 1
            self.bought += max(0, after.provider - before.provider)
            self.returned += max(0, before.provider - after.provider)
            if after.provider not in {state.parent for state in watched.states}:
                self._complain("order-without-a-raise", f"the provider got a number that P never had: {event}")
            life.stages[parent], life.last = "ordered", "an order"
        elif any(log.status == "Provisioned" != before.logs[key].status for key, log in after.logs.items()):
            life.stages[parent], life.last = "told", "an acknowledgement"
        elif (before.parent, before.reference) != (after.parent, after.reference):
            life.stages[parent] = "told" if watched.family.manual else "raised"
            life.last = "a raise"

    def _complain(self, kind: str, text: str) -> None:
        self.complaints.append(f"{kind}: {text}")
        self.notes.append(f"!! {kind}: {text}")
