from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from connector.http.gate import DeadlinePassed, RateGate
from tests.contract.http_fakes import START, FakeClock


def test_no_more_than_the_set_number_are_under_way() -> None:
    gate = RateGate(FakeClock(), concurrency=3)
    together = threading.Barrier(3)
    lock = threading.Lock()
    under_way, most = 0, 0

    def work(_: int) -> None:
        nonlocal under_way, most
        with gate.slot():
            with lock:
                under_way += 1
                most = max(most, under_way)
            together.wait(timeout=10)  # only passes when three are inside at once
            with lock:
                under_way -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))
    assert most == 3


def test_at_most_so_many_leave_in_any_minute() -> None:
    clock = FakeClock()
    gate = RateGate(clock, requests_per_minute=5)
    left = []
    for _ in range(23):
        with gate.slot():
            left.append(clock.time)
        clock.time += timedelta(seconds=1)
    for index in range(len(left) - 5):
        assert left[index + 5] - left[index] >= timedelta(seconds=60)


def test_a_429_closes_the_gate_halves_the_concurrency_and_calm_gives_it_back() -> None:
    clock = FakeClock()
    gate = RateGate(clock, concurrency=8)
    gate.close_for(30)
    gate.close_for(5)
    assert gate.concurrency == 4
    with gate.slot():
        assert clock.time == START + timedelta(seconds=30)
    for _ in range(200):
        with gate.slot():
            pass
    assert gate.concurrency == 8


def test_the_gate_does_not_wait_past_the_deadline_and_gives_its_slot_back() -> None:
    clock = FakeClock()
    gate = RateGate(clock, concurrency=1)
    gate.close_for(30)
    with pytest.raises(DeadlinePassed), gate.slot(START + timedelta(seconds=10)):
        pytest.fail("sent too early")
    with gate.slot(START + timedelta(seconds=40)):
        assert clock.time == START + timedelta(seconds=30)


def test_a_hint_from_the_service_sets_the_bound_and_never_below_one() -> None:
    gate = RateGate(FakeClock(), concurrency=2)
    gate.set_concurrency(16)
    assert gate.concurrency == 16
    gate.set_concurrency(0)
    assert gate.concurrency == 1


def test_a_gate_that_lets_nothing_through_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least one"):
        RateGate(FakeClock(), concurrency=0)


def test_an_end_of_the_process_inside_a_slot_gives_it_back() -> None:
    class Crash(BaseException):
        pass

    gate = RateGate(FakeClock(), concurrency=1)
    with pytest.raises(Crash), gate.slot():
        raise Crash
    with gate.slot():
        pass
