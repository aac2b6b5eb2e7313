"""Judges what was seen of one family, event by event, and its end. It knows the documents and no arithmetic of the connector.

The one idea: a quantity is *explained* if it is what the family began with, plus the changes of children that were told
Provisioned, plus any of their other changes. Nothing else is ever asked for by anybody but a person. What people did is
read from the rows: which log they set to what, what they added to the parent or the provider with their own hands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime

from connector.sync.outcome import NEEDS_ATTENTION, RunResult
from tests.support.people import OF_P, was_carried
from tests.support.worlds import OPEN, Event, State, Watched

BOOKS = "puts the books right"
"""A person brings P and the provider to what the children were told, which is no edit of his own to be taken back."""

Complain = Callable[[str, str], None]
"""(kind of the violation, what was seen) → kept with the seed."""


class Oracle:
    """Follows one family."""

    def __init__(self, watched: Watched, counts: Counter[str], complain: Complain) -> None:
        self.watched = watched
        self._counts = counts
        self._complain = complain
        self.touched: set[str] = set()
        """In which ways people meddled with the family, and what else may leave it in a state that nothing explains."""
        self.hand = 0
        """Seats that a person added to P and did not take back."""
        self.hand_logs: set[str] = set()
        self.by_hand_at_provider = False
        self.confirmed = watched.state.provider
        """The last number that the provider had from anybody but a person in its portal."""
        self.collided = False
        """A request and an edit crossed at the provider, which has no condition on a write: what it has now is open."""
        self.renewal_was_told = False
        """A pass said that it could not keep what is scheduled for the renewal."""
        self.words: dict[str, str] = {}
        """Log → the status that a person set it to, while that stands."""
        self.barred: set[str] = set()
        """Changes that a person stopped before P was raised for them."""
        self.not_yet_seen: frozenset[str] = frozenset()
        """Changes that a person stopped after the CRM last answered the host that writes now."""
        self._told: set[str] = set()
        self._at_the_books = watched.state.parent
        self._before_the_books: set[str] = set()
        self._asked = self._returnable = 0
        self._bought = self._returned = 0

    # -- what is explained --------------------------------------------------------------------------------------------

    def explained(self, state: State, *, without: Iterable[str] = ()) -> set[int]:
        """Every number of seats that the changes of the children can make up."""
        start, left_out = self.watched.states[0], set(without)
        base, rest = start.parent, []
        for key, log in state.logs.items():
            if log.owner == self.watched.family.parent:
                continue
            if key in self._told:
                base += log.quantity
            elif key not in left_out:
                rest.append(log.quantity)
        return _sums_of(base, rest)

    def _waypoints(self, state: State) -> set[int]:
        """What P's own open changes lead through, one after the other: an earlier pass may have got so far."""
        own = [log.quantity for _, log in state.of(self.watched.family.parent) if log.status in OPEN]
        at = state.parent - sum(own)
        found = {at}
        for quantity in own:
            at += quantity
            found.add(at)
        return found

    # -- events -------------------------------------------------------------------------------------------------------

    def see(self, event: Event) -> None:
        """One more event."""
        self._note_asks(event)
        if event.actor == "person":
            self._note_person(event)
        elif event.actor == "connector":
            self._parent(event)
            self._provider(event)
            self._statuses(event)
            self._by_the_way(event)
        else:
            self._note_nature(event)

    def hear(self, result: RunResult) -> None:
        """What a pass says of the family."""
        for outcome in result.outcomes:
            if outcome.family == self.watched.parent_id and outcome.state in NEEDS_ATTENTION:
                self.renewal_was_told |= "renewal" in outcome.reason

    def _note_asks(self, event: Event) -> None:
        """How many seats people may expect to be bought and given back: each change once, and again when let go again."""
        for key, log in event.after.logs.items():
            was = event.before.logs.get(key)
            if log.owner == self.watched.family.parent or (was is not None and was.status == log.status):
                continue
            again = was is not None and event.actor == "person" and was.status != "Awaiting"
            if was is None or again:
                self._asked += max(0, log.quantity)
                self._returnable += max(0, -log.quantity)
            elif event.actor == "person":  # stopped: what was done for it may be taken back
                self._asked += max(0, -log.quantity)
                self._returnable += max(0, log.quantity)

    def _note_person(self, event: Event) -> None:
        before, after, parent = event.before, event.after, self.watched.family.parent
        if before.parent != after.parent and event.what not in OF_P:
            self._note_push()
        elif before.parent != after.parent:
            self.touched.add(event.what)
            self.hand = 0 if event.what == BOOKS else self.hand + after.parent - before.parent
            self.hand_logs |= {key for key, _ in after.of(parent) if key not in before.logs}
        if before.provider is not None and after.provider is not None and before.provider != after.provider:
            self.touched.add(event.what)
            self.by_hand_at_provider = event.what != BOOKS
            self.confirmed = after.provider if event.what == BOOKS else self.confirmed
            self._asked += max(0, before.provider - after.provider)
            self._returnable += max(0, after.provider - before.provider)
        if before.reference != after.reference:
            self.touched.add(event.what)
        if event.what == BOOKS:
            self._at_the_books, self._before_the_books = after.parent, {key for key, _ in after.of(parent)}
        if event.what in OF_P:  # whatever he says of P's logs now belongs to that
            self.hand_logs |= {key for key, log in before.logs.items() if after.logs[key].status != log.status}
        for key, log in after.logs.items():
            was = before.logs.get(key)
            if was is None or was.status == log.status:
                continue
            confirms = log.owner == parent and self.watched.family.manual and log.status == "Provisioned"
            if not confirms and log.status != "Awaiting":
                self.touched.add(event.what)
            self.words.pop(key, None)
            self.barred.discard(key)
            if log.status != "Awaiting":
                self.words[key] = log.status
                if log.owner != parent and log.status != "Provisioned" and not was_carried(self.watched, key):
                    self.barred.add(key)

    def _note_nature(self, event: Event) -> None:
        """Time, the CRM's jobs, or a request that was under way for long."""
        if event.before.parent != event.after.parent:
            self._note_push()
        if event.before.provider != event.after.provider:
            self.touched.add("a late request")
            self._counts["a late request changed the provider"] += 1

    def _note_push(self) -> None:
        """The CRM raised P by itself. When it does so for a change that is carried already, a person removes the surplus."""
        self.touched.add("a push by the CRM")
        self._counts["the CRM pushed"] += 1

    def _parent(self, event: Event) -> None:
        before, after = event.before, event.after
        if before.parent == after.parent:
            return
        if before.parent not in self.explained(before):
            self._complain("parent-overwritten", f"a person's edit of the parent was overwritten: {event}")
        elif after.parent not in self.explained(after):
            self._complain("parent-unexplained", f"I1: P got seats that nobody asked for: {event}")

    def _provider(self, event: Event) -> None:
        before, after = event.before, event.after
        if before.provider is None or after.provider is None or before.provider == after.provider:
            return
        self.confirmed, self.by_hand_at_provider = after.provider, False
        self._bought += max(0, after.provider - before.provider)
        self._returned += max(0, before.provider - after.provider)
        self._counts["seats were bought"] += after.provider > before.provider
        self._counts["seats were given back"] += after.provider < before.provider
        if self.collided or "a late request" in self.touched:
            self._counts["excused: what crossed at the provider"] += 1
            return
        explained = self.explained(after)
        if before.provider not in explained | self._waypoints(before):
            self._complain("provider-overwritten", f"a person's edit of the provider was overwritten: {event}")
        if after.provider not in explained:
            self._complain("bought-unexplained", f"I1: the provider got seats that nobody asked for: {event}")
        elif after.provider not in self.explained(after, without=self._barred_for(event)):
            self._complain("bought-a-stopped-change", f"a change that a person stopped before was bought: {event}")
        if self._bought > self._asked or self._returned > self._returnable:
            text = (
                f"{self._bought} bought of {self._asked} asked for, {self._returned} given back of {self._returnable}"
            )
            self._complain("bought-twice", f"I1: {text}: {event}")

    def _barred_for(self, event: Event) -> set[str]:
        """Stopped changes that must not be bought. Where the CRM itself orders in the instant in which P is raised, nobody can
        ask it once more in between: what was stopped in that very moment is bought, and given back."""
        if event.before.parent == event.after.parent:
            return self.barred
        self._counts["excused: the CRM ordered at once what was just stopped"] += bool(self.barred & self.not_yet_seen)
        return self.barred - self.not_yet_seen

    def _statuses(self, event: Event) -> None:
        fresh: list[str] = []
        for key, log in event.after.logs.items():
            was = event.before.logs.get(key)
            if was is None or was.status == log.status:
                continue
            if key in self.words:
                self._complain("word-overwritten", f"what a person set to {self.words[key]} was overwritten: {event}")
            if log.status == "Failed":
                self._counts["the connector failed a log"] += 1
                if not self.watched.message(key):
                    self._complain(
                        "failed-without-a-reason", f"{log.owner} {log.quantity:+d} failed in silence: {event}"
                    )
            if log.status == "Provisioned" and log.owner != self.watched.family.parent:
                fresh.append(key)
        self._told.update(fresh)
        if fresh:
            self._counts["a child was told"] += len(fresh)
            self._told_in_time(event, fresh)

    def _told_in_time(self, event: Event, fresh: list[str]) -> None:
        """I2, I3: what is told was so, at the provider and on P, at some moment since the last of it was asked for."""
        if self.collided or "a late request" in self.touched:
            return
        family, states = self.watched.family, self.watched.states
        explained = self.explained(event.after)
        since = next(at for at, state in enumerate(states) if all(key in state.logs for key in fresh))
        seen = states[since:]
        what = ", ".join(f"{event.after.logs[key].owner} {event.after.logs[key].quantity:+d}" for key in fresh)
        if family.manual:
            providers = {self._confirmed_by_people(state) for state in seen}
        else:
            providers = {state.provider for state in seen if state.provider is not None}
        if not providers & explained:
            text = f"I2: {what} told Provisioned, the provider had {sorted(providers)}"
            self._complain("told-too-early", f"{text}, explained were {sorted(explained)}: {event}")
        elif family.manual and not self._is_carried_by_a_confirmed_log(event.after, fresh):
            self._complain(
                "told-too-early", f"I3: {what} told, and nobody confirmed a log of P that can carry it: {event}"
            )
        parents = {value for state in seen for value in (state.parent, state.parent - self.hand)}
        if not parents & explained:
            self._complain("told-too-early", f"I2: {what} told Provisioned, P had {sorted(parents)}: {event}")

    def _confirmed_by_people(self, state: State) -> int:
        """What a manual provider has by what people confirmed, since the beginning or since they put the books right. Who sets
        a log of P to Not Applicable says that there is nothing to provision: the seats are there."""
        own = state.of(self.watched.family.parent)
        over = self.hand_logs | self._before_the_books
        said = {key for key, word in self.words.items() if word == "Not Applicable"}
        done = (
            log.quantity
            for key, log in own
            if key not in over and (log.status == "Provisioned" or (log.status == "Not Applicable" and key in said))
        )
        return self._at_the_books + sum(done)

    def _is_carried_by_a_confirmed_log(self, state: State, fresh: list[str]) -> bool:
        """A change that nets to nothing needs no log; any other needs a confirmed one that is younger than it."""
        if sum(state.logs[key].quantity for key in fresh) == 0:
            return True
        oldest: datetime = min(state.logs[key].born for key in fresh)
        own = state.of(self.watched.family.parent)
        return any(log.status == "Provisioned" and log.born > oldest for _, log in own)

    def _by_the_way(self, event: Event) -> None:
        for alias in event.written:
            self._complain("written-by-the-way", f"{alias} was written: {event}")
        if event.before.auto_renew != event.after.auto_renew:
            self._complain("written-by-the-way", f"renewal was switched: {event}")

    # -- the end ------------------------------------------------------------------------------------------------------

    def left(self) -> list[tuple[str, str]]:
        """What is not as it should be, now that nothing disturbs: (kind, text), empty when everything is through.

        What people left Failed, and what waits on the same child, may stay (a dated change may come after a newer one); the
        seats of the former may be bought.
        """
        state, family, found = self.watched.state, self.watched.family, []
        behind, optional = 0, []
        for child in family.seats:
            stopped = any(log.status == "Failed" and key in self.words for key, log in state.of(child))
            for key, log in state.of(child):
                if log.status == "Failed" and key in self.words:
                    optional.append(-log.quantity)
                elif log.status in OPEN and stopped:
                    behind += log.quantity
                elif log.status in OPEN:
                    found.append(("stuck", f"{child} {log.quantity:+d} is {log.status}"))
        for _, log in state.of(family.parent):
            if log.status in OPEN:
                found.append(("stuck", f"P's own {log.quantity:+d} is {log.status}"))
        asked = _sums_of(sum(state.children.values()) - behind, optional)
        for name, seats in (("P", state.parent), ("the provider", state.provider)):
            if seats is not None and seats not in asked:
                found.append(("wrong-end", f"{name} ends with {seats} seats, the children stand for {sorted(asked)}"))
        if state.provider is not None and state.parent != state.provider:
            found.append(("wrong-end", f"P ends with {state.parent} seats, the provider with {state.provider}"))
        return found

    def at_rest(self, *, engine: bool) -> list[tuple[str, str]]:
        """What must be back as it was, once everything is through. The CRM's own ``engine`` deletes schedules itself."""
        state, family, found = self.watched.state, self.watched.family, self.reference_left()
        if any(log.status in OPEN for log in state.logs.values()):
            return []
        moved = state.parent - self.watched.states[0].parent
        kept = family.scheduled is not None and family.scheduled + moved >= 1
        excused = engine or self.by_hand_ever or self.collided or self.renewal_was_told
        if kept and not state.scheduled and not excused:
            found.append(("schedule-lost", "what was scheduled for the renewal is gone"))
        return found

    def reference_left(self) -> list[tuple[str, str]]:
        """The marker, where a person's words have settled everything else; empty while anything is open."""
        state, family = self.watched.state, self.watched.family
        if state.reference == family.reference or any(log.status in OPEN for log in state.logs.values()):
            return []
        return [("reference-lost", f"P's Order Reference is {state.reference!r}, people wrote {family.reference!r}")]

    @property
    def hand_to_take_back(self) -> int:
        """What a person added to P and has to take back; nothing if the children's changes have come to explain it."""
        explained, seats = self.explained(self.watched.state), self.watched.state.parent
        return 0 if seats in explained and seats - self.hand not in explained else self.hand

    @property
    def by_hand_ever(self) -> bool:
        """Whether a person edited the provider, which itself deletes what is scheduled there, or a late request did."""
        return bool(self.touched & {"edits the provider", "puts the provider back", BOOKS, "a late request"})


def _sums_of(base: int, parts: Iterable[int]) -> set[int]:
    """The base plus every subset of the parts."""
    found = {base}
    for part in parts:
        found |= {each + part for each in found}
    return found
