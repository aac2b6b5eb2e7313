"""The family's books: what must add up before anything is pushed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from connector.domain.decision import Hold, Objection
from connector.domain.model import (
    ParentLog,
    ProvisioningStatus,
    Unreadable,
    seats_of,
)
from connector.domain.raising import take_back
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


def _less_than_a_seat(ctx: Context) -> Objection | None:
    books = ctx.books
    if books is None or not books.stopped:
        return None
    back = take_back(ctx.snapshot, books, ctx.env.marker_capacity)
    has_room = back.marker.length <= ctx.env.marker_capacity
    if has_room and (back.target >= 1 or back.target == books.parent_settled):
        return None  # a parent that had no seat before the raise has none after its take-back
    stopped = ", ".join(log.id for log in books.stopped)
    settled = ", ".join(log.id for log in books.by_hand)
    because = f", because changes that were carried with it were settled by hand ({settled})" if settled else ""
    return hold(
        f"what was stopped ({stopped}) cannot be taken back: "
        + (
            f"the parent would have {back.target} seats"
            if has_room
            else "the marker has no room for the names of the rest"
        )
        + because,
        f"set log {stopped} to Awaiting Provisioning" + (f", or log {settled}" if settled else ""),
        stopped=[log.id for log in books.stopped],
        by_hand=[log.id for log in books.by_hand],
        target=back.target,
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
        "LS-080",
        "A take-back leaves the parent a seat, unless it had none before, and its marker fits; else the family is held, and what"
        " keeps it from being done is named.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        5,
        "design §4.2; work365 facts §9.18",
        columns=("quantity", "status"),
        remedy="set the stopped log, or those that were settled by hand, to Awaiting Provisioning",
        function=_less_than_a_seat,
        shown_by=("tests/unit/test_take_back.py::test_a_take_back_that_would_leave_no_seat_is_held_and_says_why",),
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
