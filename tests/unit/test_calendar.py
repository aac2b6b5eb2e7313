"""When a licence change takes effect: local clock times as exact UTC instants, through every kind of zone change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from connector.domain.calendar import Calendar, end_of_day
from connector.domain.model import LogKind
from connector.domain.policy import Policy
from tests.families import log


def calendar(zone, increase="00:05", decrease="23:30"):
    return Calendar(ZoneInfo(zone), time.fromisoformat(increase), time.fromisoformat(decrease))


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


DAYS = [
    # zone, local day, 00:05 as UTC, 23:30 as UTC
    ("America/Los_Angeles", "2023-02-20", "2023-02-20T08:05", "2023-02-21T07:30"),  # the seed's own example
    ("UTC", "2026-03-02", "2026-03-02T00:05", "2026-03-02T23:30"),
    ("America/New_York", "2026-03-07", "2026-03-07T05:05", "2026-03-08T04:30"),  # the day before
    ("America/New_York", "2026-03-08", "2026-03-08T05:05", "2026-03-09T03:30"),  # 23 hours
    ("America/New_York", "2026-11-01", "2026-11-01T04:05", "2026-11-02T04:30"),  # 25 hours
    ("Europe/Berlin", "2026-03-29", "2026-03-28T23:05", "2026-03-29T21:30"),  # 23 hours
    ("Europe/Berlin", "2026-10-25", "2026-10-24T22:05", "2026-10-25T22:30"),  # 25 hours
    ("Asia/Kolkata", "2026-07-01", "2026-06-30T18:35", "2026-07-01T18:00"),
    ("Pacific/Apia", "2011-12-29", "2011-12-29T10:05", "2011-12-30T09:30"),  # UTC−10, the day before the jump
    ("Pacific/Apia", "2011-12-31", "2011-12-30T10:05", "2011-12-31T09:30"),  # UTC+14, the day after
    ("Pacific/Apia", "2026-06-15", "2026-06-14T11:05", "2026-06-15T10:30"),
    ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", "2018-11-05T01:30"),  # 00:05 does not exist
    ("America/Sao_Paulo", "2018-02-17", "2018-02-17T02:05", "2018-02-18T01:30"),  # 23:30 comes twice
    ("Asia/Beirut", "2022-03-27", "2022-03-26T22:00", "2022-03-27T20:30"),  # 00:05 does not exist
    ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:05", "2026-04-05T13:00"),  # half an hour of DST
    ("Europe/Berlin", "2024-02-29", "2024-02-28T23:05", "2024-02-29T22:30"),
    ("America/New_York", "2025-12-31", "2025-12-31T05:05", "2026-01-01T04:30"),
    ("Asia/Kolkata", "2026-01-01", "2025-12-31T18:35", "2026-01-01T18:00"),
]


@pytest.mark.parametrize(("zone", "day", "early", "late"), DAYS, ids=[f"{row[0]} {row[1]}" for row in DAYS])
def test_increases_take_effect_at_five_past_midnight_and_decreases_at_half_past_eleven_local_time(
    zone, day, early, late
):
    made = calendar(zone)
    assert made.scheduled_for(date.fromisoformat(day), 3) == utc(early)
    assert made.scheduled_for(date.fromisoformat(day), -3) == utc(late)


@pytest.mark.parametrize(
    ("zone", "day", "clock", "expected"),
    [
        ("America/New_York", "2026-03-08", "01:59", "2026-03-08T06:59"),
        ("America/New_York", "2026-03-08", "02:00", "2026-03-08T07:00"),  # the gap begins
        ("America/New_York", "2026-03-08", "02:30", "2026-03-08T07:00"),
        ("America/New_York", "2026-03-08", "03:00", "2026-03-08T07:00"),
        ("America/New_York", "2026-11-01", "01:30", "2026-11-01T05:30"),  # the first of the two
        ("America/New_York", "2026-11-01", "02:30", "2026-11-01T07:30"),
        ("Europe/Berlin", "2026-03-29", "02:30", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-10-25", "02:30", "2026-10-25T00:30"),  # the first of the two
        ("Europe/Berlin", "2026-10-25", "03:00", "2026-10-25T02:00"),
        ("Australia/Lord_Howe", "2026-10-04", "02:15", "2026-10-03T15:30"),
        ("Asia/Beirut", "2022-03-27", "00:30", "2022-03-26T22:00"),
        ("America/Sao_Paulo", "2018-11-04", "00:59", "2018-11-04T03:00"),
    ],
)
def test_a_time_in_a_gap_is_the_moment_of_the_change_and_a_repeated_one_is_the_first(zone, day, clock, expected):
    assert calendar(zone).instant(date.fromisoformat(day), time.fromisoformat(clock)) == utc(expected)


def test_a_day_that_the_zone_skipped_falls_on_the_moment_of_the_jump():
    made, skipped = calendar("Pacific/Apia"), date(2011, 12, 30)
    assert made.scheduled_for(skipped, 1) == made.scheduled_for(skipped, -1) == utc("2011-12-30T10:00")


@pytest.mark.parametrize(
    "zone", ["America/New_York", "Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia"]
)
def test_no_instant_ever_shows_an_earlier_wall_clock_than_was_asked_for_and_days_never_run_backwards(zone):
    made, day = calendar(zone), date(2010, 1, 1)
    previous = datetime.min.replace(tzinfo=UTC)
    while day < date(2020, 1, 1):
        early, late = made.scheduled_for(day, 1), made.scheduled_for(day, -1)
        for instant, clock in ((early, made.increase_time), (late, made.decrease_time)):
            assert instant.astimezone(made.zone).replace(tzinfo=None) >= datetime.combine(day, clock)
        assert previous <= early <= late
        previous, day = late, day + timedelta(days=1)


def test_both_clock_times_are_settings():
    made = calendar("Europe/Berlin", "06:00", "18:45")
    assert made.scheduled_for(date(2026, 1, 15), 1) == utc("2026-01-15T05:00")
    assert made.scheduled_for(date(2026, 1, 15), -1) == utc("2026-01-15T17:45")


def test_the_policys_zone_wins_over_the_crms_and_utc_is_the_last_resort():
    policy = Policy(time_zone="Asia/Kolkata", increase_time=time(1), decrease_time=time(22))
    made = Calendar.of(policy, "Europe/Berlin")
    assert (made.zone.key, made.increase_time, made.decrease_time) == ("Asia/Kolkata", time(1), time(22))
    assert Calendar.of(Policy(), "Europe/Berlin").zone.key == "Europe/Berlin"
    assert Calendar.of(Policy(), None).zone.key == "UTC"
    assert Calendar.of(Policy(), "").zone.key == "UTC"


def test_a_zone_of_the_crm_that_does_not_exist_is_not_guessed():
    with pytest.raises(ZoneInfoNotFoundError):
        Calendar.of(Policy(), "Mars/Olympus_Mons")


def test_a_change_without_dates_is_immediate_whatever_any_clock_says():
    made, ahead = calendar("UTC"), log("new_york", 1, minutes_ago=-60)
    assert made.scheduled_instant(ahead) is None
    assert made.is_due(ahead, ahead.created_on - timedelta(days=1))
    assert made.effective_instant(ahead) == ahead.created_on


def test_an_instant_is_taken_as_it_is():
    made, instant = calendar("America/New_York"), utc("2026-03-05T10:00")
    entry = log("new_york", -1, provision_on=instant)
    assert made.scheduled_instant(entry) == made.effective_instant(entry) == instant
    assert not made.is_due(entry, instant - timedelta(microseconds=1))
    assert made.is_due(entry, instant)


def test_a_bare_date_takes_the_clock_time_of_its_sign():
    made = calendar("America/New_York")
    assert made.scheduled_instant(log("new_york", 1, provision_on=date(2026, 3, 8))) == utc("2026-03-08T05:05")
    assert made.scheduled_instant(log("new_york", -1, provision_on=date(2026, 3, 8))) == utc("2026-03-09T03:30")


@pytest.mark.parametrize(
    ("kind", "quantity", "expected"),
    [
        (LogKind.ACTIVATE, None, "2026-03-08T00:05"),
        (LogKind.ACTIVATE, -5, "2026-03-08T00:05"),
        (LogKind.DEACTIVATE, None, "2026-03-08T23:30"),
        (LogKind.DEACTIVATE, 5, "2026-03-08T23:30"),
        (LogKind.UPDATE, 5, "2026-03-08T00:05"),
        (LogKind.UPDATE, -5, "2026-03-08T23:30"),
        (LogKind.UPDATE, None, "2026-03-08T23:30"),
        (LogKind.CREATE, 5, "2026-03-08T00:05"),
    ],
)
def test_activations_go_early_and_deactivations_late_whatever_their_quantity(kind, quantity, expected):
    entry = log("new_york", quantity, name="dated", kind=kind, provision_on=date(2026, 3, 8))
    assert calendar("UTC").scheduled_instant(entry) == utc(expected)


def test_an_effective_date_after_the_day_it_was_made_schedules_the_change():
    made = calendar("America/New_York")
    evening = utc("2026-03-02T04:59")  # still the first of March in New York
    assert made.scheduled_instant(log("new_york", 1, created_on=evening, effective_on=date(2026, 3, 2))) == utc(
        "2026-03-02T05:05"
    )
    assert made.scheduled_instant(log("new_york", 1, created_on=evening, effective_on=date(2026, 3, 1))) is None
    midnight = evening + timedelta(minutes=1)
    assert made.scheduled_instant(log("new_york", 1, created_on=midnight, effective_on=date(2026, 3, 2))) is None


def test_provision_on_wins_over_the_effective_date():
    entry = log("new_york", 1, effective_on=date(2026, 12, 1), provision_on=utc("2026-03-01T00:00"))
    assert calendar("UTC").scheduled_instant(entry) == utc("2026-03-01T00:00")


def test_the_end_of_a_day_is_its_last_microsecond_in_the_zone():
    tick = timedelta(microseconds=1)
    assert end_of_day(date(2026, 3, 8), ZoneInfo("America/New_York")) == utc("2026-03-09T04:00") - tick
    assert end_of_day(date(2026, 11, 1), ZoneInfo("America/New_York")) == utc("2026-11-02T05:00") - tick
    assert end_of_day(date(2024, 2, 28), UTC) == utc("2024-02-29T00:00") - tick
