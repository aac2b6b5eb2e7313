"""How a family's unit of work ended, in the order in which people want to hear of it: the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from connector.domain.decision import Hold, Refuse, Wait
from connector.domain.model import ProviderSubscription, Snapshot
from connector.domain.plan import FamilyDecision
from connector.sync.outcome import Effect, FamilyState
from connector.sync.ports import Intent

MANY_UPDATES = 1000
"""Changes of one provider subscription after which a person is told: errors may come after about 1,200."""


@dataclass(frozen=True, slots=True)
class Ending:
    """State, reason and what a person can do."""

    state: FamilyState
    reason: str = ""
    remedy: str = ""
    rule: str = ""
    until: datetime | None = None


def ending_of(
    decision: FamilyDecision, effects: Sequence[Effect], *, provider_said_no: str | None, lost: str | None
) -> Ending:
    """The ending of a family that nothing more can be done for now.

    ``provider_said_no`` is the provider's final refusal in this pass, ``lost`` what became of a scheduled change.
    """
    decisions = decision.decisions
    if provider_said_no is not None:
        remedy = "mend the cause, then set the parent's log to Awaiting Provisioning"
        if isinstance(decision.stop, Hold) and decision.stop.remedy:
            remedy = decision.stop.remedy
        return Ending(FamilyState.FAILED, provider_said_no, remedy, "LS-033")
    if lost is not None:
        return Ending(
            FamilyState.FAILED,
            lost,
            "look at it in Partner Center, and schedule it again if it is still wanted",
            "LS-043",
        )
    held = decision.stop if isinstance(decision.stop, Hold) else None
    held = held or next((found for found in decisions.values() if isinstance(found, Hold)), None)
    if held is not None:
        state = FamilyState.DEFERRED if held.retryable else FamilyState.HELD
        return Ending(state, held.reason, held.remedy, held.rule)
    refused = next((found for found in decisions.values() if isinstance(found, Refuse)), None)
    if refused is not None:
        return Ending(FamilyState.REFUSED, refused.reason)
    failed = next((effect for effect in effects if effect.kind == "log.failed"), None)
    if failed is not None:
        return Ending(FamilyState.REFUSED, failed.text)
    if decision.awaits_person:
        reason = "the parent is manual: a person provisions the seats"
        return Ending(FamilyState.WAITING, reason, "provision them, then set the parent's log to Provisioned", "LS-032")
    wait = next((found for found in decisions.values() if isinstance(found, Wait)), None)
    if wait is not None and not effects:
        return Ending(FamilyState.WAITING, wait.reason, wait.remedy, wait.rule, wait.until)
    return Ending(FamilyState.DONE if effects else FamilyState.NOTHING)


def late_arrival(snapshot: Snapshot, decision: FamilyDecision, late: Sequence[Intent]) -> Ending | None:
    """A family at rest whose provider has another number than its parent: an order without an answer came late, or
    somebody changed it there. None if it has the parent's, or if something else is to be said first."""
    view, books = snapshot.provider, decision.books
    if not isinstance(view, ProviderSubscription) or books is None or decision.stop is not None or books.in_flight:
        return None
    if view.quantity == books.parent_quantity:
        return None
    own = next((intent for intent in reversed(late) if intent.target == view.quantity), None)
    set_back = f"set the subscription to {books.parent_quantity} seats in Partner Center; the next change of a child does it too"
    if own is not None:
        reason = (
            f"the provider has {view.quantity} seats and the parent {books.parent_quantity}: the order for {own.target}"
            f" of {own.created_at:%Y-%m-%d %H:%M} UTC, which was never answered, seems to have arrived late"
        )
        return Ending(FamilyState.HELD, reason, set_back, "LS-079")
    reason = f"provider drift: the provider has {view.quantity} seats, the parent {books.parent_quantity}, and nothing is open"
    return Ending(
        FamilyState.HELD, reason, "set the quantity back in Partner Center, or put the difference on a child", "LS-062"
    )
