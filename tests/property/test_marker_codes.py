"""The marker as a code: what is written is read back, and nothing else is read as one."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, example, given
from hypothesis import strategies as st

from connector.domain import marker
from connector.domain.marker import Known, Unreadable, parse
from tests.families import PROVISIONED, log, marker_of, raised, taken_back

SEATS = st.integers(-40, 40).filter(bool)
MADE = st.lists(
    st.tuples(st.uuids().map(str), st.sampled_from("abc"), SEATS), unique_by=lambda one: one[0], max_size=24
)
KEPT = st.text(max_size=30)


def logs_of(made):
    return [log(child, seats, name=name, minutes_ago=500 - at) for at, (name, child, seats) in enumerate(made)]


def has_collision(logs):
    return len({marker.reference(entry.id) for entry in logs}) != len(logs)


@given(MADE, KEPT, st.data())
def test_a_marker_names_exactly_its_changes_whatever_the_order_in_which_logs_arrive(made, kept, data):
    logs = logs_of(made)
    assume(logs and not has_collision(logs))
    carried = [entry for entry in logs if data.draw(st.booleans())] or logs[:1]
    before = data.draw(st.integers(0, 5000))
    total = sum(entry.quantity for entry in carried)
    back = taken_back(before=max(0, before + total), delta=-total)
    text = str(marker_of(raised(*carried, before=before), back, kept=kept, known=logs))
    found = parse(text)
    turned = data.draw(st.permutations(logs))
    assert [set(changes) for _, changes in Known(turned).changes_of_all(found.groups)] == [set(carried), set(carried)]
    assert [group.before for group in found.groups] == [before, max(0, before + total)]
    assert (found.kept, str(found)) == (kept, text)


@given(MADE, st.data())
def test_logs_that_were_settled_or_made_since_change_nothing_of_what_a_marker_names(made, data):
    logs = logs_of(made)
    assume(logs and not has_collision(logs))
    known = logs[: data.draw(st.integers(1, len(logs)))]
    carried = [entry for entry in known if data.draw(st.booleans())] or known[:1]
    group = marker_of(raised(*carried, before=50), known=known).groups[0]
    later = [replace(entry, status=PROVISIONED) if data.draw(st.booleans()) else entry for entry in logs]
    assert {entry.id for entry in Known(later).changes_of(group)} == {entry.id for entry in carried}


@given(MADE)
def test_a_raise_of_all_changes_takes_no_more_room_than_two_references_for_each_child(made):
    logs = logs_of(made)
    assume(logs)
    children = {entry.subscription_id for entry in logs}
    assert len(marker_of(raised(*logs, before=50)).groups[0].runs) == len(children)
    assert marker_of(raised(*logs, before=50)).length <= len("ls2:1xiv3;1e+abc:") + 9 * len(children)


@given(st.none() | st.text() | st.text().map(lambda text: marker.PREFIX + text), MADE)
@example("ls2:", [])
@example("ls2:12;1e+1:AAAA", [("one", "a", 1)])
@example("ls2:12;1e+1:ÄÖÜß", [])
@example("LS2:12;1e+1:AAAA", [])
def test_no_text_of_a_person_makes_reading_fail_or_names_a_log_that_it_does_not_spell(text, made):
    known = Known(logs_of(made))
    try:
        found = parse(text)
        named = [entry for _, changes in known.changes_of_all(found.groups) for entry in changes]
    except Unreadable:
        assert text.startswith(marker.PREFIX)
        return
    assert bool(named) == bool(found.groups)
    spelled = {reference for group in found.groups for run in group.runs for reference in (run.first, run.last)}
    assert spelled <= {marker.reference(entry.id) for entry in named}
    if not marker.carries_anything(text):
        assert (found.groups, found.kept) == ((), text or "")


@given(MADE, st.integers(1, 60))
def test_a_marker_with_a_torn_tail_is_unreadable_unless_what_is_left_adds_up_exactly(made, torn):
    logs = logs_of(made)
    assume(logs and not has_collision(logs))
    text = str(marker_of(raised(*logs, before=50)))
    cut = text[: max(len(marker.PREFIX), len(text) - torn)]
    try:
        ((group, changes),) = Known(logs).changes_of_all(parse(cut).groups)
    except Unreadable:
        return
    assert sum(entry.quantity for entry in changes) == group.delta == sum(entry.quantity for entry in logs)
