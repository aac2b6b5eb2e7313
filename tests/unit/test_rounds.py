"""The world after a perfect application, and the plan that follows from playing it on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from connector.domain.decide import decide
from connector.domain.model import ParentLog, Price, ReducibleBatch
from connector.domain.plan import Acknowledge, MakeParentLog, SetParentQuantity, SetProviderQuantity
from connector.domain.policy import Policy
from connector.domain.rounds import plan_family, simulate
from connector.domain.rules.builtin import BUILTIN
from tests.families import (
    AWAITING,
    NOT_APPLICABLE,
    NOW,
    PROVISIONED,
    at_provider,
    environment,
    family,
    log,
    marker_of,
    parent,
    raised,
    subscription,
)


def growing(**changes):
    return family(parent(50, **changes), subscription("new_york", 60), logs=(log("new_york", 10),))


def after(snapshot, *kinds, policy=None, **env):
    env = environment(policy, **env)
    decision = decide(snapshot, env, BUILTIN)
    actions = tuple(action for action in decision.actions if isinstance(action, kinds))
    assert actions
    return simulate(snapshot, replace(decision, actions=actions), env)


def own_logs(snapshot):
    return [(entry.quantity, entry.status) for entry in snapshot.logs_of(snapshot.parent.id)]


def test_a_raised_parent_carries_the_marker_with_a_persons_text_behind_it_and_gets_a_log():
    found = after(growing(marker_text="PO 17"), SetParentQuantity)
    wanted = marker_of(raised(log("new_york", 10), before=50), kept="PO 17")
    assert (found.parent.quantity, found.parent.marker_text) == (60, str(wanted))
    assert own_logs(found) == [(10, AWAITING)]
    assert found.provider.quantity == 50


def test_the_parents_log_is_made_as_the_organisation_makes_it():
    assert own_logs(after(growing(), SetParentQuantity, parent_log=ParentLog.MAKES)) == [(10, AWAITING)]
    assert own_logs(after(growing(), SetParentQuantity, parent_log=ParentLog.LATE)) == [(10, AWAITING)]
    aside = after(growing(), SetParentQuantity, parent_log=ParentLog.NOT_APPLICABLE)
    assert own_logs(aside) == [(10, NOT_APPLICABLE)]
    assert own_logs(after(growing(), SetParentQuantity, parent_log=ParentLog.NONE)) == []


def test_where_the_crm_makes_no_log_linksub_makes_it_if_the_policy_says_so_and_only_once():
    world = {"policy": Policy(parent_log="create"), "parent_log": ParentLog.NONE}
    alone = replace(
        growing(),
        parent=replace(
            growing().parent,
            quantity=60,
            marker_text=after(growing(), SetParentQuantity, parent_log=ParentLog.NONE).parent.marker_text,
        ),
    )
    made = after(replace(alone, provider=at_provider(50)), MakeParentLog, **world)
    assert own_logs(made) == [(10, AWAITING)]
    again = decide(made, environment(world["policy"], parent_log=ParentLog.NONE), BUILTIN)
    assert not [action for action in again.actions if isinstance(action, MakeParentLog)]


def test_an_acknowledgement_takes_the_groups_out_and_gives_the_person_the_column_back():
    found = after(growing(marker_text="PO 17"), SetParentQuantity, SetProviderQuantity, Acknowledge)
    assert found.parent.marker_text == "PO 17"


def test_more_seats_at_the_provider_come_with_a_window_of_seven_days():
    found = after(growing(), SetParentQuantity, SetProviderQuantity)
    assert found.provider.quantity == 60
    assert found.provider.reducible == (ReducibleBatch(10, NOW + timedelta(days=7)),)


def test_fewer_seats_leave_the_newest_batches_first():
    old, new = ReducibleBatch(5, NOW + timedelta(days=1)), ReducibleBatch(3, NOW + timedelta(days=6))
    view = replace(at_provider(50), reducible=(old, new))
    snapshot = family(parent(50), subscription("new_york", 46), logs=(log("new_york", -4),), provider=view)
    found = after(snapshot, SetParentQuantity, SetProviderQuantity)
    assert (found.provider.quantity, found.provider.reducible) == (46, (replace(old, quantity=4),))


def test_a_provider_that_does_not_say_what_it_takes_back_does_not_say_it_after_a_change_either():
    view = replace(at_provider(50), reducible=None)
    assert after(replace(growing(), provider=view), SetParentQuantity, SetProviderQuantity).provider.reducible is None


def test_an_acknowledgement_settles_the_parents_new_log_and_the_childs_together():
    found = after(growing(), SetParentQuantity, SetProviderQuantity, Acknowledge)
    assert {entry.status for entry in found.logs} == {PROVISIONED}
    assert plan_family(found, environment(), BUILTIN).actions == ()


def test_one_round_is_enough_for_a_family_that_nothing_holds_up():
    assert len(plan_family(growing(), environment(), BUILTIN).rounds) == 1


def test_a_family_with_nothing_to_do_has_one_empty_round():
    found = plan_family(family(parent(50), subscription("new_york", 50)), environment(), BUILTIN)
    assert (len(found.rounds), found.actions, found.needs_attention) == (1, (), False)


def test_a_seat_costs_what_the_parent_says_else_what_all_children_agree_on():
    ten, twelve = Price(1000, "USD"), Price(1200, "USD")

    def price(of_parent, *of_children):
        children = tuple(subscription(f"c{at}", 25, cost=cost) for at, cost in enumerate(of_children))
        return plan_family(family(parent(50, cost=of_parent), *children), environment(), BUILTIN).price

    assert price(ten, twelve, twelve) == ten
    assert price(None, twelve, twelve) == twelve
    assert price(None, ten, twelve) is None
    assert price(None, twelve, None) is None


def test_the_money_of_a_plan_is_its_seats_at_the_provider_times_the_price():
    found = plan_family(growing(cost=Price(2200, "EUR")), environment(), BUILTIN)
    assert (found.seats_at_provider, found.money.per_month) == (10, {"EUR": 22000})
    unpriced = plan_family(growing(), environment(), BUILTIN)
    assert (unpriced.money.per_month, unpriced.money.seats_without_price) == ({}, 10)
