"""Whose turn it is: what is not ours at all, what is not due, and what stands behind an earlier change."""

from __future__ import annotations

from connector.domain.decision import Hold, Objection, Wait
from connector.domain.model import ProvisioningStatus
from connector.domain.rules.registry import Context, Message, Rule, Scope, Severity, Stage, skip
from connector.domain.seats import LINKED, moves_seats


def _do_nothing(ctx: Context) -> Objection | None:
    if ctx.row.provider == "do_nothing":
        return skip("the subscription is on the Do Nothing provider; Work 365 sets its log to Not Applicable")
    return None


def _not_linked(ctx: Context) -> Objection | None:
    if ctx.row.provider != LINKED:
        return skip(f"the subscription's provider is {ctx.row.provider or 'not set'}, not Linked Subscription")
    return None


def _price_only(ctx: Context) -> Objection | None:
    if not moves_seats(ctx.log):
        return skip("a price-only change moves no seats and is never pushed")
    return None


def _not_due(ctx: Context) -> Objection | None:
    instant = ctx.env.calendar.scheduled_instant(ctx.log)
    if instant is not None and instant > ctx.now:
        local = instant.astimezone(ctx.env.calendar.zone)
        return Wait(
            "",
            f"scheduled for {local:%Y-%m-%d %H:%M} {ctx.env.calendar.zone.key}",
            {"scheduled_for": instant.isoformat()},
            until=instant,
        )
    return None


def _behind_earlier(ctx: Context) -> Objection | None:
    earlier = ctx.left_behind
    if earlier is None:
        return None
    if earlier.status is ProvisioningStatus.FAILED:
        return Hold(
            "",
            f"an earlier change of this subscription failed: {earlier.message or 'no message'}",
            {"earlier": earlier.id},
            f"mend the cause, then set log {earlier.id} to Awaiting Provisioning, and the later failed ones after it",
            blocked_by=earlier.id,
        )
    return Wait(
        "",
        "an earlier change of this subscription has not gone yet",
        {"earlier": earlier.id},
        blocked_by=earlier.id,
    )


RULES = (
    Rule(
        "LS-003",
        "A subscription on the Do Nothing provider is left alone; Work 365 itself sets its logs to Not Applicable.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        1,
        "work365 facts §9.3",
        columns=("provider",),
        severity=Severity.INFO,
        function=_do_nothing,
    ),
    Rule(
        "LS-002",
        "A change of a subscription whose provider is not Linked Subscription is not ours to push.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        2,
        "work365 facts §9.2",
        columns=("provider",),
        severity=Severity.INFO,
        function=_not_linked,
    ),
    Rule(
        "LS-008",
        "A price-only (audit) change, or one of zero seats, is never pushed and blocks nothing.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        3,
        "work365 facts §9.8",
        columns=("quantity", "kind"),
        severity=Severity.INFO,
        function=_price_only,
    ),
    Rule(
        "LS-009",
        "A change whose effective instant lies in the future waits until then and is no failure.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        5,
        "work365 facts §9.9, §9.41; seed Subscription Management",
        columns=("effective_date", "provision_on"),
        severity=Severity.INFO,
        function=_not_due,
    ),
    Rule(
        "LS-004",
        "A change stays behind an earlier Awaiting or Failed change of the same subscription.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        6,
        "work365 facts §9.4 (error E1)",
        message=Message.CREATE,
        columns=("status",),
        severity=Severity.WARNING,
        remedy="settle the earliest open change of this subscription first",
        function=_behind_earlier,
    ),
)
