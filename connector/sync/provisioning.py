"""The money write: set an absolute quantity at the provider, once, and never lose track of whether it was done.

An intent is durable before anything of its family is written, and serves one sending: its request id is random and never
goes out a second time. What proves a sending is the service's own answer that shows the target, or a read after it.
Whether and when anything is sent again is the unit of work's to decide, on fresh knowledge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from connector.domain.model import NotAtProvider, ProviderSubscription, SubscriptionId
from connector.domain.plan import SetProviderQuantity
from connector.errors import (
    OutcomeUnknown,
    PreconditionFailed,
    ProtocolError,
    Rejected,
    RemoteError,
    StepRefused,
    Transient,
)
from connector.sync.ports import AuditEntry, Clock, Fulfilment, Intent, IntentKind, IntentState, Journal

logger = logging.getLogger(__name__)

CONFIRMATION_WAITS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between reads while an accepted change does not show yet."""
MOST_SEATS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The provider has the target; ``reason`` is added to the report when its answer did not say so by itself."""

    view: ProviderSubscription
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RefusedByProvider:
    """A final no, in the provider's words."""

    text: str


@dataclass(frozen=True, slots=True)
class NotDone:
    """Definitely not done, and worth another try after ``wait`` seconds (None: the provider named no time).

    ``is_try``: the provider looked at this very change, so it counts as one of its tries; an outage does not.
    """

    reason: str
    wait: float | None
    is_try: bool


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Neither done nor not done, as far as anybody can tell now. The open intent says so to whoever comes next.

    ``hopeless``: the answer, or our own adapter, says that sending it again as it is would help nobody.
    """

    reason: str
    hopeless: bool = False


Sent = Confirmed | RefusedByProvider | NotDone | Unanswered


def whole_seats(value: object) -> int:
    """A quantity that may leave: a whole number of at least one seat. Raises ValueError for anything else.

    A float, a text, true, null, a negative or an absurd number is never an order, wherever it came from.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_SEATS:
        raise ValueError(f"{value!r} is no number of seats that can be ordered")
    return value


class Provisioning:
    """One family's money writes."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        fulfilment: Fulfilment,
        run_id: str,
        family: SubscriptionId,
        new_id: Callable[[], str],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._fulfilment = fulfilment
        self._run_id = run_id
        self._family = family
        self._new_id = new_id

    def plan(self, action: SetProviderQuantity, group: str = "") -> Intent:
        """A fresh intent with a random request id, durable when this returns.

        ``group`` is the text of the marker's group that it belongs to.
        """
        request_id = self._new_id()
        intent = Intent(
            id=request_id.replace("-", ""),
            run_id=self._run_id,
            family=self._family,
            provider=action.provider,
            tenant=action.tenant,
            provider_subscription=action.subscription,
            before=action.before,
            target=whole_seats(action.target),
            log_ids=action.carries,
            request_id=request_id,
            created_at=self._clock.now(),
            kind=IntentKind.QUANTITY,
            group=group,
        )
        self._journal.plan(intent)
        return intent

    def send(self, intent: Intent, action: SetProviderQuantity, view: ProviderSubscription) -> Sent:
        """Send the intent, once. ``view`` is the provider's word, read right before what the decision was made on."""
        assert view.quantity == action.before == intent.before and action.target == intent.target
        intent = self._journal.mark(intent.id, IntentState.SENDING, self._clock.now())
        self._audit("provider.sending", intent)
        try:
            found = self._fulfilment.set_quantity(
                action.tenant,
                action.subscription,
                expected=view,
                quantity=whole_seats(action.target),
                request_id=intent.request_id,
            )
            return self._confirm(intent, found, action)
        except Rejected as error:
            if error.status is not None and not error.code:
                # A page of something in between: the service itself says why it refuses.
                return self._read_back(intent, action, error)
            text = error.text or str(error)
            self._mark(intent, IntentState.REJECTED, text)
            return RefusedByProvider(text)
        except (Transient, PreconditionFailed) as error:
            text = error.text or str(error)
            self._mark(intent, IntentState.REJECTED, f"not done: {text}")
            outage = error.status is None or error.status in (429, 503)
            return NotDone(text, error.retry_after, is_try=not outage)
        except (OutcomeUnknown, ProtocolError) as error:
            return self._read_back(intent, action, error)

    def _read_back(self, intent: Intent, action: SetProviderQuantity, error: RemoteError) -> Sent:
        text = error.text or str(error)
        self._mark(intent, IntentState.UNKNOWN, text)
        fresh = self._read(action)
        if fresh is None:
            return Unanswered(f"the answer was lost and the provider could not be read back: {text}")
        if fresh.quantity == action.target:
            self._mark(intent, IntentState.CONFIRMED, "read back after a lost answer")
            return Confirmed(fresh, " (the answer was lost; read back)")
        if fresh.quantity == action.before and error.status == 503:
            self._mark(intent, IntentState.REJECTED, "read back after 503: nothing was done")
            return NotDone(text, error.retry_after, is_try=False)
        if isinstance(error, ProtocolError):
            return Unanswered(text, hopeless=True)
        return Unanswered(f"the answer was lost and the provider has {fresh.quantity} seats: {text}")

    def _confirm(self, intent: Intent, found: ProviderSubscription | None, action: SetProviderQuantity) -> Sent:
        """An answer that shows the target is a confirmation; a 202 or a bare answer is confirmed by reading."""
        for wait in (0.0, *CONFIRMATION_WAITS):
            if found is not None and found.quantity == action.target:
                self._mark(intent, IntentState.CONFIRMED, "")
                return Confirmed(found)
            if wait:
                self._clock.sleep(wait)
            found = self._read(action)
        self._mark(intent, IntentState.UNKNOWN, "accepted, but the quantity did not move yet")
        return Unanswered(f"the provider accepted {action.target} seats but still reports another quantity")

    def _read(self, action: SetProviderQuantity) -> ProviderSubscription | None:
        try:
            found = self._fulfilment.get_subscription(action.tenant, action.subscription)
        except (Transient, Rejected, ProtocolError) as error:
            logger.warning("family %s: the provider could not be read back: %s", self._family, error)
            return None
        return None if isinstance(found, NotAtProvider) else found

    def _mark(self, intent: Intent, state: IntentState, note: str) -> None:
        try:
            self._journal.mark(intent.id, state, self._clock.now(), note)
        except (
            StepRefused
        ) as refused:  # a host that took the family over has closed it: what came of it stands in the trail
            logger.warning("family %s: %s", self._family, refused)
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
