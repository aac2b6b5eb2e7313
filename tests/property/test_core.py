"""What holds for every family, sound or not."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property import checks
from tests.property.worlds import Drawn, anything

calm = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@calm
@given(st.data())
def test_the_order_in_which_rows_arrive_does_not_matter(data):
    pick = Drawn(data.draw)
    checks.order_of_rows_does_not_matter(pick, anything(pick))


@calm
@given(st.data())
def test_a_decision_never_depends_on_another_family(data):
    pick = Drawn(data.draw)
    checks.nothing_depends_on_another_family(pick, anything(pick))


@calm
@given(st.data())
def test_planning_after_a_perfect_apply_is_empty(data):
    pick = Drawn(data.draw)
    checks.planning_after_a_perfect_apply_is_empty(pick, anything(pick))


@calm
@given(st.data())
def test_every_change_is_decided_once_and_accepted_and_left_add_up_to_what_was_asked(data):
    pick = Drawn(data.draw)
    checks.every_change_is_decided_once_and_the_sums_agree(pick, anything(pick))


@calm
@given(st.data())
def test_what_is_sent_is_an_absolute_quantity_and_never_zero(data):
    pick = Drawn(data.draw)
    checks.what_is_sent_is_absolute_and_never_zero(pick, anything(pick))


@calm
@given(st.data())
def test_only_awaiting_or_carried_changes_are_touched_and_the_parent_is_settled_with_its_children(data):
    pick = Drawn(data.draw)
    checks.only_awaiting_or_carried_changes_are_touched(pick, anything(pick))


@calm
@given(st.data())
def test_nothing_is_accepted_that_a_rule_refuses(data):
    pick = Drawn(data.draw)
    checks.nothing_is_accepted_that_a_rule_refuses(pick, anything(pick))


@calm
@given(st.data())
def test_deciding_is_deterministic(data):
    pick = Drawn(data.draw)
    checks.deciding_is_deterministic(pick, anything(pick))


@calm
@given(st.data())
def test_seats_and_money_add_up_over_all_rounds(data):
    pick = Drawn(data.draw)
    checks.seats_and_money_add_up(pick, anything(pick))


@calm
@given(st.data())
def test_nothing_is_bought_that_nobody_asked_for(data):
    pick = Drawn(data.draw)
    checks.nothing_is_bought_that_nobody_asked_for(pick, anything(pick))
