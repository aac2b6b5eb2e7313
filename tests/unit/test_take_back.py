"""How far a raise is taken back when a person stops what it carried, and when it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.families import FAILED, MANUAL, PROVISIONED, at_provider, carrying, family, log, parent, raised, subscription
from tests.unit.raises import MEMPHIS, NEW_YORK, decided, own, rows


def test_where_the_siblings_give_back_more_than_the_parent_has_without_what_was_stopped_everything_is_taken_back():
    bought = log("new_york", 26, minutes_ago=20)
    given = log("new_york", -25, name="given", minutes_ago=18)
    stopped = replace(bought, status=FAILED)
    own_logs = (own(26, age=19, name="own-1"), own(-25, age=17, name="own-2"))
    for row in (parent(7), carrying(7, raised(bought, before=6), raised(given, before=32))):
        snapshot = family(row, subscription("new_york", 7), logs=(stopped, given, *own_logs), provider=at_provider(6))
        (action,) = decided(snapshot, pushes=True).actions
        assert (action.takes_back, action.before, action.target) == (True, 7, 6)
        assert sorted(action.carries) == sorted([bought.id, given.id])


@pytest.mark.parametrize(("less", "left"), [(-60, -10), (-50, 0)])
def test_a_take_back_that_would_leave_no_seat_is_held_and_says_why(less, left):
    """Fifty seats; one raise carried forty more and gave back others. A person settled the latter by hand, and stopped the
    former."""
    more = log("new_york", 40, name="more", minutes_ago=9)
    given = log("new_york", less, name="given", minutes_ago=8)
    at = 50 + 40 + less
    row = carrying(at, raised(more, given, before=50))
    logs = (replace(more, status=FAILED), replace(given, status=PROVISIONED), own(40 + less))
    found = decided(family(row, subscription("new_york", at), logs=logs, provider=at_provider(50)))
    assert (found.stop.rule, found.actions) == ("LS-080", ())
    assert f"would have {left} seats" in found.stop.reason
    assert given.id in found.stop.reason and more.id in found.stop.remedy


def test_a_parent_that_had_no_seat_before_the_raise_has_none_after_its_take_back():
    first = log("new_york", 10, minutes_ago=9)
    row = carrying(10, raised(first, before=0), provider="manual")
    snapshot = family(row, subscription("new_york", 10), logs=(replace(first, status=FAILED), own(10)))
    (action,) = decided(snapshot, capabilities=MANUAL).actions
    assert (action.takes_back, action.target) == (True, 0)


def test_a_take_back_whose_names_do_not_fit_is_held_and_says_why():
    """Eighteen locations in one raise: one of them was stopped, and one settled by hand, so that the rest has to be named."""
    count = 18
    changes = [log(f"c{at}", 1, name=f"carry-{at}", minutes_ago=90 - at) for at in range(count)]
    children = [subscription(f"c{at}", 11) for at in range(count)]
    row = carrying(11 * count, raised(*changes, before=10 * count))
    logs = (replace(changes[0], status=PROVISIONED), *changes[1:3], replace(changes[3], status=FAILED), *changes[4:])
    found = decided(family(row, *children, logs=(*logs, own(count)), provider=at_provider(10 * count)))
    assert (found.stop.rule, found.actions) == ("LS-080", ())
    assert "no room" in found.stop.reason and changes[0].id in found.stop.remedy
    again = (changes[0], *logs[1:])
    (action,) = decided(family(row, *children, logs=(*again, own(count)), provider=at_provider(10 * count))).actions
    assert (action.takes_back, action.target) == (True, 10 * count)


def test_what_a_person_settled_by_hand_is_not_taken_back_with_all_the_rest():
    more, given = log("new_york", 40, name="more", minutes_ago=9), log("new_york", -60, name="given", minutes_ago=8)
    by_hand = log("memphis", 1, name="hand", minutes_ago=7)
    row = carrying(31, raised(more, given, by_hand, before=50))
    logs = (replace(more, status=FAILED), given, replace(by_hand, status=PROVISIONED), own(-19))
    children = (subscription("new_york", 30), subscription("memphis", 1))
    (action,) = decided(family(row, *children, logs=logs, provider=at_provider(50))).actions
    assert (action.takes_back, action.target, sorted(action.carries)) == (True, 51, sorted([more.id, given.id]))


def test_where_the_marker_has_no_room_for_one_all_that_the_crms_engine_carried_is_taken_back():
    stopped = replace(NEW_YORK, status=FAILED)
    row = parent(63, marker_text="a person's own words")
    logs = (stopped, MEMPHIS, own(10, age=7, name="own-1"), own(3, age=6, name="own-2"))
    snapshot = family(row, *rows(35, 18), logs=logs, provider=at_provider(50))
    targets = []
    for room in range(1, 101):
        found = decided(snapshot, pushes=True, room=room)
        targets.append(None if found.stop is not None else found.actions[0].target)
    assert list(dict.fromkeys(targets)) == [None, 50, 53]
