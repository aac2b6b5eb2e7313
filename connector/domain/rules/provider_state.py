"""What the provider's own subscription allows now: drift, trial, life-cycle state."""

from __future__ import annotations

from connector.domain.model import ProviderSubscription
from connector.domain.rules.registry import ChangeObjection, Context, Rule, Scope, Stage, hold, refuse


def _provider_drift(ctx: Context) -> ChangeObjection | None:
    view, books = ctx.snapshot.provider, ctx.books
    if not isinstance(view, ProviderSubscription) or books is None or ctx.policy.provider_drift == "push":
        return None
    if view.quantity == ctx.goal or view.quantity in books.waypoints() or view.quantity in ctx.env.own_targets:
        return None
    return ChangeObjection(
        hold(
            f"provider drift: the provider has {view.quantity} seats, the CRM settled {books.parent_settled}"
            f" (and wants {ctx.goal})",
            provider_quantity=view.quantity,
            parent_settled=books.parent_settled,
            goal=ctx.goal,
        )
    )


def _trial(ctx: Context) -> ChangeObjection | None:
    view = ctx.snapshot.provider
    if isinstance(view, ProviderSubscription) and view.is_trial and ctx.delta != 0:
        return ChangeObjection(
            refuse(
                f"the parent is a trial at the provider: its {view.quantity} seats cannot be changed",
                provider_quantity=view.quantity,
            ),
            sign=1 if ctx.delta > 0 else -1,
        )
    return None


def _not_active(ctx: Context) -> ChangeObjection | None:
    view = ctx.snapshot.provider
    if not isinstance(view, ProviderSubscription) or ctx.delta == 0 or view.status == "active":
        return None
    remedy = {
        "suspended": "reactivate the subscription in Partner Center (and turn auto-renew on again); the change goes by itself",
        "pending": "wait until the provider has made the subscription active",
    }.get(view.status, "the subscription does not come back: buy a new one and link the children to it")
    return ChangeObjection(
        hold(f"the subscription is {view.status} at the provider", remedy, provider_status=view.status)
    )


RULES = (
    Rule(
        "LS-062",
        "A provider quantity that nothing explains is held and reported; pushing over it is a policy.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        10,
        "work365 facts §9.49; design §4 step 6",
        columns=("quantity",),
        remedy="put the difference on a child, or set the quantity back in Partner Center;"
        " or set policy.provider_drift: push for a run that overwrites it",
        function=_provider_drift,
    ),
    Rule(
        "LS-019",
        "A subscription that is suspended, expired or deleted at the provider is not changed.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        11,
        "work365 facts §9.19; Partner Center facts §6.7",
        columns=("quantity",),
        remedy="bring it back to active in Partner Center, or link the children to another subscription",
        function=_not_active,
    ),
    Rule(
        "PC-009",
        "A trial keeps its 25 seats: quantity and status are locked.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        12,
        "Partner Center facts §6.9; seed Manage customer subscriptions",
        columns=("quantity",),
        remedy="convert the trial to a paid subscription first, then set the log to Awaiting Provisioning",
        function=_trial,
    ),
)
