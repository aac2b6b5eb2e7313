"""Many changes at once: what the marker names, what is told in slices, and what waits for room (design §4.2)."""

from __future__ import annotations

from dataclasses import replace

from connector.domain.decision import Accept, Hold, Wait
from connector.domain.plan import Acknowledge
from connector.domain.rounds import simulate
from connector.domain.seats import balance
from tests.families import (
    AWAITING,
    PROVISIONED,
    at_provider,
    environment,
    family,
    log,
    parent,
    subscription,
)
from tests.unit.raises import decided, ids, on_its_way, own, played, rows, steps


def many(count, seats=lambda number: 1, child=lambda number: "new_york"):
    return tuple(
        log(child(number), seats(number), name=f"n{number:05}", minutes_ago=9000 - number) for number in range(count)
    )


def test_two_thousand_neighbouring_changes_of_one_child_are_one_run_and_one_order():
    logs = many(2000)
    plan, world = played(family(parent(50), *rows(2025), logs=logs, provider=at_provider(50)))
    raise_ = plan.actions[0]
    assert (raise_.target, len(raise_.carries), len(raise_.marker.groups[0].runs)) == (2050, 2000, 1)
    assert [step for step in steps(plan.actions) if step[0] == "provider"] == [("provider", 2050)]
    assert {entry.status for entry in world.logs} == {PROVISIONED}
    assert world.parent.marker_text == ""


def test_more_than_nine_hundred_changes_are_told_in_slices_that_the_group_explains():
    plan, world = played(family(parent(50), *rows(2025), logs=many(2000), provider=at_provider(50)))
    told = [action for action in plan.actions if isinstance(action, Acknowledge)]
    assert [len(action.child_logs) for action in told] == [900, 900, 200]
    assert [len(action.marker.groups) for action in told] == [1, 1, 0]
    assert world.parent.quantity == world.provider.quantity == 2050


def test_more_than_nine_hundred_changes_that_net_to_nothing_are_told_in_slices_too():
    logs = many(1000, lambda number: 1 if number % 2 else -1, lambda number: "new_york" if number % 2 else "memphis")
    children = (subscription("atlanta", 10), subscription("new_york", 1000), subscription("memphis", 1000))
    snapshot = family(parent(2010), *children, logs=logs, provider=at_provider(2010))
    snapshot = replace(
        snapshot, children=(children[0], replace(children[1], quantity=1500), replace(children[2], quantity=500))
    )
    plan, world = played(snapshot)
    raise_, *told = plan.actions
    assert (raise_.before, raise_.target, len(raise_.carries)) == (2010, 2010, 1000)
    assert [len(action.child_logs) for action in told] == [900, 100]
    assert (world.provider.quantity, world.parent.quantity, world.parent.marker_text) == (2010, 2010, "")
    assert {entry.status for entry in world.logs} == {PROVISIONED}


def test_after_a_death_between_two_slices_the_rest_is_told_without_another_order():
    snapshot = family(parent(50), *rows(2025), logs=many(2000), provider=at_provider(50))
    first = decided(snapshot)
    after_first_slice = simulate(snapshot, first, environment())
    assert ids(balance(after_first_slice).told_late) == [f"n{number:05}" for number in range(900, 2000)]
    assert {kind for kind, _ in steps(played(after_first_slice)[0].actions)} == {"tell"}


def test_what_does_not_fit_into_the_marker_waits_for_the_next_raise_and_is_told():
    changes = tuple(
        log(f"c{number:02}", 1, name=f"change-{number:02}", minutes_ago=60 - number) for number in range(30)
    )
    children = tuple(subscription(f"c{number:02}", 2) for number in range(30))
    snapshot = family(parent(30), *children, logs=changes, provider=at_provider(30))
    found = decided(snapshot, room=100)
    waiting = [log_id for log_id, each in found.decisions.items() if isinstance(each, Wait)]
    assert {found.decisions[log_id].rule for log_id in waiting} == {"LS-061"}
    assert set(waiting) == {f"change-{number:02}" for number in range(30 - len(waiting), 30)}
    raise_ = found.actions[0]
    assert raise_.marker.length <= 100 - len(";1m-m!:*")
    plan, world = played(snapshot, room=100)
    assert world.parent.quantity == world.provider.quantity == 60
    assert all(isinstance(each, Accept) for each in plan.decisions.values())


def test_a_change_that_finds_no_room_beside_an_earlier_raise_waits_and_beside_a_persons_text_is_held():
    newcomer = log("memphis", 3, minutes_ago=2)
    snapshot = on_its_way(own(10, AWAITING), provider=50)
    beside_a_raise = replace(snapshot, children=rows(35, 18), logs=(*snapshot.logs, newcomer))
    assert isinstance(decided(beside_a_raise, room=32).decisions[newcomer.id], Wait)
    told, world = played(beside_a_raise, room=32)
    assert isinstance(told.decisions[newcomer.id], Accept)
    assert world.provider.quantity == 63
    alone = family(parent(50, marker_text="a long order reference"), *rows(25, 18), logs=(newcomer,))
    held = decided(alone, room=40).decisions[newcomer.id]
    assert (type(held), held.rule) == (Hold, "LS-061")
    assert isinstance(decided(alone, room=60).decisions[newcomer.id], Accept)
