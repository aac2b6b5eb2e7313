"""The books of one family: what is settled, what is on the way, and which changes explain the difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.domain import marker
from connector.domain.model import LogKind
from connector.domain.seats import (
    balance,
    counted_quantity,
    is_linked_child,
    moves_seats,
    order_key,
    pending,
    set_aside_by_person,
)
from tests.families import FAILED, NOT_APPLICABLE, PROVISIONED, environment, family, log, parent, subscription

CALENDAR = environment().calendar


def books(snapshot, *acceptable):
    return balance(snapshot, CALENDAR, acceptable)


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


def test_a_raise_is_explained_by_the_shortest_prefix_of_what_may_go():
    first, second = log("new_york", 10, minutes_ago=9), log("memphis", 5)
    own = log("parent", 10, name="own")
    snapshot = family(parent(60), subscription("new_york", 60), subscription("memphis", 5), logs=(first, second, own))
    found = books(snapshot, first, second)
    assert (found.lead, found.ahead, found.carried, found.told_late) == (0, 10, (first,), ())


def test_a_raise_that_no_prefix_adds_up_to_is_explained_by_nothing():
    first = log("new_york", 10)
    snapshot = family(parent(58), subscription("new_york", 60), logs=(first, log("parent", 8, name="own")))
    assert books(snapshot, first).carried is None


def test_the_marker_wins_over_the_prefix_and_may_name_a_failed_change():
    first, failed = log("new_york", 10, minutes_ago=9), log("memphis", 10, status=FAILED)
    reference = marker.encode([failed])
    snapshot = family(
        parent(60, order_reference=reference),
        subscription("new_york", 60),
        subscription("memphis", 10),
        logs=(first, failed, log("parent", 10, name="own", order_reference=reference)),
    )
    assert books(snapshot, first).carried == (failed,)


def test_a_marker_that_does_not_add_up_is_not_believed():
    first, other = log("new_york", 10, minutes_ago=9), log("memphis", 3)
    snapshot = family(
        parent(60, order_reference=marker.encode([other])),
        subscription("new_york", 60),
        subscription("memphis", 3),
        logs=(first, other, log("parent", 10, name="own")),
    )
    assert books(snapshot, first, other).carried == (first,)


def test_what_the_provider_side_confirmed_and_the_children_were_not_told_is_named_by_the_newest_settled_log():
    first, second = log("new_york", 5, minutes_ago=9), log("memphis", 5)
    own = log("parent", 5, name="own", status=PROVISIONED, order_reference=marker.encode([second]))
    snapshot = family(parent(55), subscription("new_york", 55), subscription("memphis", 5), logs=(first, second, own))
    found = books(snapshot, first, second)
    assert (found.lead, found.told_late, found.carried) == (5, (second,), ())


def test_an_older_settled_marker_is_not_asked_when_the_newest_one_does_not_add_up():
    first, second = log("new_york", 5, minutes_ago=9), log("memphis", 7)
    old = log("parent", 7, name="own-1", minutes_ago=8, status=PROVISIONED, order_reference=marker.encode([second]))
    new = log("parent", 2, name="own-2", minutes_ago=1, status=PROVISIONED, order_reference=marker.encode([first]))
    snapshot = family(
        parent(57), subscription("new_york", 55), subscription("memphis", 7), logs=(first, second, old, new)
    )
    assert books(snapshot, first, second).told_late is None


def test_the_waypoints_are_the_settled_quantity_and_each_awaiting_log_of_the_parent_after_it():
    logs = (
        log("parent", 10, name="own-1", minutes_ago=9),
        log("parent", 4, name="own-2", minutes_ago=8, status=FAILED),
        log("parent", -3, name="own-3", minutes_ago=7),
    )
    found = books(family(parent(61), subscription("new_york", 50), logs=logs))
    assert found.waypoints() == (50, 60, 57)


def test_a_marker_on_the_parent_without_a_log_that_carries_it_says_that_a_log_is_missing():
    first = log("new_york", 10)
    reference = marker.encode([first])
    raised = family(parent(60, order_reference=reference), subscription("new_york", 60), logs=(first,))
    assert books(raised, first).log_is_missing
    made = log("parent", 10, name="own", order_reference=reference)
    assert not books(replace(raised, logs=(first, made)), first).log_is_missing
    settled = replace(first, status=PROVISIONED)
    assert not books(replace(raised, logs=(settled,))).log_is_missing


def test_parent_logs_that_a_person_set_aside_are_listed_oldest_first_while_their_children_wait():
    first = log("new_york", 10)
    reference = marker.encode([first])
    aside = [
        log("parent", 5, name=f"own-{age}", minutes_ago=age, status=NOT_APPLICABLE, order_reference=reference)
        for age in (1, 9)
    ]
    snapshot = family(parent(60), subscription("new_york", 60), logs=(first, *aside))
    assert [entry.id for entry in set_aside_by_person(snapshot)] == ["own-9", "own-1"]
    told = replace(snapshot, logs=(replace(first, status=PROVISIONED), *aside))
    assert set_aside_by_person(told) == ()


def test_a_row_without_a_quantity_is_never_counted_as_zero():
    with pytest.raises(AssertionError, match="quarantined"):
        counted_quantity(subscription("new_york", None))
