"""The marker as a code: what is written is read back, and nothing else is read as one."""

from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st

from connector.domain import marker
from tests.families import log

NAMES = st.lists(st.uuids().map(str), unique=True, max_size=24)


def made(names):
    return [log("new_york", 1, name=name) for name in names]


def has_collision(logs):
    return len({marker.reference(entry.id) for entry in logs}) != len(logs)


@given(NAMES, st.randoms(use_true_random=False))
def test_a_marker_names_exactly_its_logs_whatever_the_order_of_the_candidates(names, random):
    logs = made(names)
    assume(not has_collision(logs))
    carried = logs[: len(logs) // 2]
    text = marker.encode(carried)
    random.shuffle(logs)
    assert marker.decode(text, logs) == tuple(entry for entry in logs if entry in carried)


@given(NAMES)
def test_logs_that_were_settled_since_are_not_missed(names):
    logs = made(names)
    assume(not has_collision(logs))
    assert marker.decode(marker.encode(logs), logs[::2]) == tuple(logs[::2])


@given(st.integers(0, 400))
def test_as_many_logs_as_the_capacity_says_fit_into_the_column_and_not_one_more(length):
    room = marker.capacity(length)
    text = marker.encode(made(f"log-{number}" for number in range(room)))
    assert len(text) <= max(length, len(marker.PREFIX))
    assert len(text) + 4 > length


@given(st.none() | st.text() | st.text().map(lambda text: marker.PREFIX + text), NAMES)
@example("ls1:", ["a"])
@example("ls1:AAAA", ["a"])
@example("ls1:AAA", ["a"])
@example("ls1:ÄÖÜß", ["a"])
@example("LS1:AAAA", ["a"])
def test_no_text_of_a_person_makes_reading_fail_or_names_a_log_that_it_does_not_spell(text, names):
    logs = made(names)
    found = marker.decode(text, logs)
    if not marker.is_marker(text):
        assert found is None
    elif found is not None:
        assert all(marker.reference(entry.id) in text for entry in found)


@given(NAMES, st.sampled_from([" ", "x", "xx", "xxx"]))
def test_a_marker_with_a_torn_tail_is_no_marker(names, tail):
    if len(tail) % 4:
        assert not marker.is_marker(marker.encode(made(names)) + tail)
