"""The sandbox's clock stops at every appointment on the way, in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from connector.sandbox.clock import SandboxClock, as_utc, wire_instant

START = datetime(2026, 3, 2, 14, tzinfo=UTC)


class Diary:
    """Appointments that note at what time they were kept."""

    def __init__(self, clock: SandboxClock, name: str, kept: list[tuple[str, datetime]], *hours: int) -> None:
        self.clock, self.name, self.kept = clock, name, kept
        self.open = [START + timedelta(hours=hour) for hour in hours]

    def next_due(self) -> datetime | None:
        return min(self.open, default=None)

    def run_due(self, now: datetime) -> None:
        assert now == self.clock.now()
        due = [moment for moment in self.open if moment <= now]
        self.open = [moment for moment in self.open if moment > now]
        self.kept += [(self.name, now)] * len(due)


def test_appointments_of_several_observers_are_kept_in_order_of_time() -> None:
    clock, kept = SandboxClock(START), list[tuple[str, datetime]]()
    clock.observe(Diary(clock, "a", kept, 1, 5))
    clock.observe(Diary(clock, "b", kept, 3, 9))
    clock.advance(timedelta(hours=8))
    assert kept == [
        ("a", START + timedelta(hours=1)),
        ("b", START + timedelta(hours=3)),
        ("a", START + timedelta(hours=5)),
    ]
    assert clock.now() == START + timedelta(hours=8)


def test_what_is_overdue_happens_at_once_and_not_in_the_past() -> None:
    clock, kept = SandboxClock(START), list[tuple[str, datetime]]()
    clock.observe(Diary(clock, "late", kept, -5))
    clock.sleep(1)
    assert kept == [("late", START)]


def test_the_clock_never_runs_backwards() -> None:
    clock = SandboxClock(START)
    with pytest.raises(ValueError, match="never runs backwards"):
        clock.set(START - timedelta(seconds=1))


def test_an_observer_that_leaves_work_undone_is_found_out() -> None:
    class Lazy(Diary):
        def run_due(self, now: datetime) -> None:
            """Does nothing."""

    clock = SandboxClock(START)
    clock.observe(Lazy(clock, "lazy", [], 1))
    with pytest.raises(RuntimeError, match="Lazy left something undone"):
        clock.advance(timedelta(hours=2))


def test_instants_are_utc_whatever_they_came_in() -> None:
    assert as_utc(datetime(2026, 3, 2, 14)) == START  # noqa: DTZ001 - a naive instant is the point
    assert as_utc(datetime(2026, 3, 2, 9, tzinfo=timezone(timedelta(hours=-5)))) == START
    assert wire_instant(START) == "2026-03-02T14:00:00Z"
