"""The decision for one family, as the sentences of the specification (design §4)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from connector.domain.decide import decide
from connector.domain.decision import Accept, Hold, Refuse, Skip, Wait
from connector.domain.model import LogId, NotReported, ReductionBehavior, SubscriptionId
from connector.domain.plan import Acknowledge, FailLogs, SetParentQuantity, SetProviderQuantity
from connector.domain.policy import Policy
from connector.domain.rounds import plan_family
from connector.domain.rules.builtin import BUILTIN
from tests.families import (
    FAILED,
    MANUAL,
    NOT_APPLICABLE,
    NOW,
    PROVISIONED,
    at_provider,
    carrying,
    environment,
    family,
    log,
    parent,
    raised,
    subscription,
)


def kids(atlanta=10, new_york=25, memphis=15):
    return subscription("atlanta", atlanta), subscription("new_york", new_york), subscription("memphis", memphis)


def plan(snapshot, policy=None, **env):
    return plan_family(snapshot, environment(policy, **env), BUILTIN)


def figures(found):
    """(parent before→target, provider before→target, acknowledged) of a plan, for short assertions."""
    shown = []
    for action in found.actions:
        if isinstance(action, SetParentQuantity):
            shown.append(("parent", action.before, action.target))
        elif isinstance(action, SetProviderQuantity):
            shown.append(("provider", action.before, action.target))
        elif isinstance(action, Acknowledge):
            shown.append(("acknowledge", tuple(entry.id for entry in action.child_logs)))
        elif isinstance(action, FailLogs):
            shown.append(("fail", tuple(entry.id for entry in action.logs)))
    return shown


def test_new_york_grows_by_ten_the_parent_and_the_provider_follow_and_the_logs_come_last():
    found = plan(family(parent(50), *kids(new_york=35), logs=(log("new_york", 10),)))
    assert figures(found) == [("parent", 50, 60), ("provider", 50, 60), ("acknowledge", ("new_york+10",))]


def test_three_children_that_change_together_need_one_provider_change():
    logs = (log("atlanta", 1), log("new_york", 2), log("memphis", 3))
    found = plan(family(parent(50), *kids(11, 27, 18), logs=logs))
    assert [entry for entry in figures(found) if entry[0] == "provider"] == [("provider", 50, 56)]


def test_a_move_nets_to_zero_and_is_only_acknowledged():
    logs = (log("atlanta", -5, minutes_ago=9), log("new_york", 5))
    found = plan(family(parent(50), *kids(5, 30), logs=logs))
    assert figures(found) == [("acknowledge", ("atlanta-5", "new_york+5"))]


def test_the_provider_at_the_target_already_gets_nothing():
    found = plan(family(parent(50), *kids(new_york=35), logs=(log("new_york", 10),), provider=at_provider(60)))
    assert figures(found) == [("parent", 50, 60), ("acknowledge", ("new_york+10",))]


def test_a_parent_that_was_raised_before_a_crash_is_not_raised_again():
    pending = log("new_york", 10)
    own = log("parent", 10, name="own", minutes_ago=1)
    row = carrying(60, raised(pending, before=50))
    found = plan(family(row, *kids(new_york=35), logs=(pending, own), provider=at_provider(50)))
    assert figures(found) == [("provider", 50, 60), ("acknowledge", ("new_york+10",))]


def test_the_marker_explains_what_was_carried_even_if_an_earlier_change_arrived_since():
    carried, newcomer = log("new_york", 10, minutes_ago=5), log("memphis", 3, minutes_ago=60)
    own = log("parent", 10, name="own", minutes_ago=1)
    snapshot = family(
        carrying(60, raised(carried, before=50)),
        *kids(new_york=35, memphis=18),
        logs=(carried, newcomer, own),
        provider=at_provider(50),
    )
    assert figures(plan(snapshot))[:2] == [("parent", 60, 63), ("provider", 50, 63)]
    without = replace(snapshot, parent=parent(60))
    assert plan(without).stop.rule == "LS-049"


def test_a_marker_that_names_nothing_that_is_there_is_held():
    old = log("new_york", 7, name="of-another-family", minutes_ago=9000)
    own = log("parent", 5, name="own", minutes_ago=1)
    row = carrying(55, raised(old, before=48))
    found = plan(family(row, *kids(new_york=35), logs=(log("new_york", 10), own), provider=at_provider(50)))
    assert found.stop.rule == "LS-072"
    assert not found.actions


def test_the_provider_on_the_way_between_two_parent_logs_is_brought_to_the_target():
    first, second = log("new_york", 10), log("memphis", 5, minutes_ago=4)
    logs = (
        first,
        second,
        log("parent", 10, name="own-1", minutes_ago=3),
        log("parent", 5, name="own-2", minutes_ago=2),
    )
    row = carrying(65, raised(first, before=50), raised(second, before=60))
    snapshot = family(row, *kids(new_york=35, memphis=20), logs=logs)
    found = plan(replace(snapshot, provider=at_provider(60)))
    assert figures(found) == [("provider", 60, 65), ("acknowledge", ("new_york+10", "memphis+5"))]


def test_a_provider_quantity_that_nothing_explains_is_held_with_both_numbers():
    found = plan(family(parent(50), *kids(new_york=35), logs=(log("new_york", 10),), provider=at_provider(70)))
    assert not found.actions
    assert found.stop.rule == "LS-062"
    assert "70" in found.stop.reason
    assert "50" in found.stop.reason


def test_pushing_over_provider_drift_is_a_policy():
    found = plan(
        family(parent(50), *kids(new_york=35), logs=(log("new_york", 10),), provider=at_provider(55)),
        Policy(provider_drift="push"),
    )
    assert ("provider", 55, 60) in figures(found)


def test_children_that_do_not_add_up_to_the_parent_are_held_as_crm_drift():
    found = plan(family(parent(60), *kids(new_york=30), logs=(log("new_york", 5),)))
    assert (found.stop.rule, found.actions) == ("LS-015", ())


def test_a_persons_edit_of_the_parent_is_held():
    found = plan(family(parent(70), *kids(), logs=(log("parent", 20),), provider=at_provider(50)))
    assert (found.stop.rule, found.actions) == ("LS-049", ())
    assert found.needs_attention


def test_a_failed_log_of_the_parent_blocks_every_child():
    pending = log("new_york", 10)
    own = log("parent", 10, name="own", minutes_ago=1, status=FAILED, message="no credit")
    snapshot = family(
        carrying(60, raised(pending, before=50)),
        *kids(new_york=35, memphis=16),
        logs=(pending, own, log("memphis", 1)),
        provider=at_provider(50),
    )
    found = plan(snapshot)
    assert {entry.rule for entry in found.decisions.values()} == {"LS-005"}
    assert "no credit" in found.stop.reason
    assert not found.actions


def test_a_manual_parent_is_raised_and_its_children_wait_for_a_person():
    snapshot = family(
        parent(50, provider="manual"), *kids(new_york=35), logs=(log("new_york", 10),), provider=NotReported()
    )
    found = plan(snapshot, capabilities=MANUAL)
    assert figures(found) == [("parent", 50, 60)]
    assert found.rounds[0].awaits_person


def test_a_manual_parent_that_a_person_provisioned_lets_its_children_follow():
    pending = log("new_york", 10)
    own = log("parent", 10, name="own", minutes_ago=1, status=PROVISIONED)
    snapshot = family(
        carrying(60, raised(pending, before=50), provider="manual"),
        *kids(new_york=35),
        logs=(pending, own),
        provider=NotReported(),
    )
    assert figures(plan(snapshot, capabilities=MANUAL)) == [("acknowledge", ("new_york+10",))]


def test_a_parent_log_set_to_not_applicable_by_a_person_does_not_provision_the_children():
    pending = log("new_york", 10)
    own = log("parent", 10, name="own", minutes_ago=1, status=NOT_APPLICABLE)
    row = carrying(60, raised(pending, before=50))
    snapshot = family(row, *kids(new_york=35), logs=(pending, own), provider=at_provider(60))
    found = plan(snapshot)
    assert (found.stop.rule, found.actions) == ("LS-035", ())


def test_a_push_by_work_365_itself_is_harmless():
    """Its engine raised, provisioned and acknowledged the parent before us: only the child is left to be told."""
    pending = log("new_york", 10)
    own = log("parent", 10, name="own", minutes_ago=1, status=PROVISIONED)
    found = plan(family(parent(60), *kids(new_york=35), logs=(pending, own), provider=at_provider(60)))
    assert figures(found) == [("acknowledge", ("new_york+10",))]


def test_a_raised_parent_whose_log_the_crm_has_not_made_yet_is_waited_for():
    pending = log("new_york", 10)
    snapshot = family(
        carrying(60, raised(pending, before=50), provider="manual"),
        *kids(new_york=35),
        logs=(pending,),
        provider=NotReported(),
    )
    found = plan(snapshot, capabilities=MANUAL)
    assert (found.stop.rule, found.actions) == ("LS-058", ())


def test_a_decrease_that_the_provider_does_not_take_back_is_refused_and_the_others_go():
    logs = (log("atlanta", 2), log("new_york", -4))
    found = plan(family(parent(50), *kids(12, 21), logs=logs))
    assert ("fail", ("new_york-4",)) in figures(found)
    assert ("provider", 50, 52) in figures(found)
    refusal = found.decisions[LogId("new_york-4")]
    assert isinstance(refusal, Refuse)
    assert refusal.rule == "LS-017"
    assert "2027-01-01" in refusal.reason


def test_a_decrease_waits_for_the_renewal_if_the_policy_says_so():
    found = plan(family(parent(50), *kids(new_york=21), logs=(log("new_york", -4),)), Policy(refused_decrease="wait"))
    waits = found.decisions[LogId("new_york-4")]
    assert isinstance(waits, Wait)
    assert waits.until is not None
    assert waits.until.isoformat() == "2027-01-01T00:00:00+00:00"


def test_seats_inside_the_window_are_given_back():
    snapshot = family(
        parent(50), *kids(new_york=21), logs=(log("new_york", -4),), provider=at_provider(50, reducible=10)
    )
    assert ("provider", 50, 46) in figures(plan(snapshot))


def test_a_batch_whose_time_has_passed_is_not_reducible_any_more():
    snapshot = family(
        parent(50), *kids(new_york=21), logs=(log("new_york", -4),), provider=at_provider(50, reducible=10)
    )
    late = NOW + timedelta(days=4)
    found = plan(snapshot, now=late)
    assert isinstance(found.decisions[LogId("new_york-4")], Refuse)


def test_decreases_can_be_kept_for_a_person_by_policy():
    snapshot = family(
        parent(50), *kids(new_york=21), logs=(log("new_york", -4),), provider=at_provider(50, reducible=10)
    )
    found = plan(snapshot, Policy(decreases="hold"))
    assert isinstance(found.decisions[LogId("new_york-4")], Hold)
    assert not found.actions


def test_the_latest_change_that_does_not_fit_is_dropped_and_a_smaller_one_still_goes():
    logs = (log("atlanta", -3, minutes_ago=9), log("new_york", -9, minutes_ago=8), log("memphis", -2, minutes_ago=7))
    found = plan(family(parent(50), *kids(7, 16, 13), logs=logs, provider=at_provider(50, reducible=6)))
    assert ("provider", 50, 45) in figures(found)
    assert ("fail", ("new_york-9",)) in figures(found)


def test_what_follows_a_dropped_change_on_the_same_child_stays_behind_it():
    logs = (log("new_york", -9, minutes_ago=8), log("new_york", 2, minutes_ago=7), log("atlanta", 1))
    found = plan(family(parent(50), *kids(11, 18), logs=logs))
    assert found.decisions[LogId("new_york+2")].rule == "LS-004"
    assert ("provider", 50, 51) in figures(found)


def test_the_last_child_leaving_is_held_and_the_parent_is_never_brought_to_zero():
    gone = subscription("new_york", 25, active=False)
    snapshot = family(parent(25), gone, logs=(log("new_york", -25),), provider=at_provider(25, reducible=25))
    found = plan(snapshot)
    assert found.decisions[LogId("new_york-25")].rule == "LS-018"
    assert not found.actions


def test_a_deactivated_child_counts_as_nothing_and_gives_its_seats_back():
    snapshot = family(
        parent(50),
        *kids()[:2],
        subscription("memphis", 15, active=False),
        logs=(log("memphis", -15),),
        provider=at_provider(50, reducible=20),
    )
    assert figures(plan(snapshot))[:2] == [("parent", 50, 35), ("provider", 50, 35)]


@pytest.mark.parametrize(
    ("child", "rule"),
    [
        (subscription("new_york", 25, linked_parent=None), "LS-010"),
        (subscription("new_york", 25, part_number="CFQ7TTC0LHT4:0001"), "LS-011"),
        (subscription("new_york", 25, customer_id=None), "LS-014"),
        (subscription("new_york", 25, reduction=ReductionBehavior.DISALLOWED), None),
    ],
)
def test_a_child_that_is_not_sound_is_refused_before_anything_is_written(child, rule):
    snapshot = family(
        None if child.linked_parent is None else parent(15), replace(child, quantity=25), logs=(log("new_york", 10),)
    )
    found = plan(snapshot).decisions[LogId("new_york+10")]
    assert (found.rule or None) == rule if rule else isinstance(found, Accept)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"active": False}, "not active"),
        ({"provider": "linked", "linked_parent": SubscriptionId("other")}, "chains"),
        ({"provider": "linked", "linked_parent": SubscriptionId("new_york")}, "linked to each other"),
    ],
)
def test_a_parent_that_cannot_be_one_is_refused(changes, reason):
    snapshot = family(parent(15, **changes), subscription("new_york", 25), logs=(log("new_york", 10),))
    found = plan(snapshot).decisions[LogId("new_york+10")]
    assert isinstance(found, Refuse)
    assert found.rule == "LS-012"
    assert reason in found.reason


def test_a_subscription_linked_to_itself_is_refused_and_not_taken_for_a_duplicate():
    loop = subscription("parent", 10)
    found = plan(family(loop, loop, logs=(log("parent", 2),)))
    assert found.decisions[LogId("parent+2")].rule == "LS-012"


def test_several_provider_accounts_and_none_chosen_is_refused():
    first = family(parent(15, provider_account_id=None), subscription("new_york", 25), logs=(log("new_york", 10),))
    assert isinstance(plan(first).decisions[LogId("new_york+10")], Accept)
    two = replace(first, accounts=(*first.accounts, replace(first.accounts[0], id="second", name="Second tenant")))
    refusal = plan(two).decisions[LogId("new_york+10")]
    assert refusal.rule == "LS-013"
    assert "2 provider accounts" in refusal.reason


def test_rows_that_make_no_sense_hold_their_family_and_write_nothing():
    for snapshot in (
        family(parent(50), subscription("new_york", None), logs=(log("new_york", 10),)),
        family(parent(50), subscription("new_york", -3), logs=(log("new_york", 10),)),
        family(parent(50), *kids(), logs=(log("new_york", None, name="odd"),)),
        family(parent(50), *kids(), *kids(), logs=(log("new_york", 10),)),
    ):
        found = plan(snapshot)
        assert (found.stop.rule, found.actions) == ("LS-055", ())


def test_do_nothing_and_price_only_changes_are_none_of_our_business():
    children = (
        subscription("atlanta", 10, provider="do_nothing"),
        subscription("new_york", 35),
        subscription("memphis", 15),
    )
    logs = (log("atlanta", 3), log("memphis", 0), log("new_york", 10))
    found = plan(family(parent(40), *children, logs=logs))
    assert isinstance(found.decisions[LogId("atlanta+3")], Skip)
    assert isinstance(found.decisions[LogId("memphis+0")], Skip)
    assert ("provider", 40, 50) in figures(found)


def test_a_pass_carries_only_as_many_changes_as_the_marker_names_and_the_rest_follows():
    logs = (log("atlanta", 1, minutes_ago=9), log("new_york", 2, minutes_ago=8), log("memphis", 3, minutes_ago=7))
    found = plan(family(parent(50), *kids(11, 27, 18), logs=logs), room=32)
    assert [entry for entry in figures(found) if entry[0] == "provider"] == [("provider", 50, 53), ("provider", 53, 56)]


def test_with_netting_off_increases_go_first_and_decreases_after_them():
    logs = (log("atlanta", -5, minutes_ago=9), log("new_york", 5))
    found = plan(family(parent(50), *kids(5, 30), logs=logs), Policy(netting=False))
    assert [entry for entry in figures(found) if entry[0] == "provider"] == [("provider", 50, 55), ("provider", 55, 50)]


def test_a_family_that_could_not_be_read_whole_is_not_decided():
    found = plan(family(parent(50), *kids(new_york=35), logs=(log("new_york", 10),), incomplete="page 2 failed"))
    assert (found.stop.rule, found.actions, found.is_retryable) == ("LS-054", (), True)


def test_deciding_twice_on_the_same_world_gives_the_same_answer_whatever_the_order_of_rows():
    logs = (log("atlanta", -5, minutes_ago=9), log("new_york", 5), log("memphis", 1))
    snapshot = family(parent(50), *kids(5, 30, 16), logs=logs)
    turned = replace(snapshot, children=tuple(reversed(snapshot.children)), logs=tuple(reversed(logs)))
    assert decide(snapshot, environment(), BUILTIN).actions == decide(turned, environment(), BUILTIN).actions
