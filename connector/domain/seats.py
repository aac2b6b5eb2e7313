"""Seat arithmetic of one family (design §4): what the provider side has confirmed, and what the children were told.

Work 365 keeps Σ log quantity = subscription quantity, so a quantity already contains what has not reached the provider:
``pending`` is the sum of the open logs, ``settled`` the rest. An inactive subscription counts as quantity 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from connector.domain.calendar import Calendar
from connector.domain.carried import Book, Carried, Figures, Reading, State, read
from connector.domain.marker import EMPTY, Known, Marker, Unreadable, in_order_of_making, parse
from connector.domain.model import (
    LicenseChangeLog,
    LogId,
    LogKind,
    ParentLog,
    ProvisioningStatus,
    Snapshot,
    Subscription,
    seats_of,
)

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
    return seats_of(log for log in logs if log.is_open)


def settled_seats(snapshot: Snapshot, row: Subscription) -> int:
    """What a row of the family has without its open changes."""
    return counted_quantity(row) - pending(snapshot.logs_of(row.id))


def is_linked_child(subscription: Subscription, parent: Subscription) -> bool:
    """A child of the family: linked to the parent *and* on the Linked provider (a Do Nothing child is not one yet)."""
    return subscription.linked_parent == parent.id and subscription.provider == LINKED and subscription.id != parent.id


@dataclass(frozen=True, slots=True)
class SeatAccount:
    """The family's books at one moment. All figures are seats.

    ``lead``: what the provider side has confirmed and the children were not told; ``told_late`` are the child logs that
    explain it. ``ahead``: what the parent was already raised by and the provider has not confirmed; ``carried`` are the
    child logs that explain it. Both are named by the marker on the parent's row, and never guessed from numbers. An
    explanation that is None means that the figures do not come out: drift, of lead or of ahead; ``surplus`` is how much of
    ahead nothing explains.

    ``stopped`` are carried logs that a person failed before the provider confirmed them, ``by_hand`` those that a person
    settled, ``paid`` those that a person failed after the provider had confirmed them.
    """

    parent_quantity: int
    parent_settled: int
    children_settled: int
    told_late: tuple[LicenseChangeLog, ...] | None
    carried: tuple[LicenseChangeLog, ...] | None
    parent_open: tuple[LicenseChangeLog, ...]
    known: Known = field(repr=False, compare=False)
    """All changes of the family's children that were read, by which a group names its own."""
    marker: Marker = EMPTY
    groups: tuple[Carried, ...] = ()
    stopped: tuple[LicenseChangeLog, ...] = ()
    by_hand: tuple[LicenseChangeLog, ...] = ()
    paid: tuple[LicenseChangeLog, ...] = ()
    drift: int = 0
    """What of lead nothing explains."""
    surplus: int = 0
    halfway: bool = False
    """A raise and its take-back are not settled alike yet: the parent is not raised again before they are."""
    unreadable: str | None = None
    """Why the marker cannot be read; None if it can."""
    doubtful: tuple[LicenseChangeLog, ...] = ()
    """Changes of one quantity of which several readings of the parent's logs carry some, and not the same ones."""
    doubtful_carried: int = 0
    """How many of these are carried."""
    set_aside: tuple[LicenseChangeLog, ...] = ()
    """Logs of the parent that a person set to Not Applicable although their raises are not settled."""
    waypoints_beyond: tuple[int, ...] = ()

    @property
    def lead(self) -> int:
        """settled(P) − Σ settled(C); 0 is the normal state."""
        return self.parent_settled - self.children_settled

    @property
    def ahead(self) -> int:
        """quantity(P) − settled(P)."""
        return self.parent_quantity - self.parent_settled

    @property
    def ambiguous(self) -> bool:
        """Whether several readings of the parent's logs fit and differ in what they carry."""
        return bool(self.doubtful)

    @property
    def lead_is_explained(self) -> bool:
        """Whether the changes that the marker names explain the lead."""
        return self.unreadable is None and self.drift == 0

    @property
    def without_log(self) -> tuple[Carried, ...]:
        """Raises for which the CRM has made no log of the parent."""
        return tuple(one for one in self.groups if one.state is State.MISSING)

    @property
    def in_flight(self) -> bool:
        """Whether the parent was raised, by whomever, and the provider side has not confirmed all of it."""
        return bool(self.parent_open) or any(one.in_flight for one in self.groups)

    @property
    def taken_back(self) -> frozenset[LogId]:
        """Changes whose take-back has not left the marker: they are not carried again before it has."""
        return frozenset(change.id for one in self.groups if one.group.back for change in one.changes)

    @property
    def live(self) -> tuple[LicenseChangeLog, ...]:
        """The carried changes that wait to be told."""
        return tuple(log for log in self.carried or () if log.is_awaiting)

    def waypoints(self) -> tuple[int, ...]:
        """Quantities at which an earlier pass can have left the provider: settled(P) plus each prefix of what P was
        raised by since, in order."""
        return (self.parent_settled, *self.waypoints_beyond)


def balance(snapshot: Snapshot, *, parent_log: ParentLog | None = None, pushes: bool | None = None) -> SeatAccount:
    """The family's books, with lead and ahead explained by the marker on the parent's row (design §4.2).

    ``parent_log`` and ``pushes`` say what the organisation's CRM does by itself; None: not known.
    """
    parent = snapshot.parent
    assert parent is not None, "a family without a parent has no books"
    children = [child for child in snapshot.children if is_linked_child(child, parent)]
    parent_logs = tuple(in_order_of_making(snapshot.logs_of(parent.id)))
    parent_open = tuple(log for log in parent_logs if log.is_open)
    child_logs = [log for child in snapshot.children for log in snapshot.logs_of(child.id) if moves_seats(log)]
    figures = Figures(
        quantity=counted_quantity(parent),
        pending=pending(parent_open),
        children_settled=sum(settled_seats(snapshot, child) for child in children),
        parent_log=parent_log,
        pushes=pushes,
    )
    linked = {child.id for child in children}
    open_changes = tuple(log for log in in_order_of_making(child_logs) if log.is_open and log.subscription_id in linked)
    known = Known(child_logs)
    try:
        found = parse(parent.marker_text)
        groups = known.changes_of_all(found.groups)
    except Unreadable as problem:
        return SeatAccount(
            figures.quantity,
            figures.quantity - figures.pending,
            figures.children_settled,
            None,
            None,
            parent_open,
            known,
            unreadable=str(problem),
        )
    since = min(
        (log.created_on for log in (*open_changes, *(each for _, made in groups for each in made))), default=None
    )
    relevant = tuple(
        log
        for log in parent_logs
        if moves_seats(log) and (log.is_open or (since is not None and log.created_on >= since))
    )
    readings = read(Book(figures, groups, relevant, open_changes))
    reading, doubtful = readings[0], _doubtful(readings)
    return SeatAccount(
        figures.quantity,
        reading.settled,
        figures.children_settled,
        reading.told_late if reading.fits else None,
        reading.in_flight if reading.fits else None,
        parent_open,
        known,
        marker=found,
        drift=reading.drift,
        groups=reading.groups,
        stopped=reading.stopped if reading.fits else (),
        by_hand=reading.by_hand if reading.fits else (),
        paid=reading.paid if reading.fits else (),
        surplus=reading.surplus,
        halfway=reading.halfway,
        doubtful=doubtful,
        doubtful_carried=sum(log in (*reading.told_late, *reading.in_flight) for log in doubtful),
        set_aside=_set_aside(reading.groups, relevant, figures),
        waypoints_beyond=_waypoints_beyond(reading, parent_open),
    )


def _doubtful(readings: Sequence[Reading]) -> tuple[LicenseChangeLog, ...]:
    """What only some readings carry, of the quantity that comes first. Which of two equal raises was confirmed makes no
    difference: the older change is told first."""
    carried = [{log.id: log for log in (*each.told_late, *each.in_flight)} for each in readings]
    common = set.intersection(*(set(each) for each in carried))
    found = {log_id: log for each in carried for log_id, log in each.items() if log_id not in common}
    in_doubt = in_order_of_making(found.values())
    return tuple(log for log in in_doubt if log.quantity == in_doubt[0].quantity)


def _set_aside(
    groups: Sequence[Carried], parent_logs: Sequence[LicenseChangeLog], figures: Figures
) -> tuple[LicenseChangeLog, ...]:
    """Logs of raises that have none else, which are Not Applicable: a person's word, where the CRM does not make them so.

    It is the raise's own log if the parent had the quantity before that raise when it was made.
    """
    if figures.parent_log is ParentLog.NOT_APPLICABLE:
        return ()
    missing = [one for one in groups if one.state is State.MISSING]
    found: list[LicenseChangeLog] = []
    before = figures.quantity
    for log in reversed(parent_logs):
        before -= log.quantity or 0
        if log.status is ProvisioningStatus.NOT_APPLICABLE and any(
            _is_own_log(log, before, one, missing[number + 1 :]) for number, one in enumerate(missing)
        ):
            found.insert(0, log)
    return tuple(found)


def _is_own_log(log: LicenseChangeLog, before: int, one: Carried, newer: Sequence[Carried]) -> bool:
    """Whether a log is that of a raise; some newest of the later raises may have no log at all yet."""
    without = [sum(each.group.delta for each in newer[at:]) for at in range(len(newer) + 1)]
    return (
        log.quantity == one.group.delta
        and log.created_on >= max(each.created_on for each in one.changes)
        and any(before - seats == one.group.before for seats in without)
    )


def _waypoints_beyond(reading: Reading, parent_open: Sequence[LicenseChangeLog]) -> tuple[int, ...]:
    """settled(P) plus each prefix of the raises in flight: P's own Awaiting logs, then the groups that have none, which
    are always the newest, in their own order. Of logs that were made in one second, the groups say which came first."""
    known = {log.id for log in parent_open}
    aside = [one.log for one in reading.groups if one.log is not None and one.in_flight and one.log.id not in known]
    places = {one.log.id: at for at, one in enumerate(reading.groups) if one.log is not None}
    logged = sorted(
        [*(log for log in parent_open if log.is_awaiting), *aside],
        key=lambda log: (log.created_on, places.get(log.id, -1), log.id),
    )
    missing = [one.group.delta for one in reading.groups if one.state is State.MISSING]
    points, at = [], reading.settled
    for seats in (*(log.quantity or 0 for log in logged), *missing):
        at += seats
        points.append(at)
    return tuple(points)
