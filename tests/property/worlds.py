"""Families of every sort for the property tests: sound ones, ones on the way after a crash, edited ones, odd ones.

Each builder takes a ``Picker``, so that Hypothesis (which shrinks) and a plain random generator (which is fast, see
``tests/property/sweep.py``) build the same worlds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

from connector.domain.decide import decide
from connector.domain.decision import Decision
from connector.domain.model import (
    LicenseChangeLog,
    LogId,
    LogKind,
    NotAtProvider,
    NotReported,
    ParentLog,
    ProviderAccount,
    ProviderSubscription,
    ProviderSubscriptionId,
    ReducibleBatch,
    ReductionBehavior,
    Snapshot,
    Subscription,
    SubscriptionId,
    TenantId,
    Unreadable,
)
from connector.domain.plan import Action, FamilyDecision
from connector.domain.policy import Policy
from connector.domain.rounds import simulate
from connector.domain.rules.builtin import BUILTIN
from connector.domain.rules.registry import Environment
from connector.domain.seats import counted_quantity, is_linked_child, pending
from tests.families import (
    ACCOUNT,
    AUTOMATIC,
    AWAITING,
    FAILED,
    MANUAL,
    NOT_APPLICABLE,
    NOW,
    PROVISIONED,
    at_provider,
    environment,
    family,
    log,
    parent,
    subscription,
)

T = TypeVar("T")
NAMES = ("atlanta", "new_york", "memphis", "oslo")
POLICIES = tuple(
    Policy(netting=netting, refused_decrease=refused, decreases=decreases, provider_drift=drift)
    for netting in (True, False)
    for refused in ("fail", "wait", "schedule")
    for decreases in ("allow", "hold")
    for drift in ("hold", "push")
)
CAREFUL = tuple(policy for policy in POLICIES if policy.provider_drift == "hold")
OPEN_HANDED = Policy()
STRANGERS = (
    ProviderAccount(
        "stranger-1", "Another customer", "somebody", "csp", TenantId("22222222-2222-4222-8222-222222222222")
    ),
    ProviderAccount(
        "stranger-2", "Another provider", "pinecone", "rest", TenantId("11111111-1111-4111-8111-111111111111")
    ),
)


class Picker(Protocol):
    """Where choices come from. The first option and the lowest number are the simplest."""

    def integer(self, low: int, high: int) -> int: ...

    def shuffled(self, rows: Sequence[T]) -> tuple[T, ...]: ...


class Drawn:
    """Choices of Hypothesis."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def shuffled(self, rows: Sequence[T]) -> tuple[T, ...]:
        return tuple(self.draw(st.permutations(rows)))


class Rolled:
    """Choices of a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return low + int(self.random.random() * (high - low + 1))

    def shuffled(self, rows: Sequence[T]) -> tuple[T, ...]:
        return tuple(self.random.sample(rows, len(rows)))


def choice(pick: Picker, options: Sequence[T]) -> T:
    return options[pick.integer(0, len(options) - 1)]


def chance(pick: Picker, percent: int) -> bool:
    return pick.integer(0, 99) >= 100 - percent


@dataclass(frozen=True)
class World:
    snapshot: Snapshot
    env: Environment

    def decide(self) -> FamilyDecision:
        return decide(self.snapshot, self.env, BUILTIN)


def step(snapshot: Snapshot, action: Action, env: Environment) -> Snapshot:
    """The world after one action succeeded."""
    return simulate(snapshot, FamilyDecision(SubscriptionId("parent"), dict[LogId, Decision](), (action,)), env)


def child_logs(snapshot: Snapshot) -> list[LicenseChangeLog]:
    rows = {child.id for child in snapshot.children}
    return [entry for entry in snapshot.logs if entry.subscription_id in rows]


def settled_by_children(snapshot: Snapshot) -> int:
    assert snapshot.parent is not None
    return sum(
        counted_quantity(child) - pending(snapshot.logs_of(child.id))
        for child in snapshot.children
        if is_linked_child(child, snapshot.parent)
    )


def settled_by_parent(snapshot: Snapshot) -> int:
    assert snapshot.parent is not None
    return counted_quantity(snapshot.parent) - pending(snapshot.logs_of(snapshot.parent.id))


def provider_quantity(snapshot: Snapshot) -> int | None:
    return snapshot.provider.quantity if isinstance(snapshot.provider, ProviderSubscription) else None


def with_parent(snapshot: Snapshot, **changes: Any) -> Snapshot:
    assert snapshot.parent is not None
    return replace(snapshot, parent=replace(snapshot.parent, **changes))


def with_status(snapshot: Snapshot, ids: set[str], status: Any) -> Snapshot:
    return replace(
        snapshot, logs=tuple(replace(entry, status=status) if entry.id in ids else entry for entry in snapshot.logs)
    )


def arrive(pick: Picker, snapshot: Snapshot, name: str, env: Environment) -> tuple[Snapshot, LicenseChangeLog] | None:
    """A user changes a child: a new log, which may stand anywhere in the order; None if no child can change."""
    able = [row for row in snapshot.children if row.active and row.provider == "linked" and row.quantity is not None]
    if not able:
        return None
    row = choice(pick, able)
    assert row.quantity is not None
    delta = max(-row.quantity, pick.integer(-6, 9))
    made = log(row.id, delta, name=name)
    newest = max([env.now, *(entry.created_on for entry in snapshot.logs)])
    made = replace(made, created_on=newest + timedelta(seconds=1))
    if chance(pick, 60):
        made = replace(made, provision_on=env.now - timedelta(minutes=pick.integer(1, 4320)))
    return add(snapshot, made), made


def add(snapshot: Snapshot, made: LicenseChangeLog) -> Snapshot:
    """The world with one more child log, and the child's quantity that contains it."""
    children = tuple(
        replace(row, quantity=(row.quantity or 0) + (made.quantity or 0)) if row.id == made.subscription_id else row
        for row in snapshot.children
    )
    return replace(snapshot, children=children, logs=(*snapshot.logs, made))


def _timed(pick: Picker, entry: LicenseChangeLog) -> LicenseChangeLog:
    when = pick.integer(0, 19)
    changes: dict[int, dict[str, Any]] = {
        19: {"provision_on": NOW + timedelta(hours=pick.integer(1, 60))},
        18: {"effective_on": (NOW + timedelta(days=1)).date()},
        17: {"provision_on": (NOW - timedelta(days=1)).date()},
    }
    return replace(entry, **changes.get(when, {}))


def _child(pick: Picker, name: str, plain: bool) -> tuple[Subscription, list[LicenseChangeLog], int]:
    """A child, its logs and the seats that are settled for it."""
    settled = pick.integer(0, 20)
    if not plain and settled and chance(pick, 8):
        gone = log(name, -settled, minutes_ago=pick.integer(1, 300), kind=LogKind.DEACTIVATE)
        return subscription(name, settled, active=False), [gone], settled
    quantity, logs = settled, list[LicenseChangeLog]()
    for number in range(pick.integer(0, 3)):
        delta = max(-quantity, pick.integer(-8, 10))
        entry = _timed(pick, log(name, delta, name=f"{name}-{number}", minutes_ago=pick.integer(1, 300)))
        kind = pick.integer(0, 24)
        if kind == 24:
            entry = replace(entry, status=FAILED, message="refused")
        elif kind == 23:
            entry, settled = replace(entry, status=PROVISIONED), settled + delta
        elif kind == 22:
            entry, settled = replace(entry, status=NOT_APPLICABLE), settled + delta
        elif kind == 21:
            entry, delta = replace(entry, quantity=0, kind=LogKind.AUDIT), 0
        quantity += delta
        logs.append(entry)
    changes: dict[str, Any] = {}
    if not plain:
        changes = {
            39: {"reduction": ReductionBehavior.DISALLOWED},
            38: {"reduction": ReductionBehavior.WITHIN_WINDOW, "reduction_days": 7},
            37: {"part_number": "CFQ7TTC0LHT4:0001"},
            36: {"customer_id": None},
            35: {"provider": "do_nothing"},
            34: {"provider": "manual"},
        }.get(pick.integer(0, 39), {})
    row = subscription(name, quantity, **changes)
    return row, logs, settled if row.provider == "linked" else 0


def sound(pick: Picker, *, plain: bool = False, manual: bool | None = None, careful: bool = False) -> World:
    """A family whose books are right: changes were made on children, and nothing was pushed yet.

    ``plain``: no rule has a reason to refuse anything and the provider takes all back, so that everything due goes.
    """
    children, logs, settled = list[Subscription](), list[LicenseChangeLog](), 0
    for name in NAMES[: pick.integer(1, 3 if plain else 4)]:
        row, own, seats = _child(pick, name, plain)
        children.append(row)
        logs += own
        settled += seats
    if plain:  # so that the parent never comes near zero
        children.append(subscription("rest", 100))
        settled += 100
    if chance(pick, 25):
        logs.append(log("parent", 3, name="parent-old", minutes_ago=9000, status=PROVISIONED))
    by_hand = chance(pick, 12) if manual is None else manual
    room = choice(pick, (100, 100, 4000, 60, 40) if plain else (100, 100, 4000, 60, 40, 30))
    text = choice(pick, (None, None, "PO 17"))
    if by_hand:
        snapshot = family(
            parent(settled, provider="manual", marker_text=text),
            *children,
            logs=tuple(logs),
            provider=NotReported(),
        )
        return World(snapshot, environment(choice(pick, POLICIES), capabilities=MANUAL, room=room))
    reducible = (
        None
        if plain
        else choice(
            pick,
            (None, (), (ReducibleBatch(4, NOW + timedelta(days=3)),), (ReducibleBatch(30, NOW + timedelta(days=3)),)),
        )
    )
    snapshot = family(
        parent(settled, marker_text=text),
        *children,
        logs=tuple(logs),
        provider=at_provider(settled),
    )
    snapshot = replace(snapshot, provider=replace(snapshot.provider, reducible=reducible))
    policy = Policy(netting=chance(pick, 70)) if plain else choice(pick, CAREFUL if careful else POLICIES)
    habit = choice(pick, (None, None, *ParentLog))
    if habit is ParentLog.NONE and chance(pick, 50):
        policy = policy.model_copy(update={"parent_log": "create"})
    pushes = choice(pick, (None, None, False, True))
    return World(snapshot, environment(policy, capabilities=AUTOMATIC, room=room, parent_log=habit, pushes=pushes))


def crashed(pick: Picker, *, plain: bool = False) -> World:
    """A family some of whose actions were taken before the process died, once or more, with users at work meanwhile."""
    world = sound(pick, plain=plain)
    snapshot = world.snapshot
    for number in range(pick.integer(1, 3)):
        actions = decide(snapshot, world.env, BUILTIN).actions
        for action in actions[: pick.integer(0, len(actions))]:
            snapshot = step(snapshot, action, world.env)
        if chance(pick, 50):
            arrived = arrive(pick, snapshot, f"newcomer-{number}", world.env)
            snapshot = arrived[0] if arrived else snapshot
    return World(snapshot, world.env)


def edited(pick: Picker) -> World:
    """A family in which a person changed something outside of linksub."""
    world = crashed(pick) if chance(pick, 60) else sound(pick)
    snapshot, env = world.snapshot, world.env
    for number in range(pick.integer(1, 2)):
        snapshot = _edit(pick, snapshot, number)
    return World(snapshot, env)


def _edit(pick: Picker, snapshot: Snapshot, number: int) -> Snapshot:
    row, view = snapshot.parent, snapshot.provider
    assert row is not None and row.quantity is not None
    own = list(snapshot.logs_of(row.id))
    awaiting = {str(entry.id) for entry in own if entry.is_awaiting}
    delta = max(-row.quantity, pick.integer(-9, 9))
    match pick.integer(0, 13):
        case 0:
            entry = log("parent", delta, name=f"edit-{number}", minutes_ago=1)
            return replace(with_parent(snapshot, quantity=row.quantity + delta), logs=(*snapshot.logs, entry))
        case 1:
            return with_parent(snapshot, quantity=row.quantity + delta)
        case 2 if isinstance(view, ProviderSubscription):
            return replace(snapshot, provider=replace(view, quantity=max(0, view.quantity + delta)))
        case 3:
            return with_status(snapshot, awaiting, NOT_APPLICABLE)
        case 4:
            return with_status(snapshot, awaiting, FAILED)
        case 5:
            return with_status(snapshot, awaiting, PROVISIONED)
        case 6 if isinstance(view, ProviderSubscription):
            return replace(snapshot, provider=replace(view, status=choice(pick, ("suspended", "pending", "expired"))))
        case 7 if isinstance(view, ProviderSubscription):
            return replace(snapshot, provider=replace(view, is_trial=True))
        case 8:
            return with_parent(snapshot, active=False)
        case 9:
            failed = {str(entry.id) for entry in child_logs(snapshot) if entry.status is FAILED}
            return with_status(snapshot, failed, AWAITING)
        case 10:
            return with_parent(
                snapshot, marker_text=choice(pick, (None, "PO 4711", "ls2:", (row.marker_text or "")[:-1]))
            )
        case 11:
            some = {str(entry.id) for entry in child_logs(snapshot) if entry.is_awaiting and chance(pick, 50)}
            return with_status(snapshot, some, choice(pick, (FAILED, PROVISIONED, NOT_APPLICABLE)))
        case 12:
            first = snapshot.children[0]
            changed = replace(first, quantity=max(0, (first.quantity or 0) + delta))
            return replace(snapshot, children=(changed, *snapshot.children[1:]))
        case _:
            some = {str(entry.id) for entry in own if entry.is_open and chance(pick, 50)}
            return with_status(snapshot, some, choice(pick, (PROVISIONED, NOT_APPLICABLE, FAILED)))


def odd(pick: Picker) -> World:
    """A family as bad data make it: some of it quarantined, some of it refused, none of it a reason to crash."""
    world = edited(pick) if chance(pick, 30) else sound(pick)
    snapshot, env = world.snapshot, world.env
    assert snapshot.parent is not None
    first = snapshot.children[0]
    match pick.integer(0, 15):
        case 0:
            snapshot = replace(snapshot, children=(replace(first, quantity=None), *snapshot.children[1:]))
        case 1:
            snapshot = replace(snapshot, children=(replace(first, quantity=-4), *snapshot.children[1:]))
        case 2:
            snapshot = replace(snapshot, logs=(*snapshot.logs, log(first.id, None, name="no-quantity")))
        case 3:
            snapshot = replace(snapshot, logs=(*snapshot.logs, log(first.id, 2, name="no-status", status=None)))
        case 4:
            snapshot = replace(snapshot, children=(*snapshot.children, first))
        case 5:
            snapshot = replace(snapshot, logs=(*snapshot.logs, *snapshot.logs[:1]))
        case 6:
            snapshot = replace(snapshot, parent=None, children=(first,), logs=snapshot.logs_of(first.id))
        case 7:
            snapshot = replace(snapshot, incomplete="page 2 failed")
        case 8:
            snapshot = replace(snapshot, provider=Unreadable("503"))
        case 9:
            snapshot = replace(snapshot, provider=NotAtProvider("not listed"))
        case 10:
            snapshot = with_parent(snapshot, provider_subscription=None)
            snapshot = replace(snapshot, provider=NotAtProvider("nothing bought"))
        case 11:
            changes: dict[str, Any] = choice(
                pick,
                ({"provider": "linked"}, {"provider": None}, {"provider": "do_nothing"}, {"linked_parent": first.id}),
            )
            snapshot = with_parent(snapshot, **changes)
        case 12:
            accounts = choice(
                pick, ((), STRANGERS, (ACCOUNT, replace(ACCOUNT, id="second")), (replace(ACCOUNT, tenant=None),))
            )
            snapshot = replace(with_parent(snapshot, provider_account_id=None), accounts=accounts)
        case 13:
            snapshot = replace(snapshot, children=(replace(first, linked_parent=None), *snapshot.children[1:]))
        case 14:
            env = replace(env, capabilities=choice(pick, (None, replace(AUTOMATIC, provisions=False), MANUAL)))
        case _:
            stranger = ProviderSubscriptionId("another")
            snapshot = replace(snapshot, provider=replace(at_provider(7), tenant=TenantId("other"), id=stranger))
    return World(snapshot, env)


def anything(pick: Picker) -> World:
    """One of all of them."""
    return choice(pick, (sound, crashed, edited, odd))(pick)


def later(env: Environment, now: datetime) -> Environment:
    return replace(env, now=now)
