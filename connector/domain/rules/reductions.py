"""Giving seats back: Work 365's reduction behaviour per subscription, and the provider's window per batch of seats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from connector.domain.calendar import end_of_day
from connector.domain.decision import Objection
from connector.domain.model import LogKind, ProviderSubscription, ReductionBehavior
from connector.domain.rules.registry import ChangeObjection, Context, Rule, Scope, Stage, hold, refuse, wait

_TERM_MONTHS = {"P1M": 1, "P1Y": 12, "P3Y": 36}


def next_renewal(view: ProviderSubscription) -> datetime | None:
    """When the term that ends on the inclusive ``commitment_end`` day is renewed: 00:00 UTC of the next day."""
    if view.commitment_end is None:
        return None
    return datetime.combine(view.commitment_end.astimezone(UTC).date() + timedelta(days=1), datetime.min.time(), UTC)


def _months_before(instant: datetime, months: int) -> datetime:
    index = instant.year * 12 + instant.month - 1 - months
    year, month = divmod(index, 12)
    day = instant.day
    while True:
        try:
            return instant.replace(year=year, month=month + 1, day=day)
        except ValueError:
            day -= 1


def last_renewal(view: ProviderSubscription) -> datetime | None:
    """When the present term began, if the provider says its end and its length."""
    renewal, months = next_renewal(view), _TERM_MONTHS.get(view.term or "")
    return None if renewal is None or months is None else _months_before(renewal, months)


def _earliest(view: ProviderSubscription, ctx: Context) -> str:
    renewal = next_renewal(view)
    if renewal is None:
        return "at the next renewal"
    return f"on {renewal.astimezone(ctx.env.calendar.zone):%Y-%m-%d}, at the renewal"


def _reduction_behavior(ctx: Context) -> Objection | None:
    child, quantity = ctx.row, ctx.log.quantity or 0
    if quantity >= 0 or child.reduction in (None, ReductionBehavior.ALLOWED):
        return None
    if child.reduction is ReductionBehavior.DISALLOWED:
        return refuse("Quantity Reduction Behavior of the subscription is Disallowed")
    days = child.reduction_days
    if days is None:
        return None
    zone = ctx.env.calendar.zone
    anchors = [
        log.provisioned_on
        for log in ctx.snapshot.logs_of(child.id)
        if log.kind is LogKind.CREATE and log.provisioned_on is not None
    ]
    if isinstance(ctx.snapshot.provider, ProviderSubscription):
        renewed = last_renewal(ctx.snapshot.provider)
        if renewed is not None:
            anchors.append(renewed)
    if not anchors:
        return None
    ends = [end_of_day(anchor.astimezone(zone).date() + timedelta(days=days), zone) for anchor in anchors]
    if any(anchor <= ctx.now <= end for anchor, end in zip(anchors, ends, strict=True)):
        return None
    view = ctx.snapshot.provider
    earliest = f"; earliest {_earliest(view, ctx)}" if isinstance(view, ProviderSubscription) else ""
    return refuse(
        f"the reduction window of {days} days ended on {max(ends).astimezone(zone):%Y-%m-%d %H:%M} {zone.key}{earliest}",
        window_days=days,
        window_ended=max(ends).isoformat(),
    )


def _provider_window(ctx: Context) -> ChangeObjection | None:
    view = ctx.snapshot.provider
    if not isinstance(view, ProviderSubscription) or ctx.delta >= 0 or view.reducible is None:
        return None
    open_now = sum(batch.quantity for batch in view.reducible if batch.until is None or batch.until > ctx.now)
    if -ctx.delta <= open_now:
        return None
    closed = [batch.until for batch in view.reducible if batch.until is not None and batch.until <= ctx.now]
    reason = (
        f"the provider takes back {open_now} seats now, {-ctx.delta} are asked for"
        + (f" (the window of others closed at {max(closed):%Y-%m-%d %H:%M} UTC)" if closed else "")
        + f"; earliest {_earliest(view, ctx)}"
    )
    evidence: dict[str, Any] = {"reducible_now": open_now, "asked": -ctx.delta}
    if ctx.policy.refused_decrease == "schedule":
        # How it is promised follows from all of them together: see decide.py.
        return ChangeObjection(wait(f"{reason}; scheduled for the renewal", next_renewal(view), **evidence), sign=-1)
    if ctx.policy.refused_decrease == "wait":
        return ChangeObjection(wait(reason, next_renewal(view), **evidence), sign=-1)
    return ChangeObjection(refuse(reason, **evidence), sign=-1)


def _short_of(ctx: Context, view: ProviderSubscription) -> bool:
    """Whether the provider takes back fewer seats now than are asked for; False if it did not say."""
    if ctx.delta >= 0 or view.reducible is None:
        return False
    return -ctx.delta > sum(batch.quantity for batch in view.reducible if batch.until is None or batch.until > ctx.now)


def _nothing_to_schedule_on(ctx: Context) -> ChangeObjection | None:
    view = ctx.snapshot.provider
    if ctx.policy.refused_decrease != "schedule" or not isinstance(view, ProviderSubscription):
        return None
    if not _short_of(ctx, view):
        return None
    capable = ctx.env.capabilities is not None and ctx.env.capabilities.schedules
    if capable and view.auto_renew is True and view.status == "active" and ctx.goal >= 1:
        return None
    why = "its auto-renew is off" if view.auto_renew is not True else f"it is {view.status}"
    if not capable:
        why = "its provider cannot schedule changes"
    return ChangeObjection(
        refuse(
            f"the decrease cannot go now and cannot be scheduled for the renewal: {why}", auto_renew=view.auto_renew
        ),
        sign=-1,
    )


def _held_by_policy(ctx: Context) -> ChangeObjection | None:
    if ctx.policy.decreases == "hold" and ctx.delta < 0:
        return ChangeObjection(
            hold(f"policy.decreases is hold: the provider would lose {-ctx.delta} seats", asked=-ctx.delta), sign=-1
        )
    return None


RULES = (
    Rule(
        "LS-016",
        "A decrease keeps to the child's Quantity Reduction Behavior and Window; an increase never meets them.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        20,
        "work365 facts §9.16, §2.2",
        columns=("reduction_behavior", "reduction_window"),
        remedy="wait for the renewal, or change the subscription's reduction settings; then set the log to Awaiting",
        function=_reduction_behavior,
    ),
    Rule(
        "LS-044",
        "A change for the renewal needs an active subscription whose auto-renew is on.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        29,
        "work365 facts §9.44; Partner Center facts §6.6",
        columns=("quantity",),
        remedy="turn auto-renew on in Partner Center, then set the log to Awaiting Provisioning",
        function=_nothing_to_schedule_on,
    ),
    Rule(
        "LS-060",
        "Seats are given back at the provider only if the policy allows decreases.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        30,
        "design §8",
        columns=("quantity",),
        remedy="set policy.decreases: allow",
        still_tells=True,
        function=_held_by_policy,
    ),
    Rule(
        "LS-017",
        "A net decrease that the provider's seven-day batches do not allow at this very instant (UTC) is refused beforehand.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        31,
        "work365 facts §9.17, §9.45; Partner Center facts §6.1",
        columns=("quantity",),
        remedy="repeat the decrease at the renewal, or move the seats to another location",
        still_tells=True,
        function=_provider_window,
    ),
)
