"""What the journal knows of a family, and whether it may be believed.

A journal is a cache and an audit trail; the truth is in the CRM and at the provider. One that was put back from a backup,
that is new, or that belongs to another host does not know the newest raise that the parent's row names: that is said,
and nothing is concluded from it, except what may still be on its way because it was sent from here (design §4.2, §5).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from connector.domain.decision import Objection, Wait
from connector.domain.marker import Unreadable, names, parse
from connector.domain.model import ProviderSubscription, Snapshot, SubscriptionId
from connector.domain.plan import SetProviderQuantity
from connector.sync.ports import Intent, IntentKind, IntentState, Journal

UNKNOWN_QUIET = timedelta(minutes=15)
"""How long no other target goes to a subscription after a sending that was not answered."""
WATCH = timedelta(hours=24)
"""How long a family is looked at, idle or not, after a sending that was not answered."""
SETTLED_FOR = timedelta(minutes=10)
"""How old the parent's last change must be before a provider that has the target already counts without a write of ours."""
LAG = timedelta(minutes=15)
"""How long a read of the provider may contradict what it confirmed before."""
FOREIGN_JOURNAL = "LS-075"


class Knowledge:
    """What this journal knows of one family."""

    def __init__(self, journal: Journal, family: SubscriptionId) -> None:
        self._journal = journal
        self._family = family
        self.doubt: Objection | None = None
        """Why the journal is not believed; None if it is."""
        self.foreign: str | None = None
        """The parent's newest raise, if this journal does not know it."""

    def compare(self, snapshot: Snapshot) -> None:
        """Hold the journal against the marker on the parent's row."""
        self.doubt, self.foreign = None, None
        text = snapshot.parent.marker_text if snapshot.parent is not None else None
        try:
            groups = parse(text).groups
        except Unreadable:
            return
        if not groups:
            return
        noted = self._journal.noted_markers(self._family)
        if not any(names(note, str(groups[-1])) for note in noted):
            self.foreign = str(groups[-1])
            self.doubt = Wait(
                FOREIGN_JOURNAL,
                f"this journal does not know the parent's newest raise ({groups[-1].delta:+d} seats): it is new, was put back"
                " from a backup, or another host works on this family",
                {"group": str(groups[-1])},
                "if several hosts work on one organisation, give them one journal (state.url)",
            )
        elif text not in noted[-2:] and any(";" in note for note in noted[-1:]):
            self.doubt = Wait(
                FOREIGN_JOURNAL,
                "this journal knows a later state than the parent's row shows: the row was put back, or another host"
                " works on this family",
                {"row": text, "journal": noted[-1]},
                "if several hosts work on one organisation, give them one journal (state.url)",
            )

    def own_targets(self, now: datetime) -> frozenset[int]:
        """Quantities to which sendings of ours that were not answered may bring the provider, however late.

        What was confirmed is none of them: whoever brings the provider there again is somebody else.
        """
        return frozenset(intent.target for intent in self.late(now)) if self.doubt is None else frozenset()

    def seats_sent(self, now: datetime, order: SetProviderQuantity | None = None) -> tuple[int, int]:
        """Seats, bought or given back: those sent for this family within a day, and those that an order would add.

        An order that nobody answered and that is sent again is one number of seats, and counts once.
        """
        since = now - timedelta(days=1)
        doubted = {each.id for each in self._journal.unanswered(since)}
        seats, again = 0, None
        for each in self._journal.sent(self._family, since):
            if each.state is IntentState.REJECTED:
                continue
            sent = (each.provider_subscription, each.before, each.target)
            seats += 0 if sent == again else abs(each.target - each.before)
            again = sent if each.id in doubted else None
        if order is None or (order.subscription, order.before, order.target) == again:
            return seats, 0
        return seats, abs(order.delta)

    def late(self, now: datetime) -> tuple[Intent, ...]:
        """Sendings of the family without an answer within the watch, oldest first. Those for the renewal carry seats too."""
        return tuple(each for each in self._journal.unanswered(now - WATCH) if each.family == self._family)

    def contradicted_until(self, view: ProviderSubscription, settled: int, now: datetime) -> datetime | None:
        """Until when a read that shows the number before our confirmed write is taken for an old one; None: it is not.

        A CRM that settled on that very number is a cause for it.
        """
        found = self._journal.last_confirmed(self._family) if self.doubt is None else None
        if found is None:
            return None
        intent, confirmed_at = found
        stale = view.quantity == intent.before != intent.target and view.quantity != settled
        return confirmed_at + LAG if stale and now < confirmed_at + LAG else None

    def quiet_until(self, action: SetProviderQuantity, now: datetime) -> datetime | None:
        """Until when no other target goes to a subscription because a sending to it has no answer; None if one may go.

        The same target may go at once: an absolute quantity that arrives twice changes nothing. What is scheduled for the
        renewal carries the seats along, so it counts as well.
        """
        scheduled = [
            intent.created_at + UNKNOWN_QUIET
            for intent in self._journal.unanswered(now - UNKNOWN_QUIET)
            if intent.family == self._family
            and intent.kind is IntentKind.SCHEDULE
            and intent.provider_subscription == action.subscription
            and intent.target != action.target
        ]
        waits = [
            intent.created_at + UNKNOWN_QUIET
            for intent in self._journal.open_intents(self._family)
            if intent.kind is IntentKind.QUANTITY
            and intent.provider_subscription == action.subscription
            and intent.is_without_answer
            and intent.target != action.target
        ]
        return max((until for until in (*waits, *scheduled) if until > now), default=None)

    def proves(self, view: ProviderSubscription, snapshot: Snapshot) -> bool:
        """Whether a provider that has the target has it from us: a sending of ours went to it, or was confirmed for a
        raise that the parent's row still names."""
        for intent in self._journal.open_intents(self._family):
            if (
                intent.kind is IntentKind.QUANTITY
                and intent.provider_subscription == view.id
                and intent.is_without_answer
                and intent.target == view.quantity
            ):
                return True
        found = self._journal.last_confirmed(self._family) if self.doubt is None else None
        if found is None or found[0].target != view.quantity or not found[0].group:
            return False
        return snapshot.parent is not None and names(snapshot.parent.marker_text, found[0].group)
