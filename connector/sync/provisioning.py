"""The one money write: set an absolute quantity at the provider, and never lose track of whether it was done.

The intent is durable before the first byte leaves. A missing answer is *unknown*: the provider is read back and compared,
and only a quantity that did not move is sent again, as a new intent: a request id serves one sending.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from connector.domain.model import NotAtProvider, ProviderSubscription, Snapshot, SubscriptionId
from connector.domain.plan import SetProviderQuantity
from connector.errors import OutcomeUnknown, PreconditionFailed, ProtocolError, Rejected, Transient
from connector.sync.ports import AuditEntry, Clock, Fulfilment, Intent, IntentState, Journal
from connector.sync.request_ids import request_id

logger = logging.getLogger(__name__)

MAX_TRIES = 5
"""Tries before a change is given up, as Work 365's own jobs do."""

LONGEST_WAIT = 180.0
"""Seconds that a run waits for one family; anything longer is remembered and left to a later run."""

BACKOFF = (2.0, 5.0, 15.0, 30.0)
CONFIRMATION_WAITS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The provider has the target; ``reason`` is added to the report when it was not our present request that did it."""

    view: ProviderSubscription
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RefusedByProvider:
    """A final no, in the provider's words."""

    text: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Definitely not done; not to be tried before ``until``."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class StillUnknown:
    """Neither done nor not done, as far as anybody can tell now. The open intent is the next run's first question."""

    reason: str


Result = Confirmed | RefusedByProvider | Deferred | StillUnknown


class Provisioning:
    """One family's money writes."""

    def __init__(
        self, journal: Journal, clock: Clock, fulfilment: Fulfilment, run_id: str, family: SubscriptionId
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._fulfilment = fulfilment
        self._run_id = run_id
        self._family = family

    def set_quantity(self, snapshot: Snapshot, action: SetProviderQuantity) -> Result:
        """Bring the provider from ``before`` to ``target``. The snapshot's provider view was read just now."""
        view = snapshot.provider
        assert isinstance(view, ProviderSubscription) and view.quantity == action.before
        self._settle_earlier(action)
        intent = self._intent(action)
        last = ""
        for attempt in range(1, MAX_TRIES + 1):
            intent = self._journal.mark(intent.id, IntentState.SENDING, self._clock.now())
            self._audit("provider.sending", intent, attempt=attempt)
            try:
                found = self._fulfilment.set_quantity(
                    action.tenant,
                    action.subscription,
                    expected=view,
                    quantity=action.target,
                    request_id=intent.request_id,
                )
                return self._confirm(intent, found, action)
            except Rejected as error:
                text = error.text or str(error)
                self._mark(intent, IntentState.REJECTED, text)
                return RefusedByProvider(text)
            except (Transient, PreconditionFailed) as error:
                last = error.text or str(error)
                self._mark(intent, IntentState.REJECTED, f"not done: {last}")
                waited = error.retry_after if error.retry_after is not None else BACKOFF[min(attempt, len(BACKOFF)) - 1]
                if waited > LONGEST_WAIT:
                    return Deferred(self._clock.now() + timedelta(seconds=waited), last)
                if attempt == MAX_TRIES:
                    if error.status is None or error.status == 429:
                        # Nobody was reached: that is no answer about this change, and no try of it.
                        return Deferred(self._clock.now() + timedelta(seconds=waited), last)
                    break
                self._clock.sleep(waited)
                fresh = self._read(action)
                if fresh is None:
                    return StillUnknown(f"after an answer of {error.status} the provider could not be read: {last}")
                if fresh.quantity == action.target:
                    return Confirmed(fresh, " (found done)")
                if fresh.quantity != action.before:
                    return StillUnknown(f"the provider moved to {fresh.quantity} seats meanwhile")
                view = fresh
                intent = self._intent(action, intent)
            except ProtocolError as error:
                # Refused by our own adapter before anything left, or an answer that cannot be read: read back next time.
                self._mark(intent, IntentState.UNKNOWN, str(error))
                return StillUnknown(str(error))
            except OutcomeUnknown as error:
                last = error.text or str(error)
                self._mark(intent, IntentState.UNKNOWN, last)
                seen = self._read_back(intent, action, last)
                if not isinstance(seen, ProviderSubscription):
                    return seen
                if attempt == MAX_TRIES:
                    break
                self._clock.sleep(BACKOFF[min(attempt, len(BACKOFF)) - 1])
                # A person may have been there while we waited: nothing is sent on what was read before the pause.
                seen = self._read_back(intent, action, last)
                if not isinstance(seen, ProviderSubscription):
                    return seen
                view = seen
                self._mark(intent, IntentState.REJECTED, "read back: it was not done")
                intent = self._intent(action, intent)
        return RefusedByProvider(f"given up after {MAX_TRIES} tries: {last}")

    def _read_back(self, intent: Intent, action: SetProviderQuantity, last: str) -> ProviderSubscription | Result:
        """After a lost answer: the subscription if nothing was done yet, else how it ended."""
        fresh = self._read(action)
        if fresh is None:
            return StillUnknown(f"the answer was lost and the provider could not be read back: {last}")
        if fresh.quantity == action.target:
            self._mark(intent, IntentState.CONFIRMED, "read back after a lost answer")
            return Confirmed(fresh, " (the answer was lost; read back)")
        if fresh.quantity != action.before:
            return StillUnknown(f"the answer was lost and the provider has {fresh.quantity} seats now")
        return fresh

    def _intent(self, action: SetProviderQuantity, after: Intent | None = None) -> Intent:
        """A fresh intent, durable when this returns; its request id is for one sending, another one ``after`` each."""
        salt = after.request_id if after is not None else ""
        wanted = request_id(self._clock.now(), self._run_id, action.subscription, action.before, action.target, salt)
        intent = Intent(
            id=wanted.replace("-", ""),
            run_id=self._run_id,
            family=self._family,
            provider=action.provider,
            tenant=action.tenant,
            provider_subscription=action.subscription,
            before=action.before,
            target=action.target,
            log_ids=action.carries,
            request_id=wanted,
            created_at=self._clock.now(),
        )
        self._journal.plan(intent)
        return intent

    def _settle_earlier(self, action: SetProviderQuantity) -> None:
        """Close what an earlier run left open, now that the provider was read and has ``before``."""
        for intent in self._journal.open_intents(self._family):
            if intent.provider_subscription != action.subscription:
                continue
            if intent.state is IntentState.PLANNED:
                self._journal.mark(intent.id, IntentState.SETTLED, self._clock.now(), "superseded before it was sent")
            elif intent.target == action.before:
                self._mark(intent, IntentState.CONFIRMED, "found done by a later run")
            else:
                self._mark(intent, IntentState.REJECTED, "superseded: the world moved on")

    def _confirm(self, intent: Intent, found: ProviderSubscription | None, action: SetProviderQuantity) -> Result:
        """An answer that shows the target is a confirmation; a 202 or a bare answer is confirmed by reading."""
        for wait in (0.0, *CONFIRMATION_WAITS):
            if found is not None and found.quantity == action.target:
                self._mark(intent, IntentState.CONFIRMED, "")
                return Confirmed(found)
            if wait:
                self._clock.sleep(wait)
            found = self._read(action)
        self._mark(intent, IntentState.UNKNOWN, "accepted, but the quantity did not move yet")
        return StillUnknown(f"the provider accepted {action.target} seats but still reports another quantity")

    def _read(self, action: SetProviderQuantity) -> ProviderSubscription | None:
        try:
            found = self._fulfilment.get_subscription(action.tenant, action.subscription)
        except (Transient, Rejected, ProtocolError) as error:
            logger.warning("family %s: the provider could not be read back: %s", self._family, error)
            return None
        return None if isinstance(found, NotAtProvider) else found

    def _mark(self, intent: Intent, state: IntentState, note: str) -> None:
        self._journal.mark(intent.id, state, self._clock.now(), note)
        self._audit(f"provider.{state.value}", intent, note=note)

    def _audit(self, event: str, intent: Intent, **detail: object) -> None:
        self._journal.append(
            AuditEntry(
                self._clock.now(),
                self._run_id,
                event,
                self._family,
                intent.id,
                {
                    "before": intent.before,
                    "target": intent.target,
                    "request_id": intent.request_id,
                    "logs": list(intent.log_ids),
                    **detail,
                },
            )
        )
