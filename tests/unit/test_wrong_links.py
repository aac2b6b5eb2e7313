"""A wrong link is named as that: one child's mistake is not told as drift of all, and no quantity is to be changed for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connector.domain.decide import decide
from connector.domain.rules.builtin import BUILTIN
from tests.families import FAILED, at_provider, environment, family, log, parent, subscription

CHANGE = log("new_york", 1)
OTHER, EMPTY = "CFQ7TTC0LF8R:0001", None


def stop(*strangers, seats=25, logs=()):
    children = (subscription("new_york", seats + 1), *strangers)
    found = decide(
        family(parent(seats), *children, logs=(CHANGE, *logs), provider=at_provider(seats)), environment(), BUILTIN
    )
    return found.stop


@pytest.mark.parametrize("part_number", [OTHER, EMPTY], ids=["another one", "none"])
def test_the_child_whose_part_number_is_not_the_parents_is_named_with_its_seats(part_number):
    found = stop(subscription("atlanta", 5, part_number=part_number))
    assert found.rule == "LS-011"
    assert f"'atlanta' (part number {part_number or 'empty'}, 5 seats)" in found.reason
    assert "change no quantity" in found.remedy


def test_all_of_them_are_named():
    found = stop(subscription("atlanta", 5, part_number=OTHER), subscription("memphis", 3, part_number=EMPTY))
    assert found.rule == "LS-011"
    assert "'atlanta'" in found.reason and "'memphis'" in found.reason


def test_a_change_of_its_own_that_was_refused_does_not_hide_it():
    refused = log("atlanta", 2, status=FAILED)
    found = stop(subscription("atlanta", 7, part_number=OTHER), logs=(refused,))
    assert (found.rule, "5 seats" in found.reason) == ("LS-011", True)


def test_drift_that_the_wrong_link_does_not_explain_is_drift():
    found = stop(subscription("atlanta", 5, part_number=OTHER), subscription("memphis", 3))
    assert found.rule == "LS-015"


def test_seats_that_came_with_a_link_may_go_with_it_before_a_quantity_is_changed():
    found = stop(subscription("atlanta", 5))
    assert found.rule == "LS-015"
    assert found.remedy.startswith("if 'atlanta' was linked here by mistake, link it to its own parent; else lower")


def test_a_child_that_stands_on_another_provider_is_not_in_the_sum_and_not_blamed():
    stranger = replace(subscription("atlanta", 5, part_number=OTHER), provider="do_nothing")
    assert stop(stranger) is None
