"""Judges every event of the state machine as it happens, and the world at its end, without the connector's arithmetic.

The one idea: at any moment a quantity is *explained* if it is the family's first quantity, plus the changes of children
that the connector has told Provisioned, plus any of the children's other changes. Nothing else is ever asked for by
anybody but a person. Source: reliability facts §1.2 (I1-I5).
"""

from __future__ import annotations

from collections.abc import Iterable

from connector.domain.decision import Accept, Hold
from connector.domain.model import LogId
from connector.sync.outcome import FamilyState, RunResult
from tests.fault.machine_world import Watched
from tests.harness.history import Event, Log, State

OPEN = ("Awaiting", "Failed")
ORDINARY_HOLDS = frozenset({"LS-004", "LS-018"})
"""Holds that need no person's edit: behind a refused change, and the last child's leaving."""


class Oracle:
    """Follows one family. ``violations`` grows with every broken promise."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.violations: list[str] = []
        self._told: set[str] = set()
        self._settled_by_person: dict[str, str] = {}

    def see(self, event: Event) -> None:
        """One more event."""
        self._sums(event)
        if event.actor == "person":
            self._note_person(event)
            return
        self._written_by_the_way(event)
        self._money(event)
        self._statuses(event)

    # -- after each event ---------------------------------------------------------------------------------------------

    def _sums(self, event: Event) -> None:
        """Σ of the logs is the quantity, of every subscription."""
        start, now = self.watched.history.start, event.after
        sums = {self.watched.family.parent: now.parent - start.parent}
        sums |= {child: seats - start.children[child] for child, seats in now.children.items()}
        for alias, moved in sums.items():
            logged = sum(log.quantity for log in now.logs.values() if log.owner == alias)
            if logged != moved:
                self._complain(f"Σ: the logs of {alias} add up to {logged:+d}, its quantity moved by {moved:+d}", event)

    def _note_person(self, event: Event) -> None:
        for key, log in event.after.logs.items():
            was = event.before.logs.get(key)
            if was is not None and was.status != log.status:
                self._settled_by_person.pop(key, None)
                if log.status != "Awaiting":
                    self._settled_by_person[key] = log.status

    def _written_by_the_way(self, event: Event) -> None:
        if event.before.children != event.after.children:
            self._complain("a child was written", event)
        if event.before.auto_renew != event.after.auto_renew:
            self._complain("renewal was switched", event)

    def _money(self, event: Event) -> None:
        """I1: only explained quantities are written, and only over explained ones: what a person put there stays."""
        explained = self._explained(event.before)
        if event.before.parent != event.after.parent:
            if event.before.parent not in explained:
                self._complain("the parent, which a person edited, was overwritten", event)
            if event.after.parent not in explained:
                self._complain("I1: the parent got seats that nobody asked for", event)
        if event.before.provider != event.after.provider:
            if self.watched.family.manual:
                self._complain("a manual parent was confirmed for the person who does it", event)
            elif not self.watched.collided:
                if event.before.provider not in explained | self._waypoints(event.before):
                    self._complain("the provider, which a person edited, was overwritten", event)
                if event.after.provider not in explained:
                    self._complain("I1: the provider got seats that nobody asked for", event)

    def _statuses(self, event: Event) -> None:
        fresh: list[str] = []
        for key, log in event.after.logs.items():
            was = event.before.logs.get(key)
            if was is None or was.status == log.status:
                continue
            if key in self._settled_by_person:
                self._complain(f"the log that a person set to {self._settled_by_person[key]} was overwritten", event)
            if log.status == "Failed" and not self.watched.message(key):
                self._complain(f"the log of {log.owner} failed without a reason", event)
            if log.status == "Provisioned" and log.owner != self.watched.family.parent:
                fresh.append(key)
        self._told.update(fresh)
        self._told_in_time(event, fresh)

    def _told_in_time(self, event: Event, fresh: list[str]) -> None:
        """I2, I3: whoever is told Provisioned, parent and provider had it at some moment since it was asked for."""
        explained = self._explained(event.after)
        states = self.watched.history.states
        for key in fresh:
            since = next(at for at, state in enumerate(states) if key in state.logs)
            # What a person changed on top of the parent and nobody confirmed does not take from what it has.
            parents = set().union(*(self._waypoints(state) for state in states[since:]))
            providers = parents if self.watched.collided else {state.provider for state in states[since:]}
            if not explained & parents & providers:
                log = event.after.logs[key]
                self._complain(f"I2: {log.owner} {log.quantity:+d} was told before it was so", event)

    def _explained(self, state: State) -> set[int]:
        children = {key: log for key, log in state.logs.items() if log.owner != self.watched.family.parent}
        told = sum(log.quantity for key, log in children.items() if key in self._told)
        rest = (log.quantity for key, log in children.items() if key not in self._told)
        return _sums_of(self.watched.history.start.parent + told, rest)

    def _waypoints(self, state: State) -> set[int]:
        """Quantities between which the parent's own open changes lead: a person may
        have made some of these."""
        own = [log.quantity for log in state.logs.values() if _is_open_of(log, self.watched.family.parent)]
        return _sums_of(state.parent - sum(own), own)

    # -- at the end ---------------------------------------------------------------------------------------------------

    def at_rest(self, last: RunResult) -> list[str]:
        """What was lost, once nothing disturbs any more and the last pass wrote nothing."""
        family, state = self.watched.family, self.watched.state
        if last.error is not None:
            return [f"the last pass ended with {last.error}"]
        world = self.watched
        outcome = next((each for each in last.outcomes if each.family == world.parent_id), None)
        found: list[str] = []
        holds: set[str] = set()
        if outcome is not None:
            holds = {each.rule for each in outcome.decisions.values() if isinstance(each, Hold)}
            holds |= {outcome.rule} if outcome.state is FamilyState.HELD else set()
            if outcome.state in (FamilyState.UNKNOWN, FamilyState.DEFERRED, FamilyState.BUSY):
                found.append(f"no rest: {outcome.state.value} {outcome.reason}")
        failed_parent = any(log.owner == family.parent and log.status == "Failed" for log in state.logs.values())
        if holds - ORDINARY_HOLDS and not (world.touched or world.collided or failed_parent):
            found.append(f"held by {sorted(holds)}, and nobody did anything: {outcome and outcome.reason}")
        for key, log in state.logs.items():
            if log.status == "Failed" and not world.message(key) and key not in self._settled_by_person:
                found.append(f"{log.owner} {log.quantity:+d} failed, and nothing says why")
            if log.status != "Awaiting":
                continue
            decision = None if outcome is None else outcome.decisions.get(LogId(key))
            if log.owner == family.parent:
                explained = family.manual or bool(holds)
            else:
                explained = decision is not None and (not isinstance(decision, Accept) or family.manual or bool(holds))
            if not explained:
                shown = None if outcome is None else f"{outcome.state.value} {outcome.rule} {outcome.reason}"
                found.append(f"lost: {log.owner} {log.quantity:+d} still waits, decision {decision}, {shown}")
        if not world.touched and not world.collided:
            found += self._end_quantities(state)
        return found

    def _end_quantities(self, state: State) -> list[str]:
        """Nobody but the children asked for anything: parent and provider have exactly what was told, no more, no less."""
        family = self.watched.family
        told = self.watched.history.start.parent + sum(
            log.quantity for log in state.logs.values() if log.owner != family.parent and log.status == "Provisioned"
        )
        on_the_way = any(_is_open_of(log, family.parent) for log in state.logs.values())
        if on_the_way:
            return []
        return [
            f"the {name} ends with {seats} seats, the children were told {told}"
            for name, seats in (("parent", state.parent), ("provider", state.provider))
            if seats != told
        ]

    def _complain(self, text: str, event: Event) -> None:
        self.violations.append(f"{self.watched.family.parent}: {text}: {event}")


def _is_open_of(log: Log, owner: str) -> bool:
    return log.owner == owner and log.status in OPEN


def _sums_of(base: int, parts: Iterable[int]) -> set[int]:
    """The base plus every subset of the parts."""
    found = {base}
    for part in parts:
        found |= {each + part for each in found}
    return found
