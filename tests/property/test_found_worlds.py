"""Worlds that random search found and that were once decided wrongly, each as a sentence."""

from __future__ import annotations

from dataclasses import replace

from connector.domain.decide import decide
from connector.domain.decision import Accept, Hold, Refuse, Wait
from connector.domain.model import LogId, NotReported
from connector.domain.plan import Acknowledge, FailLogs, SetParentQuantity, SetProviderQuantity
from connector.domain.policy import Policy
from connector.domain.rounds import plan_family
from connector.domain.rules.builtin import BUILTIN
from tests.families import (
    MANUAL,
    NOT_APPLICABLE,
    PROVISIONED,
    at_provider,
    carrying,
    environment,
    family,
    log,
    marker_of,
    parent,
    raised,
    subscription,
)


def decided(snapshot, policy=None, **env):
    return decide(snapshot, environment(policy, **env), BUILTIN)


def on_its_way(quantity, *carried, settled):
    """A parent on its way from ``settled``, whose marker names what is carried, and its own log."""
    own = log("parent", quantity - settled, name="own", minutes_ago=1)
    return carrying(quantity, raised(*carried, before=settled)), own


def test_with_netting_off_an_increase_behind_a_decrease_of_its_own_child_goes_with_it_and_is_not_said_to_wait():
    logs = (log("new_york", -5, minutes_ago=9), log("new_york", 8))
    found = decided(family(parent(50), subscription("new_york", 53), logs=logs), Policy(netting=False))
    assert set(found.accepted) == {"new_york-5", "new_york+8"}
    assert found.goal == 53


def test_what_does_not_fit_beside_a_carried_decrease_is_dropped_and_the_carried_one_is_finished():
    newcomer, carried = log("new_york", -7, minutes_ago=60), log("memphis", -4)
    row, own = on_its_way(46, carried, settled=50)
    snapshot = family(row, subscription("new_york", 33), subscription("memphis", 6), logs=(newcomer, carried, own))
    found = decided(replace(snapshot, provider=at_provider(50, reducible=4)))
    assert isinstance(found.decisions[newcomer.id], Refuse)
    assert isinstance(found.decisions[carried.id], Accept)
    assert [action.target for action in found.actions if isinstance(action, SetProviderQuantity)] == [46]
    assert [action.logs for action in found.actions if isinstance(action, FailLogs)] == [(newcomer,)]


def test_an_earlier_newcomer_that_is_dropped_does_not_take_a_carried_change_of_its_child_with_it():
    newcomer, carried = log("new_york", -9, minutes_ago=60), log("new_york", 5)
    row, own = on_its_way(55, carried, settled=50)
    found = decided(family(row, subscription("new_york", 46), logs=(newcomer, carried, own), provider=at_provider(50)))
    assert isinstance(found.decisions[newcomer.id], Refuse)
    assert (found.goal, set(found.accepted)) == (55, {carried.id})
    assert not [action for action in found.actions if isinstance(action, SetParentQuantity)]


def test_children_are_told_what_a_person_confirmed_although_the_parent_is_raised_again():
    confirmed, newcomer = log("new_york", 10, minutes_ago=9), log("new_york", 1)
    own = log("parent", 10, name="own", minutes_ago=1, status=PROVISIONED)
    row = carrying(60, raised(confirmed, before=50), provider="manual")
    snapshot = family(row, subscription("new_york", 61), logs=(confirmed, newcomer, own), provider=NotReported())
    raise_, told = plan_family(snapshot, environment(capabilities=MANUAL), BUILTIN).actions
    assert isinstance(raise_, SetParentQuantity)
    assert (raise_.target, raise_.carries) == (61, (newcomer.id,))
    assert isinstance(told, Acknowledge)
    assert (told.parent_logs, told.child_logs) == ((), (confirmed,))
    assert told.marker == marker_of(raised(newcomer, before=60), known=(confirmed,))


def test_a_carried_decrease_whose_window_closed_fails_the_parents_log_and_leaves_the_childs_as_it_is():
    carried = log("new_york", -4)
    row, own = on_its_way(46, carried, settled=50)
    snapshot = family(row, subscription("new_york", 46), logs=(carried, own), provider=at_provider(50))
    found = decided(snapshot)
    assert [action.logs for action in found.actions if isinstance(action, FailLogs)] == [(own,)]
    assert isinstance(found.decisions[carried.id], Wait)


def test_behind_a_refused_change_nothing_of_the_same_child_is_refused_for_itself():
    logs = (log("new_york", -4, minutes_ago=9), log("new_york", -1, minutes_ago=8))
    found = decided(family(parent(50), subscription("new_york", 45), logs=logs))
    assert isinstance(found.decisions[LogId("new_york-4")], Refuse)
    assert isinstance(found.decisions[LogId("new_york-1")], Wait)
    assert found.decisions[LogId("new_york-1")].blocked_by == "new_york-4"


def test_pushing_over_drift_never_brings_a_provider_to_zero_seats():
    told_late = log("new_york", -1)
    own = log("parent", -1, name="own", minutes_ago=1, status=PROVISIONED)
    view = replace(at_provider(1), reducible=None)
    snapshot = family(
        carrying(0, raised(told_late, before=1)), subscription("new_york", 0), logs=(told_late, own), provider=view
    )
    found = decided(snapshot, Policy(provider_drift="push"))
    assert not [action for action in found.actions if isinstance(action, SetProviderQuantity)]
    assert found.stop.rule == "LS-018"


def test_a_raised_parent_that_has_lost_its_provider_account_is_held():
    carried = log("new_york", 10)
    row, own = on_its_way(60, carried, settled=50)
    snapshot = family(replace(row, provider_account_id=None), subscription("new_york", 60), logs=(carried, own))
    found = decided(replace(snapshot, provider=at_provider(50), accounts=()))
    assert isinstance(found.stop, Hold)
    assert found.stop.rule == "LS-057"
    assert found.actions == ()


def test_a_raised_parent_that_has_lost_its_provider_is_held():
    carried = log("new_york", 10)
    row, own = on_its_way(60, carried, settled=50)
    snapshot = family(replace(row, provider=None), subscription("new_york", 60), logs=(carried, own))
    found = decided(replace(snapshot, provider=at_provider(50)))
    assert (found.stop.rule, found.actions) == ("LS-056", ())


def test_of_several_parent_logs_that_a_person_set_aside_the_raises_own_is_named_in_whatever_order_they_arrive():
    pending = log("new_york", 10)
    aside = tuple(log("parent", 10, name=f"own-{age}", minutes_ago=age, status=NOT_APPLICABLE) for age in (4, 3))
    row = carrying(60, raised(pending, before=50))
    for own in (aside, aside[::-1]):
        found = decided(family(row, subscription("new_york", 60), logs=(pending, *own), provider=at_provider(60)))
        assert (found.stop.rule, found.stop.blocked_by) == ("LS-035", "own-3")
