"""The family's books: what must add up before anything is pushed."""

from __future__ import annotations

from collections import Counter

from connector.domain.decision import Hold, Objection
from connector.domain.model import LicenseChangeLog, ProvisioningStatus, Unreadable
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
from connector.domain.seats import set_aside_by_person


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
    set_aside = set_aside_by_person(ctx.snapshot)
    if set_aside:
        log = set_aside[-1]
        return Hold(
            "",
            f"the parent's log {log.id} was set to Not Applicable by a person while child changes hang on it",
            {"parent_log": log.id},
            blocked_by=log.id,
        )
    return None


def _parent_failed(ctx: Context) -> Objection | None:
    assert ctx.books is not None
    failed = [log for log in ctx.books.parent_open if log.status is ProvisioningStatus.FAILED]
    if failed:
        return Hold(
            "",
            f"parent LCL {failed[0].id} failed: {failed[0].message or 'no message'}",
            {"parent_log": failed[0].id, "message": failed[0].message},
            blocked_by=failed[0].id,
        )
    return None


def _parent_log_missing(ctx: Context) -> Objection | None:
    assert ctx.books is not None
    if ctx.books.log_is_missing:
        return wait("the parent's quantity was raised, and the CRM has not made the parent's licence change log yet")
    return None


def _numbers(logs: tuple[LicenseChangeLog, ...]) -> int:
    return sum(log.quantity or 0 for log in logs)


def _unexplained_lead(ctx: Context) -> Objection | None:
    books = ctx.books
    assert books is not None
    if books.told_late is not None:
        return None
    return hold(
        f"CRM drift of {books.lead:+d}: the parent has {books.parent_settled} settled seats, its children"
        f" {books.children_settled}",
        parent_settled=books.parent_settled,
        children_settled=books.children_settled,
        drift=books.lead,
    )


def _unexplained_ahead(ctx: Context) -> Objection | None:
    books = ctx.books
    assert books is not None
    if books.told_late is None or books.carried is not None:
        return None
    return hold(
        f"somebody changed the parent itself by {books.ahead:+d} (from {books.parent_settled} to"
        f" {books.parent_quantity} seats) and no child change explains it",
        parent_settled=books.parent_settled,
        parent_quantity=books.parent_quantity,
        drift=books.ahead,
    )


def _last_child(ctx: Context) -> ChangeObjection | None:
    if ctx.goal > 0 or (ctx.delta >= 0 and _numbers(ctx.accepted) >= 0):
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
        remedy="set the parent's log back to Awaiting Provisioning, or settle the children's logs by hand",
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
        remedy="nothing to do: the next run looks again; if it lasts, check that Work 365's plug-ins run",
        function=_parent_log_missing,
        shown_by=("tests/unit/test_decide.py::test_a_raised_parent_whose_log_the_crm_has_not_made_yet_is_waited_for",),
    ),
    Rule(
        "LS-015",
        "What parent and children have settled is equal, or earlier passes explain the difference.",
        Scope.FAMILY,
        Stage.PRE_OPERATION,
        4,
        "work365 facts §9.15; design §4 step 1",
        columns=("quantity",),
        remedy="either put the difference on a child (with its log Not Applicable), or correct the parent's quantity back",
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
        remedy="either set the parent's quantity back, or make the same change on a child and the parent's log Not Applicable",
        function=_unexplained_ahead,
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
        function=_last_child,
    ),
)
