"""The books of one family: what is settled, what is on the way, and which changes explain the difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.domain.model import LogKind, ParentLog
from connector.domain.seats import (
    balance,
    counted_quantity,
    is_linked_child,
    moves_seats,
    order_key,
    pending,
)
from tests.families import (
    FAILED,
    NOT_APPLICABLE,
    PROVISIONED,
    carrying,
    environment,
    family,
    log,
    parent,
    raised,
    subscription,
)

CALENDAR = environment().calendar


books = balance


def test_a_quantity_already_contains_what_is_awaiting_or_failed():
    logs = (log("new_york", 10), log("new_york", -3, status=FAILED), log("new_york", 7, status=PROVISIONED))
    assert pending(logs) == 7
    found = books(family(parent(50), subscription("new_york", 57), logs=logs))
    assert (found.children_settled, found.lead, found.ahead) == (50, 0, 0)


def test_an_inactive_subscription_counts_as_nothing_whatever_its_row_says():
    assert counted_quantity(subscription("new_york", 25, active=False)) == 0
    found = books(family(parent(25), subscription("new_york", 25, active=False), logs=(log("new_york", -25),)))
    assert (found.children_settled, found.lead) == (25, 0)


def test_only_children_on_the_linked_provider_of_this_parent_count():
    row = parent(50)
    assert is_linked_child(subscription("new_york", 1), row)
    assert not is_linked_child(subscription("new_york", 1, provider="do_nothing"), row)
    assert not is_linked_child(subscription("new_york", 1, linked_parent="other"), row)
    assert not is_linked_child(subscription("parent", 1), row)
    children = (subscription("new_york", 50), subscription("atlanta", 9, provider="do_nothing"))
    assert books(family(row, *children)).lead == 0


@pytest.mark.parametrize(
    ("entry", "moves"),
    [(log("a", 1), True), (log("a", -1), True), (log("a", 0), False), (log("a", 5, kind=LogKind.AUDIT), False)],
)
def test_price_only_changes_move_no_seats(entry, moves):
    assert moves_seats(entry) is moves


def test_logs_are_ordered_by_effective_instant_then_creation_then_id():
    late, early = log("a", 1, name="z", minutes_ago=1), log("a", 1, name="y", minutes_ago=9)
    dated = log("a", 1, name="x", minutes_ago=1, provision_on=early.created_on)
    twin = replace(early, id="b")
    ordered = sorted([late, dated, early, twin], key=lambda entry: order_key(entry, CALENDAR))
    assert [entry.id for entry in ordered] == ["b", "y", "x", "z"]


def test_a_raise_is_explained_by_what_the_marker_names_and_by_nothing_else():
    first, second = log("new_york", 10, minutes_ago=9), log("memphis", 10)
    own = log("parent", 10, name="own", minutes_ago=1)
    row = carrying(60, raised(second, before=50))
    snapshot = family(row, subscription("new_york", 60), subscription("memphis", 10), logs=(first, second, own))
    found = books(snapshot)
    assert (found.lead, found.ahead, found.carried, found.told_late) == (0, 10, (second,), ())


def test_numbers_that_coincide_explain_nothing():
    first, own = log("new_york", 10, minutes_ago=9), log("parent", 10, name="own")
    found = books(family(parent(60), subscription("new_york", 60), logs=(first, own)))
    assert (found.carried, found.surplus, found.lead_is_explained) == (None, 10, True)
    settled = books(family(parent(60), subscription("new_york", 60), logs=(first,)))
    assert (settled.told_late, settled.lead, settled.lead_is_explained) == (None, 10, False)


def test_a_marker_whose_raise_is_not_what_happened_to_the_parent_explains_nothing():
    first, other = log("new_york", 10, minutes_ago=9), log("memphis", 3, minutes_ago=8)
    row = carrying(60, raised(other, before=50))
    own = log("parent", 10, name="own", minutes_ago=1)
    snapshot = family(row, subscription("new_york", 60), subscription("memphis", 3), logs=(first, other, own))
    assert books(snapshot).carried is None


def test_what_the_provider_side_confirmed_and_the_children_were_not_told_is_named_by_the_marker():
    first, second = log("new_york", 5, minutes_ago=9), log("memphis", 5)
    own = log("parent", 5, name="own", minutes_ago=1, status=PROVISIONED)
    row = carrying(55, raised(second, before=50))
    found = books(family(row, subscription("new_york", 55), subscription("memphis", 5), logs=(first, second, own)))
    assert (found.lead, found.told_late, found.carried) == (5, (second,), ())


def test_the_waypoints_are_the_settled_quantity_and_each_awaiting_log_of_the_parent_after_it():
    logs = (
        log("parent", 10, name="own-1", minutes_ago=9),
        log("parent", 4, name="own-2", minutes_ago=8, status=FAILED),
        log("parent", -3, name="own-3", minutes_ago=7),
    )
    found = books(family(parent(61), subscription("new_york", 50), logs=logs))
    assert found.waypoints() == (50, 60, 57)


def test_a_raise_that_is_in_the_marker_and_has_no_log_is_a_waypoint_too():
    first = log("new_york", 10)
    found = books(family(carrying(60, raised(first, before=50)), subscription("new_york", 60), logs=(first,)))
    assert (found.parent_settled, found.ahead, found.waypoints()) == (50, 10, (50, 60))


def test_raises_without_a_log_are_waypoints_in_the_order_of_the_marker_however_old_their_changes_are():
    first, dated = log("new_york", 2, minutes_ago=5), log("memphis", 6, minutes_ago=500)
    row = carrying(58, raised(first, before=50), raised(dated, before=52))
    found = books(family(row, subscription("new_york", 52), subscription("memphis", 6), logs=(first, dated)))
    assert found.waypoints() == (50, 52, 58)


def test_a_raise_without_a_log_of_the_parent_says_that_a_log_is_missing():
    first = log("new_york", 10)
    row = carrying(60, raised(first, before=50))
    alone = family(row, subscription("new_york", 60), logs=(first,))
    assert [one.changes for one in books(alone).without_log] == [(first,)]
    made = log("parent", 10, name="own", minutes_ago=1)
    assert not books(replace(alone, logs=(first, made))).without_log


def test_a_log_of_a_raise_that_a_person_set_aside_is_found_by_what_the_parent_had_before_it():
    first = log("new_york", 5, minutes_ago=10)
    earlier, ours = (log("parent", 5, name=f"own-{age}", minutes_ago=age, status=NOT_APPLICABLE) for age in (9, 1))
    row = carrying(60, raised(first, before=55))
    snapshot = family(row, subscription("new_york", 60), logs=(first, earlier, ours))
    assert books(snapshot).set_aside == (ours,)
    by_hand = replace(snapshot, logs=(replace(first, status=PROVISIONED), earlier, ours))
    assert books(by_hand).set_aside == (ours,)  # the raise is not settled, whatever was said of its change
    assert books(snapshot, parent_log=ParentLog.NOT_APPLICABLE).set_aside == ()


def test_a_persons_edit_and_its_way_back_that_are_both_set_aside_are_not_taken_for_the_raise():
    first = log("new_york", 5, minutes_ago=10)
    edit = log("parent", 5, name="edit", minutes_ago=3, status=NOT_APPLICABLE)
    back = log("parent", -5, name="back", minutes_ago=2, status=NOT_APPLICABLE)
    row = carrying(55, raised(first, before=50))
    found = books(family(row, subscription("new_york", 55), logs=(first, edit, back)))
    assert (found.set_aside, [one.changes for one in found.without_log]) == ((), [(first,)])


def test_two_raises_whose_logs_were_both_set_aside_are_both_found_oldest_first():
    first, second = log("new_york", 5, minutes_ago=10), log("memphis", 3, minutes_ago=8)
    own = [
        log("parent", seats, name=f"own{seats:+d}", minutes_ago=age, status=NOT_APPLICABLE)
        for seats, age in ((5, 9), (3, 1))
    ]
    row = carrying(58, raised(first, before=50), raised(second, before=55))
    snapshot = family(row, subscription("new_york", 55), subscription("memphis", 3), logs=(first, second, *own))
    assert [entry.id for entry in books(snapshot).set_aside] == ["own+5", "own+3"]


def test_a_marker_that_names_a_change_of_a_child_that_left_is_read_again_once_the_child_is_back():
    first, own = log("new_york", 10), log("parent", 10, name="own", minutes_ago=1)
    row, atlanta = carrying(60, raised(first, before=50)), subscription("atlanta", 50)
    left = books(family(row, atlanta, logs=(own,)))
    assert (left.unreadable is not None, left.lead_is_explained, left.carried) == (True, False, None)
    back = books(family(row, atlanta, subscription("new_york", 10), logs=(first, own)))
    assert (back.unreadable, back.carried) == (None, (first,))


def test_a_row_without_a_quantity_is_never_counted_as_zero():
    with pytest.raises(AssertionError, match="quarantined"):
        counted_quantity(subscription("new_york", None))
