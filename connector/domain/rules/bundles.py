"""Add-ons and bundles: an add-on hangs on its real base, comes after it, goes before it, and keeps to its limits.

The base of a family is the *bundle parent* of its linked parent: three meanings of "parent", never mixed. Which limits a
SKU has is data of the policy (``products``), because the sources give them per SKU and Microsoft changes them.
"""

from __future__ import annotations

from connector.domain.decision import Objection, Wait
from connector.domain.model import ProviderSubscription
from connector.domain.policy import ProductRule
from connector.domain.rules.registry import ChangeObjection, Context, Rule, Scope, Stage, refuse
from connector.domain.seats import counted_quantity

_COUNTED = frozenset({"active", "suspended", "pending"})
"""States in which seats exist at the provider."""


def _base(ctx: Context) -> Objection | None:
    parent = ctx.snapshot.parent
    if parent is None or parent.bundle_parent is None:
        return None
    base = next((row for row in ctx.snapshot.bases if row.id == parent.bundle_parent), None)
    if base is None:
        return refuse(
            f"the add-on {parent.name!r} hangs on a subscription that does not exist or may not be read",
            bundle_parent=parent.bundle_parent,
        )
    if base.provider == "do_nothing":
        return refuse(
            f"the add-on {parent.name!r} hangs on {base.name!r}, a virtual bundle that nothing provisions;"
            " it has to hang on the real base subscription",
            bundle_parent=base.id,
        )
    if not base.active:
        return refuse(f"the base {base.name!r} of the add-on {parent.name!r} is not active", bundle_parent=base.id)
    return None


def _addon_first(ctx: Context) -> ChangeObjection | None:
    books, addon = ctx.books, ctx.env.addon_first
    # What was raised or lowered before was in order then: it is finished.
    if addon is None or books is None or ctx.goal >= min(books.parent_settled, books.parent_quantity):
        return None
    return ChangeObjection(Wait("", f"the add-on {addon!r} gives seats back first"), sign=-1)


def _base_first(ctx: Context) -> ChangeObjection | None:
    parent, books = ctx.snapshot.parent, ctx.books
    if parent is None or parent.bundle_parent is None or books is None or ctx.goal <= books.parent_settled:
        return None
    waiting = [log for log in ctx.snapshot.base_logs if log.is_open and (log.quantity or 0) > 0]
    if not waiting:
        return None
    names = {row.id: row.name for row in ctx.snapshot.bases}
    blocker = waiting[0]
    return ChangeObjection(
        Wait(
            "",
            f"the base {names.get(blocker.subscription_id, blocker.subscription_id)!r} is not provisioned yet",
            {"base_log": blocker.id},
            blocked_by=blocker.id,
        ),
        sign=1,
    )


def _product(ctx: Context) -> ProductRule | None:
    part_number = (ctx.parent.part_number or "").casefold()
    return next((rule for key, rule in ctx.policy.products.items() if key.casefold() == part_number), None)


def _seats_at_customer(ctx: Context, part_numbers: frozenset[str]) -> int:
    """Seats of these products over all subscriptions of the customer, this family's own left out."""
    own = ctx.snapshot.provider.id if isinstance(ctx.snapshot.provider, ProviderSubscription) else None
    return sum(
        view.quantity
        for view in ctx.snapshot.at_customer
        if view.id != own and view.status in _COUNTED and (view.part_number or "").casefold() in part_numbers
    )


def _share_of_base(ctx: Context) -> ChangeObjection | None:
    product = _product(ctx)
    if product is None or not product.prerequisites or not isinstance(ctx.snapshot.provider, ProviderSubscription):
        return None
    base = _seats_at_customer(ctx, frozenset(part.casefold() for part in product.prerequisites))
    most, least = product.max_percent_of_prerequisites, product.min_percent_of_prerequisites
    if most is not None and ctx.delta > 0 and ctx.goal * 100 > base * most:
        return ChangeObjection(
            refuse(
                f"{ctx.goal} seats of this add-on are more than {most} % of the customer's {base} base seats",
                goal=ctx.goal,
                base_seats=base,
            ),
            sign=1,
        )
    if least is not None and ctx.delta < 0 and ctx.goal * 100 < base * least:
        return ChangeObjection(
            refuse(
                f"{ctx.goal} seats of this add-on are less than {least} % of the customer's {base} base seats",
                goal=ctx.goal,
                base_seats=base,
            ),
            sign=-1,
        )
    return None


def _pooled_maximum(ctx: Context) -> ChangeObjection | None:
    product = _product(ctx)
    if product is None or product.max_seats_per_customer is None or ctx.delta <= 0:
        return None
    others = _seats_at_customer(ctx, frozenset({(ctx.parent.part_number or "").casefold()}))
    left = product.max_seats_per_customer - others
    if ctx.goal <= left:
        return None
    return ChangeObjection(
        refuse(
            f"the customer may have {product.max_seats_per_customer} seats of this SKU, {others} stand in other"
            f" subscriptions, so that {max(0, left)} are left and not {ctx.goal}",
            goal=ctx.goal,
            elsewhere=others,
            maximum=product.max_seats_per_customer,
        ),
        sign=1,
    )


def _bundle_ratio(ctx: Context) -> ChangeObjection | None:
    product = _product(ctx)
    if product is None or product.seats_per_base_seat is None or not ctx.snapshot.bases:
        return None
    base = ctx.snapshot.bases[0]
    if base.quantity is None or ctx.books is None or ctx.goal <= ctx.books.parent_settled:
        return None
    most = counted_quantity(base) * product.seats_per_base_seat
    if ctx.goal <= most:
        return None
    return ChangeObjection(
        refuse(
            f"the bundle allows {product.seats_per_base_seat} per seat of {base.name!r}: {most}, and not {ctx.goal}",
            goal=ctx.goal,
            base_seats=base.quantity,
        ),
        sign=1,
    )


RULES = (
    Rule(
        "LS-020",
        "An add-on hangs on a real, active base subscription, never on a virtual bundle.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        15,
        "work365 facts §9.20 (error E13); seed Provisioning Add-Ons",
        columns=("bundle_parent", "provider", "state"),
        remedy="set Parent Subscription of the add-on to its real base, then set the log to Awaiting Provisioning",
        function=_base,
    ),
    Rule(
        "LS-029",
        "Base increases go before add-on increases.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        15,
        "work365 facts §9.20, §9.29 (error E5)",
        columns=("quantity", "status"),
        remedy="nothing to do: it goes once its base is provisioned",
        function=_base_first,
    ),
    Rule(
        "LS-081",
        "Add-on decreases go before base decreases. What cannot go now is promised, waits or is refused before this is asked.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        40,
        "work365 facts §9.20, §9.29 (error E5)",
        columns=("quantity", "status"),
        remedy="nothing to do: it goes once its add-on has given its seats back",
        function=_addon_first,
    ),
    Rule(
        "LS-021",
        "An add-on keeps to its share of the customer's base seats (Copilot at most, Multi-Geo at least), as policy.products"
        " says for its part number.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        25,
        "work365 facts §9.21; Partner Center facts §6.10",
        columns=("quantity",),
        remedy="change the base first, or correct policy.products if the limit is another one",
        function=_share_of_base,
    ),
    Rule(
        "PC-011",
        "A SKU's maximum in policy.products is pooled over all the customer's subscriptions with this partner.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        26,
        "Partner Center facts §6.11",
        columns=("quantity",),
        remedy="free seats in the customer's other subscriptions, or choose another SKU",
        function=_pooled_maximum,
    ),
    Rule(
        "LS-064",
        "A bundle's ratio bounds its add-ons: so many seats per seat of the base.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        27,
        "work365 facts §4 (bundle ratio)",
        columns=("quantity",),
        remedy="raise the base first, or correct policy.products",
        function=_bundle_ratio,
    ),
)
