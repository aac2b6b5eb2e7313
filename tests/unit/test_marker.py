"""The marker on the parent's row: what is written there, and what is read from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from connector.domain import marker
from connector.domain.marker import Group, Known, Marker, Run, Unreadable, group_of, parse
from connector.domain.model import LogKind
from connector.domain.seats import moves_seats
from tests.families import log, marker_of, raised, taken_back

FIRST, SECOND, THIRD, FOURTH = (
    log("new_york", 1, name=name, minutes_ago=age)
    for name, age in (("first", 9), ("second", 8), ("third", 7), ("fourth", 6))
)
OTHER = log("memphis", 5, name="other")


def twins():
    """Two logs whose references are the same, by brute force."""
    seen = {}
    for number in range(60_000):
        name = f"log-{number}"
        other = seen.setdefault(marker.reference(name), name)
        if other != name:
            return log("new_york", 1, name=other), log("memphis", 1, name=name)
    raise AssertionError("24 bits without a collision in 60000 names")


def names(changes):
    return [entry.id for entry in changes]


def test_the_text_never_changes_between_versions_because_it_is_stored_in_the_crm():
    assert marker.reference(FIRST.id) == "p5N7"
    text = str(marker_of(raised(FIRST, SECOND, before=50), taken_back(SECOND, before=52), kept="PO 17"))
    assert text == "ls2:1xiv3;1e+2:p5N7.FjZ6;1g-1!:FjZ6|PO 17"
    assert str(marker_of(raised(FIRST, before=50), taken_back(before=51, delta=-1))).endswith(";1f-1!:*")


def test_a_raise_names_the_parents_newest_log_that_could_be_taken_for_its_own():
    own = [log("parent", seats, name=f"own-{at}", minutes_ago=5 - at) for at, seats in enumerate((2, 2, 3))]
    written = marker_of(raised(FIRST, SECOND, before=50, own=(own[1], own[0], own[2])))
    assert written.groups[0].after == marker.reference(own[1].id)
    assert str(written).endswith(f";1e+2~{marker.reference(own[1].id)}:p5N7.FjZ6")
    assert parse(str(written)) == written
    old = log("parent", 2, name="old", minutes_ago=9000)
    assert marker_of(raised(FIRST, SECOND, before=50, own=(old, own[2]))).groups[0].after == ""


def test_at_rest_the_column_holds_what_a_person_had_there():
    assert str(Marker(kept="PO 17")) == "PO 17"
    assert str(Marker()) == ""


def test_what_was_written_is_read_back_with_the_persons_text():
    written = marker_of(raised(FIRST, OTHER, before=50), taken_back(before=56, delta=-6), kept="PO 17;|ls2:\nx")
    assert parse(str(written)) == written


@pytest.mark.parametrize("text", [None, "", "PO 4711", "ls2", "ls1:abcd", " ls2:1;1+1:abcd", "LS2:1;1+1:abcd"])
def test_a_persons_text_is_not_taken_for_a_marker(text):
    assert parse(text) == Marker(kept=text or "")
    assert not marker.carries_anything(text)


@pytest.mark.parametrize(
    "text",
    [
        "ls2:",
        "ls2:12",
        "ls2:12;",
        "ls2:12;1e+2",
        "ls2:12;1e+2:",
        "ls2:12;1e+2:p5N",
        "ls2:12;1e+2:p5N7.",
        "ls2:12;1e+2:p5N7.FjZ",
        "ls2:12;1e2:p5N7",
        "ls2:12;1e+2?:p5N7",
        "ls2:12;1E+2:p5N7",
        "ls2:12;1e+2:p5N7;;1g-1!:FjZ6",
        "ls2:12;1e+2:p5N7*",
        "ls2:zzzzzzzzz;1e+2:p5N7",
    ],
)
def test_a_marker_that_was_cut_or_altered_is_unreadable_and_never_half_read(text):
    with pytest.raises(Unreadable):
        parse(text)


def test_a_run_covers_neighbours_only_so_that_no_log_between_is_named_by_accident():
    known = Known([FIRST, SECOND, THIRD, FOURTH])
    group = group_of([FIRST, THIRD, FOURTH], known, before=50)
    assert [len(str(run)) for run in group.runs] == [4, 9]
    assert names(known.changes_of(group)) == ["first", "third", "fourth"]


def test_price_only_logs_and_those_of_zero_seats_break_no_run():
    audit = log("new_york", 0, name="audit", minutes_ago=8, kind=LogKind.AUDIT)
    group = group_of([FIRST, THIRD], Known([FIRST, audit, THIRD]), before=50)
    assert group.runs == (Run(marker.reference(FIRST.id), marker.reference(THIRD.id)),)


def test_runs_follow_the_order_of_making_which_no_edit_changes():
    known = Known([FIRST, SECOND, THIRD])
    group = group_of([FIRST, SECOND, THIRD], known, before=50)
    dated = replace(SECOND, provision_on=datetime(2030, 1, 1, tzinfo=UTC), etag='W/"9"')
    assert names(Known([THIRD, FIRST, dated]).changes_of(group)) == ["first", "second", "third"]


def test_two_thousand_neighbouring_changes_of_one_child_are_one_run():
    changes = [log("new_york", 1, name=f"n{number:04}", minutes_ago=3000 - number) for number in range(2000)]
    group = group_of(changes, Known(changes), before=50)
    assert (len(group.runs), group.delta, len(str(group))) == (1, 2000, 16)
    assert len(Known(changes).changes_of(group)) == 2000


def test_two_changes_that_share_a_named_reference_make_the_marker_unreadable():
    one, other = twins()
    group = group_of([one], Known([one]), before=50)
    assert Known([one, FIRST]).changes_of(group) == (one,)
    with pytest.raises(Unreadable, match="share the reference"):
        Known([one, other, FIRST]).changes_of(group)


def test_twins_that_the_marker_does_not_name_do_not_disturb_it():
    group = group_of([FIRST], Known([FIRST]), before=50)
    assert Known([*twins(), FIRST]).changes_of(group) == (FIRST,)


def test_a_change_that_is_nobodys_child_any_more_makes_the_marker_unreadable():
    with pytest.raises(Unreadable, match="not among those of the parent's children"):
        Known([SECOND]).changes_of(group_of([FIRST], Known([FIRST]), before=50))


@pytest.mark.parametrize(("first", "last"), [(THIRD, FIRST), (FIRST, OTHER)])
def test_a_run_backwards_or_from_one_child_to_another_is_none(first, last):
    group = Group((Run(marker.reference(first.id), marker.reference(last.id)),), 2, 50)
    with pytest.raises(Unreadable, match="no order"):
        Known([FIRST, SECOND, THIRD, OTHER]).changes_of(group)


def test_a_group_whose_changes_do_not_add_up_to_its_delta_is_not_believed():
    known = Known([FIRST, OTHER])
    group = group_of([FIRST, OTHER], known, before=50)
    assert names(known.changes_of_all([group])[0][1]) == ["first", "other"]
    with pytest.raises(Unreadable, match=r"add up to \+6 and it says \+5"):
        known.changes_of_all([replace(group, delta=5)])
    back = group_of([OTHER], known, before=56, back=True)
    assert back.delta == -5
    with pytest.raises(Unreadable):
        known.changes_of_all([replace(back, delta=5)])


def test_a_star_names_all_changes_of_the_group_before_and_none_without_one():
    known = Known([FIRST, OTHER])
    group, star = group_of([FIRST, OTHER], known, before=50), Group((), -6, 56, back=True)
    assert names(known.changes_of_all([group, star])[1][1]) == ["first", "other"]
    with pytest.raises(Unreadable):
        known.changes_of_all([star])


def test_room_is_counted_in_utf_16_units_as_dataverse_counts():
    plain = marker_of(raised(FIRST, before=50))
    assert replace(plain, kept="ab").length == plain.length + 3
    assert replace(plain, kept="🦉🦉").length == plain.length + 5
    assert plain.length == len(str(plain))


def test_the_marker_says_from_which_minute_on_logs_are_needed():
    written = marker_of(raised(OTHER, SECOND, before=50), raised(FIRST, before=56))
    assert written.since == FIRST.created_on == marker.oldest(str(written))
    odd = replace(FIRST, created_on=FIRST.created_on + timedelta(seconds=59))
    assert marker_of(raised(odd, before=50)).since == FIRST.created_on
    assert marker.since_of([]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ls2:0;", datetime(2020, 1, 1, tzinfo=UTC)),
        ("ls2:1f4s8;the rest", datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=int("1f4s8", 36))),
        ("ls2:1f4s8", datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=int("1f4s8", 36))),
        ("ls2:zzzzzzz;", None),
        ("ls2:;", None),
        ("ls2:A1;", None),
        (" ls2:1;", None),
        ("ls1:abcd", None),
        ("PO 4711", None),
        ("", None),
        (None, None),
    ],
)
def test_even_an_altered_marker_says_from_when_on_logs_are_needed_and_no_other_text_does(
    text: str | None, expected: datetime | None
) -> None:
    assert marker.oldest(text) == expected


def test_only_changes_that_move_seats_are_known():
    assert not moves_seats(log("new_york", 0))
    assert Known([log("new_york", 0)]).by_child == {}


def test_a_marker_names_a_group_as_a_whole_and_never_its_beginning_or_a_persons_words():
    one = group_of([FIRST], Known([FIRST]), before=50)
    text = str(marker_of(raised(FIRST, THIRD, before=50), kept=f"PO 17;{one}"))
    assert marker.names(text, str(parse(text).groups[0]))
    assert not marker.names(text, str(one))
    assert not marker.names(text, str(parse(text).groups[0])[:-4])
    assert not marker.names(text[:9], str(one))
    assert not marker.names(None, str(one))


def test_a_group_before_which_there_was_less_than_nothing_has_a_text_that_nobody_reads():
    text = str(marker_of(replace(raised(FIRST, before=50), before=-19)))
    with pytest.raises(Unreadable):
        parse(text)
