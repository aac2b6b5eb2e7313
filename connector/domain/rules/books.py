"""The family's books: what must add up before anything is pushed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from connector.domain.decision import Hold, Objection
from connector.domain.model import (
    LicenseChangeLog,
    ParentLog,
    ProviderSubscription,
    ProvisioningStatus,
    Subscription,
    Unreadable,
    seats_of,
)
from connector.domain.rules.links import OTHER_SKU, of_another_sku
from connector.domain.rules.registry import (
    ChangeObjection,
    Context,
    Rule,
    Scope,
    Severity,
    Stage,
    hold,
    wait,
)
from connector.domain.seats import SeatAccount, counted_quantity, is_linked_child, pending


def _incomplete(ctx: Context) -> Objection | None:
    if ctx.snapshot.incomplete:
        return hold(f"the family could not be read whole: {ctx.snapshot.incomplete}", retryable=True)
    return None


def _senseless_rows(ctx: Context) -> Objection | None:
    snapshot = ctx.snapshot
    parent = snapshot.parent
    # A subscription that is linked to itself is parent and child at once: one row, which LS-012 refuses.
    rows = [
        *((parent,) if parent else ()),
        *(row for row in snapshot.children if parent is None or row.id != parent.id),
    ]
    reasons = [f"subscription {row.name!r} ({row.id}): {problem}" for row in rows for problem in row.problems]
    reasons += [f"subscription {row.name!r} ({row.id}): quantity is empty" for row in rows if row.quantity is None]
    reasons += [
        f"subscription {row.name!r} ({row.id}): quantity is {row.quantity}"
        for row in rows
        if row.quantity is not None and row.quantity < 0
    ]
    reasons += [f"licence change log {log.id}: {problem}" for log in snapshot.logs for problem in log.problems]
    reasons += [f"licence change log {log.id}: quantity is empty" for log in snapshot.logs if log.quantity is None]
    reasons += [
        f"licence change log {log.id}: provisioning status is not known" for log in snapshot.logs if log.status is None
    ]
    counted = Counter([*(row.id for row in rows), *(log.id for log in snapshot.logs)])
    reasons += [f"row {key} was read {count} times" for key, count in counted.items() if count > 1]
    if reasons:
        return hold("rows of this family make no sense: " + "; ".join(sorted(reasons)), rows=sorted(reasons))
    return None


def _unreadable_provider(ctx: Context) -> Objection | None:
    view = ctx.snapshot.provider
    if isinstance(view, Unreadable):
        return hold(f"the provider could not be read: {view.reason}", retryable=view.retryable)
    return None


def _parent_set_aside(ctx: Context) -> Objection | None:
    assert ctx.books is not None
    if not ctx.books.set_aside:
        return None
    log = ctx.books.set_aside[-1]
    return Hold(
        "",
        f"the parent's log {log.id} ({log.quantity:+d}) was set to Not Applicable by a person, and its raise is not settled",
        {"parent_log": log.id},
        f"set log {log.id} of the parent back to Awaiting Provisioning; if Work 365 itself makes such logs Not Applicable,"
        " set work365.parent_log: not_applicable in the configuration",
        blocked_by=log.id,
    )


def _parent_failed(ctx: Context) -> Objection | None:
    assert ctx.books is not None
    failed = [log for log in ctx.books.parent_open if log.status is ProvisioningStatus.FAILED]
    if failed:
        stopped = ", ".join(log.id for log in ctx.books.stopped)
        first = (
            f"resolve the cause, then set first the children's logs ({stopped}) and after them the parent's to Awaiting"
        )
        return Hold(
            "",
            f"parent LCL {failed[0].id} failed: {failed[0].message or 'no message'}",
            {"parent_log": failed[0].id, "message": failed[0].message},
            f"{first} Provisioning; what stays Failed is taken back" if stopped else "",
            blocked_by=failed[0].id,
        )
    return None


def _parent_log_missing(ctx: Context) -> Objection | None:
    books, env = ctx.books, ctx.env
    assert books is not None
    if not books.without_log or not books.lead_is_explained or books.surplus:
        return None
    seats = sum(one.group.delta for one in books.without_log)
    said = f"the parent was raised by {seats:+d}, and the CRM has made no licence change log of it"
    if env.parent_log is ParentLog.NONE:
        if env.policy.parent_log == "create" or not env.is_manual:
            return None
        return hold(
            f"{said}, so nobody can confirm it",
            "set policy.parent_log: create, so that linksub makes the parent's log",
            seats=seats,
        )
    changed = ctx.parent.modified_on
    if changed is not None and ctx.now - changed > LONGEST_FOR_A_LOG:
        return hold(
            f"{said} since {changed:%Y-%m-%d %H:%M} UTC",
            "check that Work 365's plug-ins run; if it makes no log for changes by the API, set work365.parent_log: none"
            " in the configuration",
            seats=seats,
        )
    return wait(f"{said} yet", None if changed is None else changed + LONGEST_FOR_A_LOG, seats=seats)


LONGEST_FOR_A_LOG = timedelta(minutes=10)
"""How long the CRM may take to make a log before a person should look."""


def _unreadable_marker(ctx: Context) -> Objection | None:
    assert ctx.books is not None
    if ctx.books.unreadable is None:
        return None
    return hold(
        f"the marker on the parent's row ({(ctx.parent.marker_text or '')[:40]!r}…) cannot be read: {ctx.books.unreadable}",
        marker=ctx.parent.marker_text,
    )


def _ambiguous(ctx: Context) -> Objection | None:
    books = ctx.books
    assert books is not None
    if not books.ambiguous:
        return None
    carried = "one" if books.doubtful_carried == 1 else str(books.doubtful_carried)
    awaiting = sorted(log.id for log in books.doubtful if log.is_awaiting)
    failed = sorted(log.id for log in books.doubtful if not log.is_awaiting)
    remedy = (
        f"set all of these changes but {carried} to Failed; once the rest is told, set them to Awaiting Provisioning again: "
        if awaiting
        else f"set {carried} of these changes to Awaiting Provisioning; once that is told, the others too: "
    )
    return hold(
        "a log of the parent may carry one of several open changes of its quantity, and nothing says which",
        remedy + ", ".join(awaiting or failed),
        changes=awaiting,
        failed=failed,
    )


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
    settled = {child.id: _settled(ctx, child) for child in strangers}
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


def _settled(ctx: Context, child: Subscription) -> int:
    return counted_quantity(child) - pending(ctx.snapshot.logs_of(child.id))


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
        if is_linked_child(child, ctx.parent) and _settled(ctx, child) == -drift > 0
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


def _paid_not_told(ctx: Context) -> Objection | None:
    books = ctx.books
    if books is None or not books.paid:
        return None
    names = ", ".join(log.id for log in books.paid)
    return hold(
        f"{seats_of(books.paid):+d} seats are confirmed at the provider, and the location's log is Failed ({names})",
        f"set log {names} to Awaiting Provisioning: it is told without another order; or order the opposite change",
        logs=[log.id for log in books.paid],
    )


def _settled_by_hand(ctx: Context) -> Objection | None:
    books = ctx.books
    if books is None or not books.by_hand:
        return None
    names = ", ".join(log.id for log in books.by_hand)
    return wait(
        f"a person settled changes before the provider confirmed them ({names}): they still count, and are ordered",
        logs=[log.id for log in books.by_hand],
    )


def _last_child(ctx: Context) -> ChangeObjection | None:
    if ctx.goal > 0 or (ctx.delta >= 0 and seats_of(ctx.accepted) >= 0):
        return None
    return ChangeObjection(
        hold(
            f"the parent would have {ctx.goal} seats: linksub never suspends or cancels a parent by itself",
            goal=ctx.goal,
        ),
        sign=-1,
    )


RULES = (
    Rule(
        "LS-054",
        "A family that could not be read whole is not decided on; a failed page never reads as fewer seats.",
        Scope.FAMILY,
        Stage.PRE_VALIDATION,
        1,
        "reliability facts, decision 5; design §11",
        severity=Severity.WARNING,
        remedy="nothing to do: the next run reads it again",
        function=_incomplete,
        shown_by=("tests/unit/test_decide.py::test_a_family_that_could_not_be_read_whole_is_not_decided",),
    ),
    Rule(
        "LS-055",
        "Rows that make no sense quarantine their family and leave all others alone.",
        Scope.FAMILY,
        Stage.PRE_VALIDATION,
        2,
        "reliability facts F15; design §11",
        columns=("quantity", "status", "provider", "linked_parent"),
        remedy="correct the rows named in the reason",
        function=_senseless_rows,
    ),
    Rule(
        "LS-035",
        "A parent log that a person set to Not Applicable does not provision its children by itself; it is reported.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        1,
        "work365 facts §9.35",
        columns=("status",),
        remedy="set the log that the report names back to Awaiting Provisioning; or set work365.parent_log: not_applicable"
        " in the configuration, if Work 365 itself makes such logs Not Applicable",
        function=_parent_set_aside,
    ),
    Rule(
        "LS-005",
        "A failed log of the parent blocks every change of every child until a person sets it to Awaiting.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        2,
        "work365 facts §9.5; design §4 step 2",
        columns=("status", "message"),
        remedy="resolve the cause, then set the parent's log to Awaiting Provisioning; the children follow by themselves",
        still_tells=True,
        function=_parent_failed,
    ),
    Rule(
        "LS-058",
        "The provider is only told once the CRM has made the parent's own log.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        3,
        "design §4 steps 5 and 7",
        severity=Severity.WARNING,
        remedy="nothing to do: the next run looks again",
        still_tells=True,
        function=_parent_log_missing,
        shown_by=("tests/unit/test_carried.py::test_a_parent_log_that_comes_late_is_waited_for",),
    ),
    Rule(
        "LS-072",
        "A marker that cannot be read is not guessed: its family is held until a person has looked.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        0,
        "design §4.2",
        columns=("order_reference",),
        remedy="link a child that left the parent back to it; else empty the marker's column on the parent's row, and do"
        " what the next run then says",
        looks_twice=True,
        function=_unreadable_marker,
        shown_by=("tests/unit/test_carried.py::test_a_marker_that_was_altered_holds_its_family",),
    ),
    Rule(
        "LS-070",
        "A log of the parent that may carry several open changes is not given to one of them by chance.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        4,
        "design §4.2 (the CRM's own engine)",
        columns=("quantity",),
        remedy="set all of the changes that the report names but one to Failed; once the rest is told, set them to"
        " Awaiting Provisioning again",
        function=_ambiguous,
        shown_by=("tests/unit/test_carried.py::test_two_open_changes_of_one_quantity_make_a_push_ambiguous",),
    ),
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
    Rule(
        "LS-073",
        "Seats that the provider confirmed for a change that a person failed are told; they stop nobody.",
        Scope.FAMILY,
        Stage.POST_OPERATION,
        5,
        "design §4.2",
        columns=("status",),
        severity=Severity.WARNING,
        remedy="set the location's log to Awaiting Provisioning: it is told without another order; or order the opposite change",
        function=_paid_not_told,
        shown_by=("tests/unit/test_carried.py::test_seats_that_are_paid_for_a_failed_change_are_told_and_stop_nobody",),
    ),
    Rule(
        "LS-074",
        "A carried change that a person settled by hand still counts as carried, and that is told.",
        Scope.FAMILY,
        Stage.POST_OPERATION,
        6,
        "design §4.2",
        columns=("status",),
        severity=Severity.INFO,
        function=_settled_by_hand,
        shown_by=("tests/unit/test_carried.py::test_a_carried_change_that_a_person_settled_still_counts",),
    ),
    Rule(
        "LS-059",
        "A provider that cannot be read is unknown, never empty.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        7,
        "reliability facts, decision 5; design §11",
        severity=Severity.WARNING,
        remedy="nothing to do if it was a passing fault: the next run reads it again",
        function=_unreadable_provider,
    ),
    Rule(
        "LS-018",
        "A parent is never brought to zero seats: the last child's leaving is held for a person.",
        Scope.CHANGE,
        Stage.PRE_OPERATION,
        20,
        "work365 facts §9.18",
        columns=("quantity", "state"),
        remedy="suspend or cancel the parent by hand, or let auto-renew run out; then set the child's log by hand",
        still_tells=True,
        function=_last_child,
    ),
)
