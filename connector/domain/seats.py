"""Seat arithmetic of one family (design §4): what the provider side has confirmed, and what the children were told.

Work 365 keeps Σ log quantity = subscription quantity, so a quantity already contains what has not reached the provider:
``pending`` is the sum of the open logs, ``settled`` the rest. An inactive subscription counts as quantity 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from connector.domain import marker
from connector.domain.calendar import Calendar
from connector.domain.model import LicenseChangeLog, LogKind, ProvisioningStatus, Snapshot, Subscription

LINKED = "linked"
"""Key of the provider plug-in whose far side is another subscription."""


class OrderKey(NamedTuple):
    """Sort key of logs: the same on every run, whatever the order in which rows arrived."""

    effective: datetime
    created_on: datetime
    id: str


def order_key(log: LicenseChangeLog, calendar: Calendar) -> OrderKey:
    """(effective instant, created on, id): design §4 step 2."""
    return OrderKey(calendar.effective_instant(log), log.created_on, log.id)


def moves_seats(log: LicenseChangeLog) -> bool:
    """Whether a log changes a quantity at all; price-only ("audit") logs do not."""
    return log.kind is not LogKind.AUDIT and log.quantity != 0


def counted_quantity(subscription: Subscription) -> int:
    """Seats that count for the sums: 0 while inactive. The row must have been found sound (see rule LS-010 ff.)."""
    if not subscription.active:
        return 0
    assert subscription.quantity is not None, "a row without a quantity is quarantined before any arithmetic"
    return subscription.quantity


def pending(logs: Sequence[LicenseChangeLog]) -> int:
    """Σ quantity of the logs that are Awaiting or Failed."""
    return sum(log.quantity or 0 for log in logs if log.is_open)


def is_linked_child(subscription: Subscription, parent: Subscription) -> bool:
    """A child of the family: linked to the parent *and* on the Linked provider (a Do Nothing child is not one yet)."""
    return subscription.linked_parent == parent.id and subscription.provider == LINKED and subscription.id != parent.id


@dataclass(frozen=True, slots=True)
class SeatAccount:
    """The family's books at one moment. All figures are seats.

    ``lead``: what the provider side has confirmed and the children were not told; ``told_late`` are the child logs that
    explain it. ``ahead``: what the parent was already raised by and the provider has not confirmed; ``carried`` are the
    child logs that explain it. An explanation that is None means that nothing explains the figure: drift.
    """

    parent_quantity: int
    parent_settled: int
    children_settled: int
    told_late: tuple[LicenseChangeLog, ...] | None
    carried: tuple[LicenseChangeLog, ...] | None
    parent_open: tuple[LicenseChangeLog, ...]
    log_is_missing: bool

    @property
    def lead(self) -> int:
        """settled(P) − Σ settled(C); 0 is the normal state."""
        return self.parent_settled - self.children_settled

    @property
    def ahead(self) -> int:
        """quantity(P) − settled(P)."""
        return self.parent_quantity - self.parent_settled

    def waypoints(self) -> tuple[int, ...]:
        """Quantities at which an earlier pass can have left the provider: settled(P) plus each prefix of P's own
        Awaiting logs, in order."""
        points = [self.parent_settled]
        for log in self.parent_open:
            if log.is_awaiting:
                points.append(points[-1] + (log.quantity or 0))
        return tuple(points)


def _shortest_prefix(logs: Sequence[LicenseChangeLog], total: int) -> tuple[LicenseChangeLog, ...] | None:
    """The shortest prefix with that sum, in order; the empty one for 0; None if there is none."""
    running = 0
    if total == 0:
        return ()
    for count, log in enumerate(logs, start=1):
        running += log.quantity or 0
        if running == total:
            return tuple(logs[:count])
    return None


def _sum(logs: Sequence[LicenseChangeLog]) -> int:
    return sum(log.quantity or 0 for log in logs)


def balance(snapshot: Snapshot, calendar: Calendar, acceptable: Sequence[LicenseChangeLog]) -> SeatAccount:
    """The family's books, with lead and ahead explained by the marker first, else by the shortest prefix.

    ``acceptable`` are the child logs, in order, that rules would let go now: the fallback looks only at these, while a
    marker may name any open child log (one that failed since, or that was made to wait).
    """
    parent = snapshot.parent
    assert parent is not None, "a family without a parent has no books"
    children = [child for child in snapshot.children if is_linked_child(child, parent)]
    parent_logs = sorted(snapshot.logs_of(parent.id), key=lambda log: (log.created_on, log.id))
    parent_open = tuple(log for log in parent_logs if log.is_open)
    parent_quantity = counted_quantity(parent)
    parent_settled = parent_quantity - pending(parent_open)
    children_settled = sum(counted_quantity(child) - pending(snapshot.logs_of(child.id)) for child in children)
    open_child_logs = sorted(
        (log for child in children for log in snapshot.logs_of(child.id) if log.is_open and moves_seats(log)),
        key=lambda log: order_key(log, calendar),
    )
    lead, ahead = parent_settled - children_settled, parent_quantity - parent_settled

    settled_logs = [log for log in parent_logs if not log.is_open]
    told_late = _explain_lead(lead, settled_logs, open_child_logs, acceptable)
    carried = _explain_ahead(ahead, parent, told_late, open_child_logs, acceptable)
    named = marker.decode(parent.order_reference, open_child_logs)
    log_is_missing = bool(named) and all(log.order_reference != parent.order_reference for log in parent_logs)
    return SeatAccount(
        parent_quantity, parent_settled, children_settled, told_late, carried, parent_open, log_is_missing
    )


def _explain_lead(
    lead: int,
    settled_logs: Sequence[LicenseChangeLog],
    open_child_logs: Sequence[LicenseChangeLog],
    acceptable: Sequence[LicenseChangeLog],
) -> tuple[LicenseChangeLog, ...] | None:
    """Child logs that the provider side already contains: those named by the parent's newest settled marker."""
    if lead == 0:
        return ()
    for log in reversed(settled_logs):
        named = marker.decode(log.order_reference, open_child_logs)
        if named is None:
            continue
        if named and _sum(named) == lead:
            return named
        break
    return _shortest_prefix(acceptable, lead)


def _explain_ahead(
    ahead: int,
    parent: Subscription,
    told_late: tuple[LicenseChangeLog, ...] | None,
    open_child_logs: Sequence[LicenseChangeLog],
    acceptable: Sequence[LicenseChangeLog],
) -> tuple[LicenseChangeLog, ...] | None:
    """Child logs that the parent's quantity contains and its provider has not confirmed."""
    late = {log.id for log in told_late or ()}
    named = marker.decode(parent.order_reference, open_child_logs)
    if named is not None:
        rest = tuple(log for log in named if log.id not in late)
        if _sum(rest) == ahead and (rest or ahead == 0):
            return rest
    return _shortest_prefix([log for log in acceptable if log.id not in late], ahead)


def set_aside_by_person(snapshot: Snapshot) -> tuple[LicenseChangeLog, ...]:
    """Parent logs that carried child logs which are still open, and that a person set to Not Applicable (rule LS-035)."""
    parent = snapshot.parent
    assert parent is not None
    open_child_logs = [
        log for child in snapshot.children for log in snapshot.logs_of(child.id) if log.is_open and moves_seats(log)
    ]
    return tuple(
        log
        for log in sorted(snapshot.logs_of(parent.id), key=lambda log: (log.created_on, log.id))
        if log.status is ProvisioningStatus.NOT_APPLICABLE and marker.decode(log.order_reference, open_child_logs)
    )
