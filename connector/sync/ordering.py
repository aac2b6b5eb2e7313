"""What one family orders at its provider: on fresh knowledge, once, proven, and within a bound for a day.

Source: design §5 items 2 to 5. What may be sent, and when again, is decided here; one sending is provisioning's.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import datetime, timedelta

from connector.domain.decision import Hold, Objection, Wait
from connector.domain.model import ProviderSubscription, ProviderSubscriptionId, Snapshot
from connector.domain.plan import (
    Acknowledge,
    FailLogs,
    FamilyDecision,
    ScheduleAtRenewal,
    SetParentQuantity,
    SetProviderQuantity,
)
from connector.errors import StepRefused
from connector.sync.endings import MANY_UPDATES
from connector.sync.gather import fulfilment_of
from connector.sync.in_hand import FamilyInHand
from connector.sync.knowledge import FOREIGN_JOURNAL, SETTLED_FOR, UNKNOWN_QUIET, WATCH
from connector.sync.outcome import FamilyState
from connector.sync.pauses import BACKOFF, LOOK_AGAIN, Pause
from connector.sync.ports import Fulfilment, Intent, IntentKind, IntentState
from connector.sync.provisioning import Confirmed, NotDone, Provisioning, RefusedByProvider, Unanswered
from connector.sync.renewal import Kept, Later, Lost, RenewalKeeper
from connector.sync.safeguard import Halt

_WITHOUT_LOG = (
    "mend the cause, then save the parent's row again, which lets it be tried; or set the child's log to Failed, which takes it"
    " back"
)
LONGEST_REQUEST = timedelta(minutes=2)
"""After this nobody waits for the answer to a request any more; an intent of another run that is younger may be under way."""
FOREIGN_RAISE = timedelta(seconds=10)
"""How long another host's raise is left alone. That host orders at once, or looks again when that took it longer than two
seconds: whoever waits longer than both does not order, and take back, what it is just about to order."""
MAX_TRIES = 5
"""Tries before a change is given up, as Work 365's own jobs do. An outage uses up none."""


logger = logging.getLogger(__name__)


class Ordering:
    """The money side of one unit of work.

    ``said_no`` is the provider's final refusal, ``lost`` what became of a scheduled change that could not be kept, and
    ``told`` what a person should hear besides.
    """

    def __init__(self, hand: FamilyInHand) -> None:
        self._hand = hand
        self.said_no: str | None = None
        self.lost: str | None = None
        self.told: list[Objection] = []
        self._intent: Intent | None = None
        """Planned before the parent was raised, and not sent yet."""
        self._tries = self._outages = 0
        self._writes_back_later = False
        """What is scheduled could not be written back in this unit of work: a later run does it."""
        self._foreign: tuple[str, datetime] | None = None
        """Another host's raise, and until when it is left alone."""

    # -- before the parent is raised --------------------------------------------------------------------------------

    def prepare(self, decision: FamilyDecision, action: SetParentQuantity) -> Halt | None:
        """Before the parent is raised: the bound of the day, and what it will cost, durable."""
        sent, _ = self._hand.knowledge.seats_sent(self._hand.clock.now())
        beyond = self._beyond_the_day(sent, abs(action.target - action.before))
        if beyond is not None:
            return beyond
        self.drop("another decision was made before it was sent")
        order = next((each for each in decision.actions if isinstance(each, SetProviderQuantity)), None)
        if order is not None:
            self._intent = self._money().plan(order, str(action.marker.groups[-1]))
        return None

    def drop(self, why: str) -> None:
        """Close what was planned and not sent."""
        if self._intent is not None:
            self._hand.journal.mark(self._intent.id, IntentState.SETTLED, self._hand.clock.now(), why)
            self._intent = None

    # -- the order ----------------------------------------------------------------------------------------------------

    def order(self, decision: FamilyDecision, action: SetProviderQuantity) -> Pause | Halt | None:
        """Order seats, on what was read just now: the provider first, the CRM second. None: decide again."""
        hand, view = self._hand, self._hand.snapshot.provider
        if hand.look_if_old():
            return None
        assert isinstance(view, ProviderSubscription)
        waits = self.old_read(decision) or self._quiet(action) or self.left_to_another_run()
        if waits is not None:
            return waits
        refused = self._refused_before(action)
        if refused is not None:
            return refused
        beyond = self._beyond_the_day(*hand.knowledge.seats_sent(hand.clock.now(), action))
        if beyond is not None:
            return beyond
        keeper = self._renewal()
        noted = keeper.remember(hand.snapshot, action)
        self.lost = keeper.lost or self.lost
        if hand.look_if_old():
            # Reading what is scheduled took long. Nothing was sent: what a person does meanwhile is not ours to write back.
            if noted:
                keeper.forget(view)
            return None
        intent, money = self._intent_for(decision, action), self._money()
        self._intent, hand.is_fresh = None, False
        match money.send(intent, action, view):
            case Confirmed(found, reason):
                self._note_confirmed(action, found, reason)
                return None
            case RefusedByProvider(text):
                return self._refused(text, action)
            case NotDone(reason, wait, is_try):
                return self._try_again(reason, wait, action, is_try=is_try)
            case Unanswered(reason, hopeless):
                return self._look_again_later(reason, hopeless=hopeless)

    def _intent_for(self, decision: FamilyDecision, action: SetProviderQuantity) -> Intent:
        """The intent that was planned before the raise, if it is the one that is decided now; else a new one."""
        planned = self._intent
        if planned is not None and (planned.before, planned.target, planned.provider_subscription) == (
            action.before,
            action.target,
            action.subscription,
        ):
            return planned
        self.drop("another decision was made before it was sent")
        groups = decision.books.marker.groups if decision.books is not None else ()
        return self._money().plan(action, str(groups[-1]) if groups else "")

    def _note_confirmed(self, action: SetProviderQuantity, found: ProviderSubscription, reason: str) -> None:
        hand = self._hand
        hand.confirmed = {found.quantity}
        hand.snapshot = replace(hand.snapshot, provider=found)
        hand.effect(
            "provider.quantity",
            f"provider: {action.before} → {action.target} seats{reason}",
            before=action.before,
            after=action.target,
            subscription=action.subscription,
        )
        self.finish_renewal()
        self._count_update(action.subscription)

    def _refused(self, text: str, action: SetProviderQuantity) -> Halt | None:
        """The provider's final no belongs to the parent: its log fails with the provider's text (rule LS-033)."""
        hand = self._hand
        parent = hand.snapshot.parent
        assert parent is not None
        logs = [log for log in hand.snapshot.logs_of(parent.id) if log.is_awaiting]
        if hand.context.policy.child_when_parent_fails == "failed":
            books = hand.decide().books
            logs += [log for log in books.live if log.is_awaiting] if books is not None else []
        if not logs:
            hand.journal.remember(self._refusal_key(), json.dumps([action.target, parent.etag, text]))
            return Halt(FamilyState.FAILED, text, _WITHOUT_LOG, rule="LS-033")
        self.said_no = text
        hand.fail_logs([FailLogs(tuple(logs), text, "LS-033")])
        return None

    def _refused_before(self, action: SetProviderQuantity) -> Halt | None:
        """The same order was refused already, and the parent has no log that could say so: it is not sent in every run. It
        is once the parent's row was touched, by a person or because of another decision."""
        kept = self._hand.journal.recall(self._refusal_key())
        parent = self._hand.snapshot.parent
        if not kept or parent is None:
            return None
        target, etag, text = json.loads(kept)
        if (target, etag) != (action.target, parent.etag):
            self._hand.journal.remember(self._refusal_key(), "")
            return None
        return Halt(FamilyState.FAILED, str(text), _WITHOUT_LOG, rule="LS-033")

    def _refusal_key(self) -> str:
        return f"refused:{self._hand.family}"

    def _try_again(
        self, reason: str, wait: float | None, action: SetProviderQuantity, *, is_try: bool
    ) -> Pause | Halt | None:
        """The provider did nothing: try again under a new id, after both were read again."""
        self._tries += is_try
        self._outages += not is_try
        if self._tries >= MAX_TRIES:
            self._hand.look()
            return self._refused(f"given up after {MAX_TRIES} tries: {reason}", action)
        attempt = self._tries + self._outages
        seconds = wait if wait is not None else BACKOFF[min(attempt, len(BACKOFF)) - 1]
        return Pause(self._hand.clock.now() + timedelta(seconds=seconds), reason)

    def _look_again_later(self, reason: str, *, hopeless: bool) -> Pause | Halt:
        """Whether it was done is open: after a pause both are read, and the same target may go again."""
        remedy = "the next run reads back what happened before it sends"
        if hopeless:
            return Halt(FamilyState.UNKNOWN, reason, remedy)
        self._outages += 1
        seconds = BACKOFF[min(self._outages, len(BACKOFF)) - 1]
        return Pause(self._hand.clock.now() + timedelta(seconds=seconds), reason, is_unknown=True)

    # -- what stands before it ----------------------------------------------------------------------------------------

    def _quiet(self, action: SetProviderQuantity) -> Pause | None:
        until = self._hand.knowledge.quiet_until(action, self._hand.clock.now())
        if until is None:
            return None
        reason = f"an order for another number of seats has no answer; nothing else is sent before {until:%H:%M} UTC"
        return Pause(until, reason, "LS-076", patient=True)

    def left_to_another_run(self) -> Pause | None:
        """Wait if the parent was changed just now by a run that this journal does not know: it is about to order. Neither is
        anything ordered meanwhile, nor the parent changed again."""
        hand = self._hand
        raised, now, parent = hand.knowledge.foreign, hand.clock.now(), hand.snapshot.parent
        if raised is None or parent is None:
            return None
        if self._foreign is None or self._foreign[0] != raised:
            self._foreign = (raised, now + FOREIGN_RAISE)
        until = self._foreign[1]
        if parent.modified_on is not None:
            until = min(until, parent.modified_on + FOREIGN_RAISE)
        if now >= until:
            return None
        reason = (
            "the parent was changed a moment ago by a run that this journal does not know, which may be about to order: it is"
            " left to it for some seconds"
        )
        return Pause(until, reason, FOREIGN_JOURNAL, patient=True)

    def old_read(self, decision: FamilyDecision) -> Pause | None:
        """Wait if the provider's word contradicts what it confirmed a short while ago."""
        view, books = self._hand.snapshot.provider, decision.books
        if not isinstance(view, ProviderSubscription) or books is None:
            return None
        now = self._hand.clock.now()
        until = self._hand.knowledge.contradicted_until(view, books.parent_settled, now)
        if until is None:
            return None
        reason = f"the provider shows {view.quantity} seats, from before the change that it confirmed: it is read again"
        return Pause(min(until, now + LOOK_AGAIN), reason, "LS-077", patient=True)

    def unproven(self, decision: FamilyDecision, action: Acknowledge) -> Pause | None:
        """Why nobody may be told yet on what the provider shows; None if it is good enough.

        A provider that has the target already, without a write of ours, may be on its way to another number: it counts
        only when it is read again ten minutes after the parent's last change.
        """
        hand, view, books = self._hand, self._hand.snapshot.provider, decision.books
        if not isinstance(view, ProviderSubscription) or action.only_tidies or view.quantity in hand.confirmed:
            return None
        automatic = hand.environment().is_automatic
        if books is None or not books.in_flight or (not action.parent_logs and not action.child_logs) or not automatic:
            return self.old_read(decision)
        if hand.knowledge.proves(view, hand.snapshot):
            return None
        changed = _last_change(hand.snapshot)
        if changed is None or hand.clock.now() >= changed + SETTLED_FOR:
            return self.old_read(decision)
        until = changed + SETTLED_FOR
        reason = (
            f"the provider has {view.quantity} seats already, without an order of ours: that counts if it still has them"
            f" at {until:%H:%M} UTC"
        )
        return Pause(until, reason, "LS-025", patient=True)

    def _beyond_the_day(self, sent: int, seats: int) -> Halt | None:
        """The bound that stands behind everything: seats that were ordered and given back for one family within a day."""
        most = self._hand.context.limits.seats_per_family_and_day
        if most is None:
            return None
        if sent + seats <= most:
            return None
        return Halt(
            FamilyState.STOPPED,
            f"{sent} seats were ordered or given back for this family within a day; {seats} more go beyond"
            f" seats_per_family_and_day ({most})",
            "find out what moves it back and forth (linksub journal list); if it is right, raise"
            " policy.limits.seats_per_family_and_day",
            rule="LS-078",
        )

    # -- intents ------------------------------------------------------------------------------------------------------

    def close_intents(self, seen: Snapshot) -> None:
        """The family was settled on what the provider showed: close what is open, but for what another host may be sending
        this very moment."""
        self._intent = None
        for intent in self._hand.journal.open_intents(self._hand.family):
            if not self._may_be_under_way(intent, seen):
                self._close(intent, seen, "the family was settled")

    def close_moot(self, decision: FamilyDecision) -> None:
        """Close intents that a look makes moot: the provider shows their target and nothing is in flight, or it was quiet
        for long enough."""
        now, view, books = self._hand.clock.now(), self._hand.snapshot.provider, decision.books
        for intent in self._hand.journal.open_intents(self._hand.family):
            if self._may_be_under_way(intent, self._hand.snapshot):
                continue
            readable = isinstance(view, ProviderSubscription) and intent.provider_subscription == view.id
            shown = isinstance(view, ProviderSubscription) and view.quantity == intent.target
            at_rest = readable and books is not None and not books.in_flight
            is_moot = at_rest and (shown or now >= intent.created_at + UNKNOWN_QUIET)
            # The parent may be tied to another subscription, or to none: then nobody can tell any more.
            if intent.state is IntentState.PLANNED or is_moot or (not readable and now >= intent.created_at + WATCH):
                self._close(intent, self._hand.snapshot, "the family was settled elsewhere")

    def _close(self, intent: Intent, seen: Snapshot, why: str) -> None:
        now, view, journal = self._hand.clock.now(), seen.provider, self._hand.journal
        done = isinstance(view, ProviderSubscription) and view.quantity == intent.target
        try:
            if intent.state is not IntentState.PLANNED:
                state = IntentState.CONFIRMED if done else IntentState.REJECTED
                journal.mark(intent.id, state, now, "found by a look" if done else "the world moved on")
            journal.mark(intent.id, IntentState.SETTLED, now, why)
        except StepRefused as refused:
            logger.info("family %s: %s", self._hand.family, refused)

    def _may_be_under_way(self, intent: Intent, seen: Snapshot) -> bool:
        """Whether another host may be sending it now: it is of another run, younger than any request can be, and what the
        provider shows does not say that it was done (one for the renewal changes no seats)."""
        view = seen.provider
        shown = isinstance(view, ProviderSubscription) and view.quantity == intent.target
        is_done = shown and intent.kind is IntentKind.QUANTITY
        waits = intent.state in (IntentState.PLANNED, IntentState.SENDING)
        is_young = self._hand.clock.now() < intent.created_at + LONGEST_REQUEST
        return intent.run_id != self._hand.context.run_id and waits and is_young and not is_done

    def _money(self) -> Provisioning:
        hand = self._hand
        context = hand.context
        return Provisioning(hand.journal, hand.clock, self._fulfilment(), context.run_id, hand.family, context.new_id)

    def _fulfilment(self) -> Fulfilment:
        found = fulfilment_of(self._hand.snapshot, self._hand.context.providers)
        assert found is not None, "only a provider that reports is ordered from"
        return found

    def _count_update(self, subscription: ProviderSubscriptionId) -> None:
        """Partner Center may refuse a subscription after some 1,200 updates: tell a person before (rule LS-053)."""
        journal, key = self._hand.journal, f"updates:{subscription}"
        count = int(journal.recall(key) or 0) + 1
        journal.remember(key, str(count))
        if count >= MANY_UPDATES:
            reason = (
                f"{count} changes of provider subscription {subscription} so far; errors may come after about 1,200"
            )
            remedy = "buy a second, coterminous subscription of the SKU and link some of the children to it"
            self.told.append(Hold("LS-053", reason, {"updates": count}, remedy))

    # -- what is scheduled for the renewal ------------------------------------------------------------------------------

    def renewal_at_rest(self, decision: FamilyDecision) -> None:
        """The same when another host, which knew nothing of it, brought the family to its end."""
        parent, view = self._hand.snapshot.parent, self._hand.snapshot.provider
        settled = isinstance(view, ProviderSubscription) and parent is not None and view.quantity == parent.quantity
        if settled and decision.stop is None:
            self.finish_renewal(at_rest=True)

    def finish_renewal(self, *, at_rest: bool = False) -> None:
        """Write back the scheduled change that a change of seats deleted, now or in a pass that died."""
        hand = self._hand
        view = hand.snapshot.provider
        if fulfilment_of(hand.snapshot, hand.context.providers) is None or not isinstance(view, ProviderSubscription):
            return
        if self._writes_back_later:
            return
        match self._renewal().restore(view, at_rest=at_rest):
            case Kept(found):
                hand.snapshot = replace(hand.snapshot, provider=found)
                hand.effect(
                    "provider.schedule",
                    f"provider: the change scheduled for the renewal is kept, at {found.scheduled_quantity} seats",
                    scheduled=found.scheduled_quantity,
                )
            case Lost(reason):
                self.lost = reason
            case Later(reason):
                self._writes_back_later = True
                self.told.append(Wait("LS-043", reason, {}, "nothing to do: a later run writes it back"))

    def schedule(self, action: ScheduleAtRenewal) -> Halt | None:
        """A decrease that cannot go now is promised for the renewal (policy ``refused_decrease: schedule``)."""
        hand, view = self._hand, self._hand.snapshot.provider
        assert isinstance(view, ProviderSubscription)
        if not hand.confirmed and hand.look_if_old():
            return None
        found = self._renewal().schedule(view, action)
        hand.is_fresh = False
        if isinstance(found, Lost):
            return Halt(FamilyState.FAILED, found.reason, rule="LS-043")
        hand.snapshot = replace(hand.snapshot, provider=replace(found, reducible=view.reducible))
        hand.effect(
            "provider.schedule",
            f"provider: scheduled for the renewal, {action.target} seats",
            scheduled=action.target,
            subscription=action.subscription,
        )
        return None

    def _renewal(self) -> RenewalKeeper:
        hand = self._hand
        parent = hand.snapshot.parent
        provider = (parent.provider or "") if parent is not None else ""
        context = hand.context
        return RenewalKeeper(
            hand.journal, self._fulfilment(), hand.clock, context.run_id, hand.family, provider, context.new_id
        )


def _last_change(snapshot: Snapshot) -> datetime | None:
    """When the parent was last changed; its newest log says so where the row does not."""
    parent = snapshot.parent
    assert parent is not None
    return parent.modified_on or max((log.created_on for log in snapshot.logs_of(parent.id)), default=None)
