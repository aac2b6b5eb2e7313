"""Rounds: the world after a perfect application of a decision, and the plan that follows from playing it on.

A dry run and a real run go through the same decisions. The real one reads the world again after each write; the plan
uses ``simulate`` in its place, so that a plan shows all that a run would do and "planning after a perfect run" is empty.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from connector.domain.decide import decide
from connector.domain.marker import Marker
from connector.domain.model import (
    LicenseChangeLog,
    LogId,
    LogKind,
    ParentLog,
    Price,
    ProviderSubscription,
    ProvisioningStatus,
    ReducibleBatch,
    Snapshot,
)
from connector.domain.plan import (
    Acknowledge,
    Action,
    FailLogs,
    FamilyDecision,
    FamilyPlan,
    MakeParentLog,
    ScheduleAtRenewal,
    SetParentQuantity,
    SetProviderQuantity,
)
from connector.domain.rules.registry import Environment, RuleBook

MAX_ROUNDS = 64


def plan_family(snapshot: Snapshot, env: Environment, rules: RuleBook) -> FamilyPlan:
    """Decide and simulate until nothing is left to do."""
    return play_family(snapshot, env, rules)[0]


def play_family(snapshot: Snapshot, env: Environment, rules: RuleBook) -> tuple[FamilyPlan, Snapshot]:
    """The plan of a family, and the world after it: what families that depend on it will meet."""
    rounds: list[FamilyDecision] = []
    world = snapshot
    while len(rounds) < MAX_ROUNDS:
        decision = decide(world, env, rules)
        if rounds and not decision.actions:
            if decision.stop is not None or decision.needs_attention:
                rounds.append(decision)
            break
        rounds.append(decision)
        if not decision.actions:
            break
        world = simulate(world, decision, env)
    subject = snapshot.subject
    view = snapshot.provider
    plan = FamilyPlan(
        family=subject.id,
        name=subject.name,
        customer=subject.customer_id,
        rounds=tuple(rounds),
        price=_price(snapshot),
        provider_quantity=view.quantity if isinstance(view, ProviderSubscription) else None,
        log_names={log.id: _name(snapshot, log) for log in snapshot.logs if log.is_open},
        log_owners={log.id: log.subscription_id for log in snapshot.logs if log.is_open},
    )
    return plan, world


def _name(snapshot: Snapshot, log: LicenseChangeLog) -> str:
    rows = [*((snapshot.parent,) if snapshot.parent else ()), *snapshot.children]
    owner = next((row.name for row in rows if row.id == log.subscription_id), log.subscription_id)
    return f"{owner} {log.quantity:+d}" if log.quantity is not None else owner


def _price(snapshot: Snapshot) -> Price | None:
    """What one seat costs: the parent's cost price, else the one cost price that all its children share."""
    if snapshot.parent is not None and snapshot.parent.cost is not None:
        return snapshot.parent.cost
    prices = {child.cost for child in snapshot.children}
    return next(iter(prices)) if len(prices) == 1 else None


def simulate(snapshot: Snapshot, decision: FamilyDecision, env: Environment) -> Snapshot:
    """The snapshot after every action of the decision succeeded, as the CRM and the provider would report it."""
    for action in decision.actions:
        snapshot = _apply(snapshot, action, env)
    return snapshot


def _apply(snapshot: Snapshot, action: Action, env: Environment) -> Snapshot:
    match action:
        case FailLogs(logs, message):
            return _set_status(snapshot, {log.id for log in logs}, ProvisioningStatus.FAILED, message)
        case SetParentQuantity(target=target, marker=marker):
            return _raise_parent(snapshot, target, marker, env)
        case MakeParentLog(quantity=quantity):
            return _with_parent_log(snapshot, quantity, ProvisioningStatus.AWAITING, env)
        case SetProviderQuantity(target=target):
            return replace(snapshot, provider=_provider_at(snapshot, target, env))
        case ScheduleAtRenewal(target=target):
            view = snapshot.provider
            assert isinstance(view, ProviderSubscription)
            return replace(snapshot, provider=replace(view, has_scheduled_change=True, scheduled_quantity=target))
        case Acknowledge(parent_logs, child_logs, marker, new_parent_log):
            done = {log.id for log in (*parent_logs, *child_logs)}
            if new_parent_log and snapshot.parent is not None:
                done |= {log.id for log in snapshot.logs_of(snapshot.parent.id) if log.is_awaiting}
            if snapshot.parent is not None:
                snapshot = replace(snapshot, parent=replace(snapshot.parent, marker_text=str(marker)))
            return _set_status(snapshot, done, ProvisioningStatus.PROVISIONED, None)


def _set_status(snapshot: Snapshot, ids: set[LogId], status: ProvisioningStatus, message: str | None) -> Snapshot:
    return replace(
        snapshot,
        logs=tuple(
            replace(log, status=status, message=message or log.message) if log.id in ids else log
            for log in snapshot.logs
        ),
    )


def _raise_parent(snapshot: Snapshot, target: int, marker: Marker, env: Environment) -> Snapshot:
    parent = snapshot.parent
    assert parent is not None and parent.quantity is not None
    raised = replace(snapshot, parent=replace(parent, quantity=target, marker_text=str(marker)))
    by_us = env.policy.parent_log == "create"
    if target == parent.quantity or (env.parent_log is ParentLog.NONE and not by_us):
        return raised
    aside = env.parent_log is ParentLog.NOT_APPLICABLE
    status = ProvisioningStatus.NOT_APPLICABLE if aside else ProvisioningStatus.AWAITING
    return _with_parent_log(raised, target - parent.quantity, status, env)


def _with_parent_log(snapshot: Snapshot, quantity: int, status: ProvisioningStatus, env: Environment) -> Snapshot:
    parent = snapshot.parent
    assert parent is not None
    made = [log for log in snapshot.logs_of(parent.id) if log.id.startswith("simulated-")]
    log = LicenseChangeLog(
        id=LogId(f"simulated-{parent.id}-{len(made) + 1}"),
        subscription_id=parent.id,
        quantity=quantity,
        status=status,
        created_on=max([env.now, *(log.created_on for log in snapshot.logs)]) + timedelta(microseconds=1),
        etag="",
        kind=LogKind.UPDATE,
        customer_id=parent.customer_id,
    )
    return replace(snapshot, logs=(*snapshot.logs, log))


def _provider_at(snapshot: Snapshot, target: int, env: Environment) -> ProviderSubscription:
    """The provider after a change: more seats come with a new batch of seven days, fewer leave the newest batches."""
    view = snapshot.provider
    assert isinstance(view, ProviderSubscription)
    batches = view.reducible
    if batches is not None:
        delta = target - view.quantity
        if delta > 0:
            batches = (*batches, ReducibleBatch(delta, env.now + timedelta(days=7)))
        else:
            batches = _taken_from(batches, -delta)
    # A change of seats deletes what is scheduled; the unit of work writes it back, moved by as many seats.
    scheduled = view.scheduled_quantity
    kept = None if scheduled is None else max(1, scheduled + target - view.quantity)
    return replace(view, quantity=target, reducible=batches, scheduled_quantity=kept)


def _taken_from(batches: tuple[ReducibleBatch, ...], seats: int) -> tuple[ReducibleBatch, ...]:
    left: list[ReducibleBatch] = []
    for batch in reversed(batches):
        taken = min(seats, batch.quantity)
        seats -= taken
        if batch.quantity > taken:
            left.append(replace(batch, quantity=batch.quantity - taken))
    return tuple(reversed(left))
