"""The windows that no client can close, and whether a game went through one: the oracles excuse what crossed in it.

Partner Center has no condition on a change of seats, so between a look and the order somebody may act; a machine may stand
still there; and where the CRM itself orders in the instant in which P is raised, nobody can look in between at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from connector.sandbox.wire import Request
from tests.support.oracles import Oracle
from tests.support.worlds import Watched, World

FROZEN = timedelta(seconds=5)
"""How long a machine stands still before what another one did meanwhile counts as such a window."""


class Windows:
    """Follows what each host has seen last, call by call. Hosts go by their names."""

    def __init__(self, world: World, oracles: Mapping[str, Oracle], counts: Counter[str], hosts: Sequence[str]) -> None:
        self._world = world
        self._oracles = oracles
        self._counts = counts
        self._seen: dict[tuple[str, str], tuple[int, int | None]] = {}
        """(host, family) → its call at which it last read the provider, and what the provider had then."""
        self._calls: Counter[str] = Counter()
        self._stopped_since: dict[str, set[str]] = {host: set() for host in hosts}
        """Host → changes that people stopped since the CRM last answered it."""
        self._moved_while_frozen: set[str] = set()
        """Families that moved while the host that now calls had decided and could not send, for longer than hosts wait for
        one another."""

    def begins(self, host: str) -> None:
        """A pass begins: nothing that was seen before counts."""
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] != host}
        self._stopped_since[host] = set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While a host is about to call, and another one may work."""
        began, before = self._world.sandbox.clock.now(), [each.state for each in self._world.watched]
        yield
        is_frozen = self._world.sandbox.clock.now() - began >= FROZEN
        moved = zip(self._world.watched, before, strict=True)
        self._moved_while_frozen = {
            watched.family.parent for watched, state in moved if is_frozen and watched.state is not state
        }

    @contextmanager
    def people_act(self) -> Iterator[None]:
        """While people may do something between two calls."""
        before = self._barred()
        yield
        for unseen in self._stopped_since.values():
            unseen |= self._barred() - before

    def calls(self, host: str) -> None:
        """A host makes one more call."""
        self._calls[host] += 1

    def orders(self, host: str, service: str, request: Request) -> None:
        """A host sends what moves seats at the provider: the provider may have changed since the host's last look, a few
        calls ago."""
        watched = self._target(service, request)
        if watched is None:
            return
        call, quantity = self._seen.get((host, watched.family.parent), (-100, None))
        if self._calls[host] - call > 2 * len(self._world.watched) + 1:
            return
        if watched.family.parent in self._moved_while_frozen:
            self._counts["excused: a host was frozen between its look and its order"] += 1
        elif quantity != watched.state.provider:
            self._counts["excused: an edit crossed our write at the provider"] += 1
        else:
            return
        self._oracles[watched.family.parent].collided = True

    def answered(self, host: str, service: str) -> None:
        """A service carried a host's call out; what the CRM answers from now on the host has seen."""
        for oracle in self._oracles.values():
            oracle.not_yet_seen = frozenset(self._stopped_since[host])
        if service == "dataverse":
            self._stopped_since[host] = set()

    def sees(self, host: str, request: Request) -> None:
        """A host has read the provider."""
        for watched in self._world.watched:
            if str(watched.subscription) in request.path or request.path.endswith("/subscriptions"):
                self._seen[host, watched.family.parent] = (self._calls[host], watched.state.provider)

    def _barred(self) -> set[str]:
        return {key for oracle in self._oracles.values() for key in oracle.barred}

    def _target(self, service: str, request: Request) -> Watched | None:
        """The family at whose provider a write orders. Where the CRM pushes by itself, a raise of P is an order."""
        if service == "partner_center":
            found = (each for each in self._world.watched if request.path.endswith(str(each.subscription)))
        else:
            found = (each for each in self._world.watched if f"({each.parent_id})".encode() in request.body)
        return next(found, None)
