"""Scheduled changes of the provider, kept alive across a change of seats (rule LS-043).

A change of seats deletes what is scheduled for the renewal. It is read before, remembered durably, and written back after,
moved by as many seats: a sibling's increase must not silently kill a decrease that another location was promised.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from connector.domain.model import ProviderSubscription, Snapshot, SubscriptionId
from connector.domain.plan import ScheduleAtRenewal, SetProviderQuantity
from connector.errors import (
    AnotherChange,
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    StepRefused,
    Transient,
)
from connector.sync.ports import Clock, Fulfilment, Intent, IntentKind, IntentState, Journal, SchedulesRenewal
from connector.sync.provisioning import whole_seats

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PREFIX = "scheduled-change:"
TRIES = 3
LONGEST_WAIT = 10.0
"""Seconds between two attempts: nothing waits long under a lease, and what is remembered is written back by a later look."""

_MAY_BE_REPEATED = (OutcomeUnknown, PreconditionFailed, Transient)
"""What may be asked again after a look: nothing came of it, or nobody knows."""
_LOSES = (*_MAY_BE_REPEATED, ProtocolError, Rejected)
_WHO_KNOWS = (
    "the change scheduled for the renewal is not there any more, and nobody knows whether an order deleted it or a person"
    " withdrew it"
)


class _Since(Enum):
    """What came of the orders since something was noted: ``OPEN``: one has no answer yet · ``DONE``: one was carried out ·
    ``DOUBTFUL``: one was never answered, and nobody knows · ``NOTHING``: there was none, or all were refused."""

    OPEN = "open"
    DONE = "done"
    DOUBTFUL = "doubtful"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Kept:
    """The scheduled change is there, moved with the seats."""

    view: ProviderSubscription


@dataclass(frozen=True, slots=True)
class Lost:
    """It could not be written back: the change of seats stands, and a person has to schedule it again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """The service did not answer: what is remembered stays, and the next look writes it back."""

    reason: str


class RenewalKeeper:
    """Scheduled changes of one family's provider subscription. Each of its writes carries the seats as well, so it is
    planned, journaled and verified like every other money write."""

    def __init__(
        self,
        journal: Journal,
        fulfilment: Fulfilment,
        clock: Clock,
        run_id: str,
        family: SubscriptionId,
        provider: str,
        new_id: Callable[[], str],
    ) -> None:
        self._provider = provider
        self._new_id = new_id
        self._journal = journal
        self._fulfilment = fulfilment
        self._clock = clock
        self._run_id = run_id
        self._family = family
        self.lost: str | None = None
        """What a person should hear of a note that was given up."""

    def remember(self, snapshot: Snapshot, action: SetProviderQuantity) -> bool:
        """Before a change of seats: keep what is scheduled, durably; True if something is. The subscription was read just
        now."""
        view = snapshot.provider
        if not isinstance(view, ProviderSubscription):
            return False
        if not view.has_scheduled_change:
            self._give_up(view)
            return False
        if not isinstance(self._fulfilment, SchedulesRenewal):
            return False
        kept = self._fulfilment.scheduled_change(action.tenant, action.subscription)
        if kept is None:
            return False
        at = self._clock.now().isoformat()
        note = {"family": self._family, "kept": kept, "before": action.before, "at": at}
        self._journal.remember(_key(view), json.dumps(note))
        return True

    def _give_up(self, view: ProviderSubscription) -> None:
        """Nothing is scheduled any more. What was noted for an order that came to nothing is forgotten, because a person was
        there; where nobody knows, that is told. Seats that moved say that an order deleted it: then it is still to come back."""
        note = self._noted(view)
        if note is None:
            return
        since = self._since(view, note)
        if since is _Since.NOTHING:
            self.forget(view)
        elif since is not _Since.DONE and view.quantity == int(note["before"]):
            self.forget(view)
            self.lost = _WHO_KNOWS

    def forget(self, view: ProviderSubscription) -> None:
        """What was remembered is where it belongs, or beyond help."""
        self._journal.remember(_key(view), "")

    def restore(self, view: ProviderSubscription, *, at_rest: bool = False) -> Kept | Lost | Later | None:
        """After the seats were confirmed: write back what is remembered; None when nothing is.

        Also finishes what a process that died in between left behind. It is moved by all seats that came since, whoever
        ordered them. ``at_rest``: nothing is on its way any more, so what is not needed now is forgotten. Seats that moved
        and came back have deleted it as well, but so may a person have done: it is written back only if an order is known
        to have been carried out since.
        """
        note = self._noted(view)
        if note is None or not isinstance(self._fulfilment, SchedulesRenewal):
            return None
        delta = view.quantity - int(note["before"])
        since = self._since(view, note)
        if since is _Since.NOTHING or (at_rest and view.has_scheduled_change and since is not _Since.OPEN):
            self.forget(view)  # no order of ours deleted it: whoever did has a note of his own, or meant it
            return None
        if not delta and since is _Since.DOUBTFUL and at_rest:
            self.forget(view)
            return Lost(_WHO_KNOWS)
        if not delta and since is not _Since.DONE:
            return None
        try:
            found = self._patiently(view, str(note["kept"]), delta)
        except (AnotherChange, ProtocolError, Rejected) as error:
            self.forget(view)
            return Lost(f"the change scheduled for the renewal was lost: {error}")
        except _MAY_BE_REPEATED as error:
            return Later(f"the change scheduled for the renewal is not written back yet: {error}")
        self.forget(view)
        if found is None:
            return Lost("the change scheduled for the renewal was lost: moved by these seats it would leave none")
        return Kept(found)

    def _noted(self, view: ProviderSubscription) -> Mapping[str, Any] | None:
        text = self._journal.recall(_key(view))
        found: Mapping[str, Any] | None = json.loads(text) if text else None
        return found

    def _since(self, view: ProviderSubscription, note: Mapping[str, Any]) -> _Since:
        """What is known of the orders that went out after a note was made."""
        if "at" not in note:  # of an earlier version
            return _Since.DOUBTFUL
        at = datetime.fromisoformat(str(note["at"]))
        if any(each.is_without_answer for each in self._journal.open_intents(self._family)):
            return _Since.OPEN
        confirmed = self._journal.last_confirmed(self._family)
        if confirmed is not None and confirmed[1] >= at and confirmed[0].provider_subscription == view.id:
            return _Since.DONE
        sent = [each for each in self._journal.sent(self._family, at) if each.provider_subscription == view.id]
        # What the service itself refused ends as rejected; what a look closed ends as settled.
        return _Since.DOUBTFUL if any(each.state is not IntentState.REJECTED for each in sent) else _Since.NOTHING

    def _patiently(self, view: ProviderSubscription, kept: str, delta: int) -> ProviderSubscription | None:
        """Write it back, with a pause where the service asks for one: it reads before it writes, so it may be repeated."""
        assert isinstance(self._fulfilment, SchedulesRenewal)
        fulfilment = self._fulfilment

        def write(request_id: str) -> ProviderSubscription | None:
            return fulfilment.keep_scheduled_change(
                view.tenant, view.id, kept, delta, request_id, seats=whole_seats(view.quantity)
            )

        for attempt in range(1, TRIES):
            try:
                return self._journaled(view, write)
            except AnotherChange:
                raise
            except _MAY_BE_REPEATED as error:
                logger.info("the scheduled change of %s is not written back yet: %s", view.id, error)
                self._clock.sleep(min(error.retry_after or 5.0 * attempt, LONGEST_WAIT))
        return self._journaled(view, write)

    def schedule(self, view: ProviderSubscription, action: ScheduleAtRenewal) -> ProviderSubscription | Lost:
        """Let the renewal bring the subscription to the action's quantity."""
        if not isinstance(self._fulfilment, SchedulesRenewal):
            return Lost("the provider cannot schedule a change for the renewal")
        fulfilment = self._fulfilment

        def write(request_id: str) -> ProviderSubscription:
            return fulfilment.schedule_quantity(
                action.tenant,
                action.subscription,
                whole_seats(action.target),
                request_id,
                seats=whole_seats(view.quantity),
            )

        try:
            return self._journaled(view, write)
        except (AnotherChange, ProtocolError, Rejected) as error:
            return Lost(f"the change could not be scheduled for the renewal: {error.text or error}")

    def _journaled(self, view: ProviderSubscription, write: Callable[[str], T]) -> T:
        """One sending under an intent of its own, which says how it ended. The seats stay as they are."""
        request_id = self._new_id()
        intent = Intent(
            id=request_id.replace("-", ""),
            run_id=self._run_id,
            family=self._family,
            provider=self._provider,
            tenant=view.tenant,
            provider_subscription=view.id,
            before=view.quantity,
            target=view.quantity,
            log_ids=(),
            request_id=request_id,
            created_at=self._clock.now(),
            kind=IntentKind.SCHEDULE,
        )
        self._journal.plan(intent)
        self._journal.mark(intent.id, IntentState.SENDING, self._clock.now())
        try:
            found = write(request_id)
        except OutcomeUnknown as error:
            self._end(intent, IntentState.UNKNOWN, str(error))
            raise
        except _LOSES as error:
            self._end(intent, IntentState.REJECTED, str(error))
            raise
        self._end(intent, IntentState.CONFIRMED, "")
        return found

    def _end(self, intent: Intent, state: IntentState, note: str) -> None:
        """Each sending reads back what it wrote, so nothing stays open behind it."""
        steps = [(state, note), (IntentState.SETTLED, note)]
        if state is IntentState.UNKNOWN:
            steps.insert(1, (IntentState.REJECTED, "it is read before it is written again"))
        try:
            for step, said in steps:
                self._journal.mark(intent.id, step, self._clock.now(), said)
        except StepRefused as refused:  # a host that took the family over has closed it
            logger.warning("family %s: %s", self._family, refused)


def unkept(journal: Journal) -> frozenset[SubscriptionId]:
    """Families for which a scheduled change is remembered: whoever remembered it did not come to write it back."""
    notes = [json.loads(text) for key, text in journal.cached().items() if key.startswith(_PREFIX) and text]
    return frozenset(SubscriptionId(note["family"]) for note in notes if "family" in note)


def _key(view: ProviderSubscription) -> str:
    return f"{_PREFIX}{view.tenant}:{view.id}"
