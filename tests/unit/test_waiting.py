"""Waiting for a family: what comes by itself is looked at from time to time, what a service named is waited out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from connector.sync.pauses import Pause, rest

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
IN_AN_HOUR = NOW + timedelta(hours=1)


class StepClock:
    """Time moves by what is slept."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def rested(pause: Pause, *, deadline: datetime = IN_AN_HOUR, stop: str | None = None) -> tuple[bool, timedelta]:
    clock = StepClock()
    return rest(pause, clock, lambda: stop, deadline), clock.at - NOW


def test_what_comes_by_itself_is_looked_at_every_half_minute_since_another_host_may_have_ended_it() -> None:
    pause = Pause(NOW + timedelta(minutes=10), "another host is ordering", patient=True)
    assert rested(pause) == (True, timedelta(seconds=30))


def test_what_is_due_sooner_is_looked_at_when_it_is_due() -> None:
    assert rested(Pause(NOW + timedelta(seconds=5), "the log is made", patient=True)) == (True, timedelta(seconds=5))


def test_a_time_that_a_service_named_is_waited_out() -> None:
    assert rested(Pause(NOW + timedelta(seconds=90), "busy")) == (True, timedelta(seconds=90))


@pytest.mark.parametrize("patient", [True, False])
def test_what_ends_after_the_run_is_not_waited_for_at_all(patient: bool) -> None:
    pause = Pause(NOW + timedelta(minutes=10), "later", patient=patient)
    assert rested(pause, deadline=NOW + timedelta(minutes=5)) == (False, timedelta(0))


def test_a_wish_to_stop_ends_a_wait() -> None:
    assert rested(Pause(NOW + timedelta(seconds=90), "busy"), stop="asked to")[0] is False
