"""Drift: what parent and children have does not add up, and what ends that without harm to what is right."""

from __future__ import annotations

from connector.domain.decision import Hold, Objection
from connector.domain.model import LicenseChangeLog, ProviderSubscription
from connector.domain.rules.links import OTHER_SKU, of_another_sku
from connector.domain.rules.registry import Context, Rule, Scope, Stage, hold
from connector.domain.seats import SeatAccount, is_linked_child, settled_seats


def _unexplained_lead(ctx: Context) -> Objection | None:
    books = ctx.books
    assert books is not None
    if books.lead_is_explained:
        return None
    return _wrong_link(ctx, books) or hold(
        f"CRM drift of {books.drift:+d}: the parent has {books.parent_settled} settled seats, its children"
        f" {books.children_settled}"
        + (f", and {books.lead - books.drift:+d} are explained" if books.lead != books.drift else ""),
        _repair_of_lead(ctx, books),
        parent_settled=books.parent_settled,
        children_settled=books.children_settled,
        drift=books.drift,
    )


def _wrong_link(ctx: Context, books: SeatAccount) -> Objection | None:
    """A link to a parent of another SKU, if the books come out without it: that is what is wrong, and no number is."""
    parent, strangers = ctx.parent, of_another_sku(ctx.snapshot)
    settled = {child.id: settled_seats(ctx.snapshot, child) for child in strangers}
    if not strangers or books.drift + sum(settled.values()):
        return None
    each = ", ".join(
        f"{child.name!r} (part number {child.part_number or 'empty'}, {settled[child.id]} seats)" for child in strangers
    )
    return Hold(
        OTHER_SKU,
        f"linked to {parent.name!r} (part number {parent.part_number or 'empty'}) by mistake, and in the sum of its"
        f" children: {each}",
        {"children": [child.id for child in strangers], "drift": books.drift},
        "link each of them to the parent subscription of its own SKU; change no quantity",
    )


def _repair_of_lead(ctx: Context, books: SeatAccount) -> str:
    """What ends a drift, done literally; each way leaves the provider as it is.

    Where the provider stands as if the parent had never had these seats, the parent is what is wrong.
    """
    drift, view = books.drift, ctx.snapshot.provider
    if isinstance(view, ProviderSubscription):
        without = [quantity - drift for quantity in books.waypoints()]
        if view.quantity in without and view.quantity not in books.waypoints():
            return (
                f"set the parent's quantity to {books.parent_quantity - drift}"
                " and set the log that this makes to Not Applicable"
            )
    way = "raise" if drift > 0 else "lower"
    by_child = f"{way} one child's quantity by {abs(drift)} and set the log that this makes to Not Applicable"
    carried = {log.id for one in books.groups for log in one.changes}
    same = [log for log in _open_child_logs(ctx) if log.quantity == drift and log.id not in carried]
    came = [
        child.name
        for child in ctx.snapshot.children
        if is_linked_child(child, ctx.parent) and settled_seats(ctx.snapshot, child) == -drift > 0
    ]
    if came:
        by_child = (
            f"if {' or '.join(map(repr, came))} was linked here by mistake, link it to its own parent; else {by_child}"
        )
    if same:
        names = ", ".join(sorted(log.id for log in same))
        return f"if the parent's seats are those of an open change (log {names}), set that log to Provisioned; else {by_child}"
    return by_child


def _open_child_logs(ctx: Context) -> list[LicenseChangeLog]:
    children = {child.id for child in ctx.snapshot.children}
    return [log for log in ctx.snapshot.logs if log.is_open and log.subscription_id in children]


def _unexplained_ahead(ctx: Context) -> Objection | None:
    books = ctx.books
    assert books is not None
    if not books.lead_is_explained or books.surplus == 0:
        return None
    right = books.parent_quantity - books.surplus
    carried = [log for one in books.groups for log in one.changes if log.quantity == books.surplus]
    twice = ctx.env.pushes is True and bool(carried)
    said = (
        f"Work 365's own engine raised the parent by {books.surplus:+d} a second time"
        if twice
        else f"somebody changed the parent itself by {books.surplus:+d} (from {right} to {books.parent_quantity} seats)"
        " and no child change explains it"
    )
    hint = (
        ""
        if ctx.env.pushes is not None
        else ("; if Work 365's own engine raises parents, set work365.pushes: yes in the configuration")
    )
    return hold(
        said,
        f"set the parent's quantity back to {right}; what this makes settles with it{hint}",
        parent_settled=books.parent_settled,
        parent_quantity=books.parent_quantity,
        drift=books.surplus,
    )


RULES = (
    Rule(
        "LS-015",
        "What parent and children have settled is equal, or the changes that an earlier pass carried explain the difference.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        4,
        "work365 facts §9.15; design §4 step 1",
        columns=("quantity",),
        remedy="change one child, or the parent, as the report says, and set the log that this makes to Not Applicable",
        looks_twice=True,
        function=_unexplained_lead,
    ),
    Rule(
        "LS-049",
        "A person's direct change of the parent is held and reported with both numbers, never overwritten.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        4,
        "work365 facts §9.49; design §4 step 1",
        columns=("quantity",),
        remedy="set the parent's quantity back to the number that the report says; or set work365.pushes: yes in the"
        " configuration, if Work 365's own engine raises parents",
        looks_twice=True,
        function=_unexplained_ahead,
    ),
)
