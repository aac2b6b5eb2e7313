"""Scheduled changes of the provider, kept alive across a change of seats (rule LS-043).

A change of seats deletes what is scheduled for the renewal. It is read before, remembered durably, and written back after,
moved by as many seats: a sibling's increase must not silently kill a decrease that another location was promised.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from connector.domain.model import ProviderSubscription, Snapshot
from connector.domain.plan import ScheduleAtRenewal, SetProviderQuantity
from connector.errors import OutcomeUnknown, PreconditionFailed, ProtocolError, Rejected, Transient
from connector.sync.ports import Clock, Fulfilment, Journal, SchedulesRenewal
from connector.sync.request_ids import request_id

logger = logging.getLogger(__name__)

TRIES = 5
LONGEST_WAIT = 180.0
"""Seconds that a run waits for one attempt."""

_LOSES = (OutcomeUnknown, PreconditionFailed, ProtocolError, Rejected, Transient)


@dataclass(frozen=True, slots=True)
class Kept:
    """The scheduled change is there, moved with the seats."""

    view: ProviderSubscription


@dataclass(frozen=True, slots=True)
class Lost:
    """It could not be written back: the change of seats stands, and a person has to schedule it again."""

    reason: str


class RenewalKeeper:
    """Scheduled changes of one family's provider subscription."""

    def __init__(self, journal: Journal, fulfilment: Fulfilment, clock: Clock, run_id: str) -> None:
        self._journal = journal
        self._fulfilment = fulfilment
        self._clock = clock
        self._run_id = run_id

    def remember(self, snapshot: Snapshot, action: SetProviderQuantity) -> None:
        """Before a change of seats: keep what is scheduled, durably. The subscription was read just now."""
        view = snapshot.provider
        if not isinstance(view, ProviderSubscription) or not view.has_scheduled_change:
            return
        if not isinstance(self._fulfilment, SchedulesRenewal):
            return
        kept = self._fulfilment.scheduled_change(action.tenant, action.subscription)
        if kept is not None:
            note = {"kept": kept, "before": action.before, "target": action.target}
            self._journal.remember(_key(view), json.dumps(note))

    def restore(self, view: ProviderSubscription) -> Kept | Lost | None:
        """After the seats were confirmed: write back what is remembered; None when nothing is.

        Also finishes what a process that died in between left behind.
        """
        text = self._journal.recall(_key(view))
        if not text or not isinstance(self._fulfilment, SchedulesRenewal):
            return None
        note = json.loads(text)
        if view.quantity == note["before"]:
            return None
        delta = int(note["target"]) - int(note["before"])
        try:
            found = self._patiently(view, str(note["kept"]), delta)
        except _LOSES as error:
            self._journal.remember(_key(view), "")
            return Lost(f"the change scheduled for the renewal was lost: {error}")
        self._journal.remember(_key(view), "")
        if found is None:
            return Lost("the change scheduled for the renewal was lost: moved by these seats it would leave none")
        return Kept(found)

    def _patiently(self, view: ProviderSubscription, kept: str, delta: int) -> ProviderSubscription | None:
        """Write it back, with a pause where the service asks for one: it reads before it writes, so it may be repeated."""
        assert isinstance(self._fulfilment, SchedulesRenewal)
        for attempt in range(1, TRIES):
            try:
                wanted = self._request_id(view.id, delta, attempt)
                return self._fulfilment.keep_scheduled_change(view.tenant, view.id, kept, delta, wanted)
            except (Transient, OutcomeUnknown) as error:
                logger.info("the scheduled change of %s is not written back yet: %s", view.id, error)
                self._clock.sleep(min(error.retry_after or 5.0 * attempt, LONGEST_WAIT))
        return self._fulfilment.keep_scheduled_change(
            view.tenant, view.id, kept, delta, self._request_id(view.id, delta, TRIES)
        )

    def schedule(self, action: ScheduleAtRenewal) -> ProviderSubscription | Lost:
        """Let the renewal bring the subscription to the action's quantity."""
        if not isinstance(self._fulfilment, SchedulesRenewal):
            return Lost("the provider cannot schedule a change for the renewal")
        try:
            wanted = self._request_id(action.subscription, action.target)
            return self._fulfilment.schedule_quantity(action.tenant, action.subscription, action.target, wanted)
        except (PreconditionFailed, ProtocolError, Rejected) as error:
            return Lost(f"the change could not be scheduled for the renewal: {error.text or error}")

    def _request_id(self, *parts: object) -> str:
        return request_id(self._clock.now(), self._run_id, "schedule", *parts)


def _key(view: ProviderSubscription) -> str:
    return f"scheduled-change:{view.tenant}:{view.id}"
