"""What lies ahead of a family and goes by itself: scheduled changes and deactivations. Seen and told, never pushed early."""

from __future__ import annotations

from datetime import datetime, timedelta

from connector.domain.decision import Objection
from connector.domain.model import ScheduledEvent, ScheduledLicenseChangeLog, ScheduledStatus, Subscription
from connector.domain.rules.registry import Context, Rule, Scope, Severity, Stage, hold, wait

PATIENCE = timedelta(hours=1)
"""How long after its time a scheduled change may still be Pending before it is called overdue."""


def instant_of(entry: ScheduledLicenseChangeLog, owner: Subscription | None, ctx: Context) -> datetime | None:
    """When Work 365 will carry out a scheduled change: by its date, and by whether it adds or takes seats."""
    if entry.effective_on is None:
        return None
    if entry.event is ScheduledEvent.DEACTIVATE:
        sign = -1
    elif entry.event is ScheduledEvent.ACTIVATE or owner is None or owner.quantity is None or entry.quantity is None:
        sign = 1
    else:
        sign = entry.quantity - owner.quantity
    return ctx.env.calendar.scheduled_for(entry.effective_on, sign)


def _told(ctx: Context) -> list[tuple[ScheduledLicenseChangeLog, str, datetime | None]]:
    parent = ctx.snapshot.parent
    rows = {row.id: row for row in (*ctx.snapshot.children, *((parent,) if parent is not None else ()))}
    return [
        (
            entry,
            rows[entry.subscription_id].name if entry.subscription_id in rows else entry.subscription_id,
            instant_of(entry, rows.get(entry.subscription_id), ctx),
        )
        for entry in ctx.snapshot.scheduled
    ]


def _overdue(ctx: Context) -> Objection | None:
    late = [
        f"{name}: scheduled for {at:%Y-%m-%d %H:%M} UTC ({entry.id})"
        for entry, name, at in _told(ctx)
        if entry.status is ScheduledStatus.PENDING and at is not None and at + PATIENCE < ctx.now
    ]
    broken = [
        f"{name}: merge failed ({entry.id})"
        for entry, name, _ in _told(ctx)
        if entry.status is ScheduledStatus.MERGE_FAILED
    ]
    if not late and not broken:
        return None
    return hold("scheduled changes that Work 365 has not carried out: " + "; ".join([*late, *broken]))


def _ahead(ctx: Context) -> Objection | None:
    coming = [
        (at, f"{name}: {entry.event.value if entry.event else 'change'}, {at:%Y-%m-%d %H:%M} UTC")
        for entry, name, at in _told(ctx)
        if entry.status is ScheduledStatus.PENDING and at is not None and at + PATIENCE >= ctx.now
    ]
    coming += [
        (at, f"{child.name}: Deactivate On, {at:%Y-%m-%d %H:%M} UTC")
        for child in ctx.snapshot.children
        if child.active and child.deactivate_on is not None
        for at in [ctx.env.calendar.scheduled_for(child.deactivate_on, -1)]
    ]
    if not coming:
        return None
    coming.sort()
    return wait("scheduled: " + "; ".join(text for _, text in coming), coming[0][0])


RULES = (
    Rule(
        "LS-065",
        "A scheduled change that is overdue or failed to merge is reported, never carried out in Work 365's place.",
        Scope.FAMILY,
        Stage.POST_OPERATION,
        10,
        "work365 facts §1.7, audit check A13 (error E15)",
        columns=("status", "effective_date"),
        severity=Severity.WARNING,
        remedy="look at the job of the scheduled change in Work 365; re-create the change if its merge failed",
        function=_overdue,
    ),
    Rule(
        "LS-066",
        "Scheduled changes and Deactivate On are shown with the instant at which they will take place.",
        Scope.FAMILY,
        Stage.POST_OPERATION,
        11,
        "work365 facts §1.7, §5.1; seed License Subscription (Deactivate On)",
        columns=("deactivate_on", "effective_date"),
        severity=Severity.INFO,
        function=_ahead,
    ),
)
