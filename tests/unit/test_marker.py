"""The marker in the parent's Order Reference."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from connector.domain import marker
from tests.families import log

FIRST, SECOND, THIRD = (log("new_york", 1, name=name) for name in ("first", "second", "third"))


def twins():
    """Two logs whose references are the same, by brute force."""
    seen = {}
    for number in range(60_000):
        name = f"log-{number}"
        other = seen.setdefault(marker.reference(name), name)
        if other != name:
            return log("new_york", 1, name=other), log("memphis", 1, name=name)
    raise AssertionError("24 bits without a collision in 60000 names")


def test_a_reference_never_changes_between_versions_because_it_is_stored_in_the_crm():
    assert marker.encode([FIRST, SECOND]) == "ls1:p5N7FjZ6"


def test_a_marker_of_nothing_names_nothing():
    assert marker.decode(marker.encode([]), [FIRST]) == ()


def test_the_candidates_come_back_in_their_own_order():
    assert marker.decode(marker.encode([FIRST, SECOND]), [THIRD, SECOND, FIRST]) == (SECOND, FIRST)


@pytest.mark.parametrize("text", [None, "", "PO 4711", "ls1", "ls1:abc", "ls2:abcd", " ls1:abcd"])
def test_a_persons_order_reference_is_not_taken_for_a_marker(text):
    assert not marker.is_marker(text)
    assert marker.decode(text, [FIRST]) is None


def test_two_candidates_that_share_a_named_reference_make_the_marker_ambiguous():
    one, other = twins()
    assert marker.decode(marker.encode([one]), [one, other, FIRST]) is None
    assert marker.decode(marker.encode([one]), [one, FIRST]) == (one,)


def test_twins_that_the_marker_does_not_name_do_not_disturb_it():
    assert marker.decode(marker.encode([FIRST]), [*twins(), FIRST]) == (FIRST,)


@pytest.mark.parametrize(("length", "room"), [(0, 0), (3, 0), (4, 0), (7, 0), (8, 1), (100, 24), (103, 24), (104, 25)])
def test_the_capacity_of_a_column_is_whole_references_after_the_prefix(length, room):
    assert marker.capacity(length) == room


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ls2:0;", datetime(2020, 1, 1, tzinfo=UTC)),
        ("ls2:1f4s8;the rest", datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=int("1f4s8", 36))),
        ("ls2:zzzzzzzz;", None),
        ("ls2:zzzzzzzzz;", None),
        ("ls2:;", None),
        ("ls2:12", None),
        ("ls2:A1;", None),
        (" ls2:1;", None),
        ("ls1:abcd", None),
        ("PO 4711", None),
        ("", None),
        (None, None),
    ],
)
def test_the_marker_on_a_row_says_when_its_oldest_change_was_made_and_no_other_text_does(
    text: str | None, expected: datetime | None
) -> None:
    assert marker.oldest(text) == expected
