"""A process may die between any two writes, and people do not wait for it: the next run understands what it finds."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property import checks
from tests.property.sweep import sweep
from tests.property.worlds import Drawn

calm = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@calm
@given(st.data())
def test_a_crash_changes_nothing_in_the_end(data):
    checks.a_crash_changes_nothing_in_the_end(Drawn(data.draw))


@calm
@given(st.data())
def test_a_crash_and_newcomers_end_as_if_all_had_been_there_from_the_start(data):
    checks.a_crash_and_newcomers_end_as_if_all_had_been_there_from_the_start(Drawn(data.draw))


@calm
@given(st.data())
def test_no_crash_ever_looks_like_drift_and_nothing_is_told_without_its_seats(data):
    checks.no_crash_ever_looks_like_drift(Drawn(data.draw))


@calm
@given(st.data())
def test_a_manual_parent_is_followed_step_by_step(data):
    checks.a_manual_parent_is_followed_step_by_step(Drawn(data.draw))


@calm
@given(st.data())
def test_netting_is_only_a_matter_of_order(data):
    checks.netting_is_only_a_matter_of_order(Drawn(data.draw))


@pytest.mark.parametrize("first", range(0, 1000, 250))
def test_a_thousand_random_worlds_break_nothing(first, capsys):
    found = sweep(250, first)
    assert not found, capsys.readouterr().out
