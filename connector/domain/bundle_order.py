"""The order of families that hang on one another (rules LS-029 and LS-081): pure, and only among families of the same pass.

A base's increase goes before its add-on's, an add-on's decrease before its base's. Everything else may go side by side: an
add-on that gives seats back has nothing to do with a base that only grows, nor one that grows with a base that only gives
back. A base whose add-on has not given back yet may grow, and its decreases wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from connector.domain.model import ProviderSubscription, Snapshot, SubscriptionId
from connector.domain.plan import FamilyPlan
from connector.domain.rounds import play_family
from connector.domain.rules.registry import Environment, RuleBook
from connector.domain.seats import is_linked_child, moves_seats

BASE_FIRST = "LS-029"
"""The rule that puts a base's increase before its add-on's."""

EnvironmentOf = Callable[[Snapshot], Environment]


def is_addon_of(family: Snapshot, base: Snapshot) -> bool:
    """Whether a family's parent hangs on another family's."""
    return family.parent is not None and family.parent.bundle_parent == base.subject.id


def asked_for(family: Snapshot, env: Environment) -> int:
    """Net seats that the family's due changes ask for, whatever becomes of them."""
    return sum(_due(family, env))


def _due(family: Snapshot, env: Environment) -> list[int]:
    """Seats of each of the family's changes that are due."""
    parent = family.parent
    if parent is None:
        return []
    children = {child.id for child in family.children if is_linked_child(child, parent)}
    return [
        log.quantity or 0
        for log in family.logs
        if log.subscription_id in children
        and log.is_awaiting
        and moves_seats(log)
        and env.calendar.is_due(log, env.now)
    ]


def predecessors(
    families: Sequence[Snapshot], environment: EnvironmentOf
) -> Mapping[SubscriptionId, frozenset[SubscriptionId]]:
    """Family → the families of this pass that have to go before it."""
    by_id = {family.subject.id: family for family in families}
    before: dict[SubscriptionId, set[SubscriptionId]] = {key: set() for key in by_id}
    for family in families:
        parent = family.parent
        if parent is None or parent.bundle_parent is None or parent.bundle_parent not in before:
            continue
        base, seats = by_id[parent.bundle_parent], asked_for(family, environment(family))
        at_base = _due(base, environment(base))
        if seats > 0 and any(each > 0 for each in at_base):
            before[parent.id].add(parent.bundle_parent)
        elif seats < 0 and any(each < 0 for each in at_base):
            before[parent.bundle_parent].add(parent.id)
    _break_circles(before)
    return {key: frozenset(ids) for key, ids in before.items()}


def _break_circles(before: dict[SubscriptionId, set[SubscriptionId]]) -> None:
    """Bundles that hang on one another in a circle have no order among themselves; rules refuse what is wrong with them."""
    while True:
        try:
            TopologicalSorter(before).prepare()
        except CycleError as error:
            circle = set(error.args[1])
            for each in circle:
                before[each] -= circle
        else:
            return


def stages(
    families: Sequence[Snapshot], before: Mapping[SubscriptionId, frozenset[SubscriptionId]]
) -> list[list[Snapshot]]:
    """The families in stages: what is in one stage may go side by side, stages go one after the other."""
    by_id = {family.subject.id: family for family in families}
    sorter = TopologicalSorter(before)
    sorter.prepare()
    ordered: list[list[Snapshot]] = []
    while sorter.is_active():
        ready = sorter.get_ready()
        ordered.append([by_id[key] for key in sorted(ready)])
        sorter.done(*ready)
    return ordered


def plan_in_order(families: Sequence[Snapshot], environment: EnvironmentOf, rules: RuleBook) -> tuple[FamilyPlan, ...]:
    """Plans of all families, each on the world that its predecessors leave behind."""
    before = predecessors(families, environment)
    worlds: dict[SubscriptionId, Snapshot] = {}
    plans: list[FamilyPlan] = []
    for stage in stages(families, before):
        for family in stage:
            seen, env = with_bases_of(family, worlds), environment(family)
            addons = [worlds[each] for each in sorted(before[family.subject.id]) if is_addon_of(worlds[each], family)]
            waits = next((each for each in addons if any(seats < 0 for seats in _due(each, env))), None)
            plan, world = play_family(seen, replace(env, addon_first=waits.subject.name if waits else None), rules)
            worlds[family.subject.id] = world
            plans.append(plan)
    return tuple(plans)


def with_bases_of(family: Snapshot, worlds: Mapping[SubscriptionId, Snapshot]) -> Snapshot:
    """The family with its bases, and the customer's other subscriptions, as they stand in other families' worlds."""
    views = [world.provider for world in worlds.values()]
    moved = {view.id: view for view in views if isinstance(view, ProviderSubscription)}
    at_customer = tuple(moved.get(view.id, view) for view in family.at_customer)
    bases = tuple(worlds[base.id].parent or base if base.id in worlds else base for base in family.bases)
    logs = [log for log in family.base_logs if log.subscription_id not in worlds]
    for base in family.bases:
        if base.id in worlds:
            logs += [log for log in worlds[base.id].logs_of(base.id) if log.is_open]
    return replace(family, bases=bases, base_logs=tuple(logs), at_customer=at_customer)
