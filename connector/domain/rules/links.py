"""The link itself: a child belongs to a sound, active parent of the same SKU, and to a customer."""

from __future__ import annotations

from connector.domain.decision import Objection
from connector.domain.model import Snapshot, Subscription
from connector.domain.rules.registry import Context, Message, Rule, Scope, Stage, refuse
from connector.domain.seats import LINKED, is_linked_child

OTHER_SKU = "LS-011"


def _no_linked_parent(ctx: Context) -> Objection | None:
    if ctx.row.linked_parent is None:
        return refuse("Linked Subscription is empty: there is no linked parent to push to")
    if ctx.snapshot.parent is None:
        return refuse(
            f"the linked parent {ctx.row.linked_parent} does not exist or may not be read",
            linked_parent=ctx.row.linked_parent,
        )
    return None


def _loop_or_chain(ctx: Context) -> Objection | None:
    parent = ctx.snapshot.parent
    if parent is None:
        return None
    if parent.id == ctx.row.id:
        return refuse("the subscription is linked to itself")
    if parent.linked_parent == ctx.row.id:
        return refuse(f"the subscription and its linked parent {parent.name!r} are linked to each other")
    if parent.provider == LINKED:
        return refuse(
            f"the linked parent {parent.name!r} is itself on the Linked provider: chains are not allowed",
            parent=parent.id,
            parents_parent=parent.linked_parent,
        )
    return None


def _parent_inactive(ctx: Context) -> Objection | None:
    parent = ctx.snapshot.parent
    if parent is not None and not parent.active:
        return refuse(f"the linked parent {parent.name!r} is not active", parent=parent.id)
    return None


def _other_sku(ctx: Context) -> Objection | None:
    parent = ctx.snapshot.parent
    if parent is None:
        return None
    mine, theirs = ctx.row.part_number, parent.part_number
    if not _is_same_sku(ctx.row, parent):
        return refuse(
            f"the provider part number is {mine or 'empty'} here and {theirs or 'empty'} on the linked parent"
            f" {parent.name!r}: a child links to a parent of the same SKU",
            child_part_number=mine,
            parent_part_number=theirs,
        )
    return None


def _is_same_sku(child: Subscription, parent: Subscription) -> bool:
    return (child.part_number or "").casefold().strip() == (parent.part_number or "").casefold().strip()


def of_another_sku(snapshot: Snapshot) -> tuple[Subscription, ...]:
    """Children whose link to the parent is wrong because they are another SKU: their seats are in the family's sum."""
    parent = snapshot.parent
    if parent is None:
        return ()
    return tuple(
        child for child in snapshot.children if is_linked_child(child, parent) and not _is_same_sku(child, parent)
    )


def _no_customer(ctx: Context) -> Objection | None:
    missing = [
        what
        for what, value in (("subscription", ctx.row.customer_id), ("licence change log", ctx.log.customer_id))
        if value is None
    ]
    if missing:
        return refuse(f"no customer is set on the {' and on the '.join(missing)}")
    return None


RULES = (
    Rule(
        "LS-010",
        "A linked child names a linked parent that exists.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        10,
        "work365 facts §9.10",
        message=Message.ASSOCIATE,
        columns=("linked_parent",),
        remedy="set Linked Subscription on the child, then set the log to Awaiting Provisioning",
        function=_no_linked_parent,
    ),
    Rule(
        "LS-012",
        "A link to itself, a loop or a chain of links is refused, and so is a parent that is not active.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        11,
        "work365 facts §9.12",
        message=Message.ASSOCIATE,
        columns=("linked_parent", "provider", "state"),
        remedy="link the child to an active subscription of the parent contract that is not linked itself",
        function=lambda ctx: _loop_or_chain(ctx) or _parent_inactive(ctx),
    ),
    Rule(
        OTHER_SKU,
        "Child and linked parent have the same provider part number.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        12,
        "work365 facts §9.11; seed Linked Subscriptions",
        message=Message.ASSOCIATE,
        columns=("part_number",),
        remedy="link the child to the parent subscription of its own SKU, then set the log to Awaiting Provisioning",
        looks_twice=True,
        function=_other_sku,
    ),
    Rule(
        "LS-014",
        "The child and its log have a customer.",
        Scope.LOG,
        Stage.PRE_VALIDATION,
        13,
        "work365 facts §9.14 (error E2)",
        columns=("customer",),
        remedy="set the customer and the billing contract, then set the log to Awaiting Provisioning",
        function=_no_customer,
    ),
)
