"""What an order rests on: the provider's word right before the rows, and no other host that is just about to order."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.harness.faults import Kind
from tests.support.deaths import Play, World

pytestmark = pytest.mark.usefixtures("quiet_logs")

GROW = {"change": {"subscription": "ny", "by": 10}}
ANOTHER_WINDOW = {"crm_change": {"subscription": "memphis", "reduction": "within_window", "reduction_days": 7}}
"""With it the logs of Create belong to the family: one request is not enough to read it again."""
ANOTHER_CHANGE = {"change": {"subscription": "atlanta", "by": 3}}
"""Where it comes in while the parent is raised, the parent is raised again."""


def _undisturbed() -> Play:
    play = Play(World())
    play.do([GROW])
    assert play.run(0)
    return play


def _between(play: Play) -> list[int]:
    """For each order of the last pass: how many calls lie between the provider's last word and it."""
    at = [number for number, (service, _, _) in enumerate(play.seen) if service == "partner_center"]
    return [there - here - 1 for here, there in pairwise(at) if play.seen[there][1]]


def test_between_the_providers_word_and_the_order_lie_the_rows_and_the_raise() -> None:
    assert _between(_undisturbed()) == [2]


@pytest.mark.parametrize("call", range(1, 15))
@pytest.mark.parametrize(
    ("happens", "orders"), [(ANOTHER_WINDOW, {1}), (ANOTHER_CHANGE, {1, 2})], ids=["read in rounds", "raised twice"]
)
def test_whatever_happens_to_the_family_at_any_call_no_more_lies_between_them(
    happens: dict[str, Any], orders: set[int], call: int
) -> None:
    play = Play(World())
    play.do([GROW])
    assert play.run(0, people_at=(call, [happens]))
    assert play.orders() == len(_between(play))
    assert play.orders() in orders
    assert all(each <= 2 for each in _between(play)), play.seen


def _raised_by_one() -> Play:
    """Host one died when it had raised the parent, before its order."""
    seen = _undisturbed().seen
    raised = next(number for number, (_, writes, _) in enumerate(seen, 1) if writes)
    play = Play(World())
    play.do([GROW])
    assert not play.run(0, (raised, Kind.CRASH_AFTER))
    return play


def test_a_raise_that_another_host_made_just_now_is_left_to_it_for_ten_seconds() -> None:
    play = _raised_by_one()
    raised_at = play.sandbox.clock.now()
    assert play.run(1)
    (ordered_at,) = [at for service, writes, at in play.seen if service == "partner_center" and writes]
    assert timedelta(seconds=10) <= ordered_at - raised_at < timedelta(seconds=30)
    assert _between(play) == [1]


def test_nor_is_the_parent_raised_again_or_anything_taken_back_meanwhile() -> None:
    for happens in (
        {"change": {"subscription": "memphis", "by": 3}},
        {"set_lcl": {"subscription": "ny", "index": 0, "status": "Failed"}},
    ):
        play = _raised_by_one()
        raised_at = play.sandbox.clock.now()
        play.do([happens])
        assert play.run(1)
        written = [at for _, writes, at in play.seen if writes]
        assert written and written[0] - raised_at >= timedelta(seconds=10)


def test_if_that_host_orders_meanwhile_the_second_one_does_not() -> None:
    play = _raised_by_one()
    assert play.run(0)  # the same disk, so this is the host that raised it
    orders = play.orders()
    play.do([{"change": {"subscription": "ny", "by": 3}}])
    assert play.run(1)
    assert play.orders() == orders + 1


def test_a_raise_that_another_host_made_long_ago_is_taken_over_at_once() -> None:
    play = _raised_by_one()
    play.wait()
    began = play.sandbox.clock.now()
    assert play.run(1)
    assert play.orders() == 1
    assert play.sandbox.clock.now() == began
