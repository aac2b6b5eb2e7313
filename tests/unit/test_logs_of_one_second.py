"""Logs that the CRM made within one second stand in no order: what tells them apart is the marker alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest

from connector.domain.marker import Known, Marker, group_of, since_of
from connector.domain.model import LogId
from connector.domain.seats import balance
from tests.families import family, log, parent, subscription


def in_flight(ids, *raises):
    """A family whose parent was raised within one second, once for each (changes, back); its logs get these ids."""
    changes = list(dict.fromkeys(change for carried, _ in raises for change in carried))
    known, quantity, groups, own = Known(changes), 50, [], []
    made = max(change.created_on for change in changes) + timedelta(seconds=1)
    for number, (carried, back) in enumerate(raises):
        group = group_of(carried, known, before=quantity, back=back)
        groups.append(group)
        quantity += group.delta
        own.append(replace(log("parent", group.delta, name=f"own-{number}"), id=LogId(ids[number]), created_on=made))
    text = str(Marker(tuple(groups), "", since_of(changes)))
    rows = {"new_york": 30, "atlanta": 20}
    for change in changes:
        rows[str(change.subscription_id)] += change.quantity
    children = [subscription(name, seats) for name, seats in rows.items()]
    return family(replace(parent(quantity), marker_text=text), *children, logs=(*changes, *own))


@pytest.mark.parametrize("ids", list(permutations(("own-a", "own-b"))))
def test_two_raises_within_one_second_are_read_in_the_order_of_the_marker(ids):
    first, second = log("new_york", 10), log("atlanta", 3)
    books = balance(in_flight(ids, ((first,), False), ((second,), False)))
    assert books.lead_is_explained and books.surplus == 0
    assert {change.id for change in books.carried or ()} == {first.id, second.id}
    assert books.waypoints() == (50, 60, 63)


@pytest.mark.parametrize("ids", list(permutations(("own-a", "own-b"))))
def test_a_raise_and_its_take_back_within_one_second_are_both_found(ids):
    change = log("new_york", 10)
    books = balance(in_flight(ids, ((change,), False), ((change,), True)))
    assert not books.without_log and books.unreadable is None
    assert books.waypoints() == (50, 60, 50)
