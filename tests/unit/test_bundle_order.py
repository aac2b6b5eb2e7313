"""Which family goes before which: a base and its add-on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.domain.bundle_order import plan_in_order, predecessors, stages
from connector.domain.decide import decide
from connector.domain.decision import Wait
from connector.domain.model import SubscriptionId
from connector.domain.plan import ScheduleAtRenewal, SetParentQuantity
from connector.domain.policy import Policy
from connector.domain.rules.builtin import BUILTIN
from tests.families import at_provider, carrying, environment, family, log, parent, raised, subscription

BASE, ADDON = SubscriptionId("parent"), SubscriptionId("addon")


def base(*changes: int):
    logs = [log("new_york", by, name=f"base-{at}") for at, by in enumerate(changes)]
    return family(parent(50), subscription("new_york", 50), logs=tuple(logs))


def addon(*changes: int):
    logs = [log("audio", by, name=f"addon-{at}") for at, by in enumerate(changes)]
    row = replace(parent(25), id=ADDON, name="addon", bundle_parent=BASE)
    return family(row, subscription("audio", 25, linked_parent=ADDON), logs=tuple(logs))


@pytest.mark.parametrize(
    ("base_changes", "addon_changes", "first"),
    [
        pytest.param((5,), (5,), "base", id="a base grows before its add-on"),
        pytest.param((-5,), (-5,), "addon", id="an add-on shrinks before its base"),
        pytest.param((5,), (-5,), None, id="an add-on that shrinks does not hold a base that only grows"),
        pytest.param((5, -1), (-5,), "addon", id="a base that gives something back goes after an add-on that shrinks"),
        pytest.param((5,), (5, -3), "base", id="an add-on that grows on the whole goes after its base"),
        pytest.param((-5,), (5,), None, id="a base that only shrinks does not hold an add-on that grows"),
        pytest.param((5,), (), None, id="an add-on without a change of its own holds nobody"),
    ],
)
def test_bases_grow_first_and_add_ons_shrink_first(base_changes, addon_changes, first):
    found = predecessors([base(*base_changes), addon(*addon_changes)], lambda _family: environment())
    expected = {BASE: frozenset(), ADDON: frozenset()}
    if first is not None:
        expected |= {ADDON: frozenset({BASE})} if first == "base" else {BASE: frozenset({ADDON})}
    assert found == expected


def _in_a_circle(*names: str):
    rows = [
        replace(parent(25), id=SubscriptionId(name), name=name, bundle_parent=SubscriptionId(names[at - 1]))
        for at, name in enumerate(names)
    ]
    return [
        family(row, subscription(f"child-{row.id}", 30, linked_parent=row.id), logs=(log(f"child-{row.id}", 5),))
        for row in rows
    ]


@pytest.mark.parametrize("names", [("itself",), ("one", "two"), ("one", "two", "three")])
def test_add_ons_in_a_circle_stop_nobody_and_everybody_else_keeps_his_order(names):
    families = [*_in_a_circle(*names), addon(5), base(5)]
    found = predecessors(families, lambda _family: environment())
    assert found[ADDON] == {BASE}
    order = [each.parent.id for stage in stages(families, found) for each in stage]
    assert sorted(order) == sorted([*names, ADDON, BASE])
    assert order.index(BASE) < order.index(ADDON)
    plans = plan_in_order(families, lambda _family: environment(), BUILTIN)
    assert sorted(plan.family for plan in plans) == sorted(order)


def held_back(snapshot, **policy):
    return decide(snapshot, replace(environment(Policy(**policy)), addon_first="audio"), BUILTIN)


ROOM = at_provider(50, reducible=10)


def _base(*changes, provider=ROOM):
    """Fifty seats, two locations."""
    quantity = {"new_york": 30, "memphis": 20}
    logs = []
    for at, (child, by) in enumerate(changes):
        quantity[child] += by
        logs.append(log(child, by, name=f"c{at}", minutes_ago=9 - at))
    children = [subscription(child, seats) for child, seats in quantity.items()]
    return family(parent(50), *children, logs=tuple(logs), provider=provider)


def test_while_its_add_on_still_has_to_shrink_a_bases_decrease_waits_and_its_growth_goes():
    found = held_back(_base(("new_york", 5), ("memphis", -8)))
    (action,) = [each for each in found.actions if isinstance(each, SetParentQuantity)]
    assert action.target == 55
    waits = found.decisions["c1"]
    assert (type(waits), waits.rule) == (Wait, "LS-081")


def test_a_decrease_that_only_makes_the_growth_smaller_goes_along():
    found = held_back(_base(("new_york", 5), ("memphis", -3)))
    (action,) = [each for each in found.actions if isinstance(each, SetParentQuantity)]
    assert action.target == 52


def test_a_decrease_that_cannot_go_now_is_promised_for_the_renewal_whatever_its_add_on_does():
    found = held_back(_base(("memphis", -3), provider=at_provider(50)), refused_decrease="schedule")
    assert [type(each) for each in found.actions] == [ScheduleAtRenewal]


def test_what_was_lowered_before_is_finished_and_others_grow_beside_it():
    less, more = log("memphis", -4, name="less", minutes_ago=9), log("new_york", 2, name="more", minutes_ago=2)
    row = carrying(46, raised(less, before=50))
    children = (subscription("memphis", 16), subscription("new_york", 32))
    logs = (less, more, log("parent", -4, name="own", minutes_ago=8))
    for provider in (at_provider(46), at_provider(50, reducible=10)):
        found = held_back(family(row, *children, logs=logs, provider=provider))
        assert found.stop is None and found.actions
        assert not any(getattr(each, "rule", "") == "LS-081" for each in found.decisions.values())
