"""What a run asks of the journal's past before it sends: what had no answer, what was sent, what was confirmed, whose marker it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from connector.errors import JournalError
from connector.journal import open_journal, open_rehearsal
from connector.sync.ports import IntentKind, IntentState, Journal
from tests.unit.test_journal_port import (
    CONFIRMED,
    FAMILY,
    LATER,
    NOW,
    OTHER,
    REJECTED,
    RUN,
    SENDING,
    SETTLED,
    UNKNOWN,
    AnyJournal,
    an_intent,
)

from .conftest import OpenJournal

MINUTE = timedelta(minutes=1)
PURCHASE, SCHEDULE = IntentKind.QUANTITY, IntentKind.SCHEDULE


def told(
    journal: AnyJournal, number: int, *steps: IntentState, family=FAMILY, kind: IntentKind = PURCHASE, group: str = ""
) -> None:
    """Intent N, planned N minutes after NOW; each step comes a second after the one before."""
    at = NOW + number * MINUTE
    journal.plan(replace(an_intent(number, family, at), kind=kind, group=group))
    for seconds, step in enumerate(steps, 1):
        journal.mark(f"intent-{number}", step, at + timedelta(seconds=seconds))


def ids(intents) -> list[str]:
    return [intent.id for intent in intents]


def test_the_questions_are_part_of_the_port(journal: AnyJournal) -> None:
    as_port: Journal = journal
    assert as_port.unanswered(NOW) == []
    assert as_port.sent(FAMILY, NOW) == []
    assert as_port.last_confirmed(FAMILY) is None
    assert as_port.noted_markers(FAMILY) == ()


def test_purpose_and_group_come_back_as_they_were_and_are_sealed(journal: AnyJournal) -> None:
    journal.begin_run(RUN)
    told(journal, 1, SENDING, kind=SCHEDULE, group="ab12:3 §\x00")
    told(journal, 2, group="")
    one = journal.get_intent("intent-1")
    assert (one.kind, one.group) == (SCHEDULE, "ab12:3 §\N{REPLACEMENT CHARACTER}")
    assert (journal.get_intent("intent-2").kind, journal.get_intent("intent-2").group) == (PURCHASE, "")
    assert journal.verify() == []
    exported = [document for document in journal.export() if document["kind"] == "intent"]
    assert [(document["purpose"], document["group"]) for document in exported] == [
        ("schedule", one.group),
        ("quantity", ""),
    ]


@pytest.mark.parametrize("change", ["purpose = 'quantity'", "marker_group = 'another'"])
def test_a_changed_purpose_or_group_shows(reopen: OpenJournal, change: str) -> None:
    from sqlalchemy import text

    with reopen() as journal:
        journal.begin_run(RUN)
        told(journal, 1, SENDING, kind=SCHEDULE, group="one")
        with journal._engine.connect() as connection, connection.begin():
            connection.execute(text(f"UPDATE intents SET {change}"))
        assert any("is not what was recorded" in problem for problem in journal.verify())
        with pytest.raises(JournalError, match="not what was recorded"):
            journal.open_intents()
        with pytest.raises(JournalError, match="not what was recorded"):
            journal.unanswered(NOW)


def test_unanswered_are_those_on_their_way_and_those_that_were_ever_unknown(journal: AnyJournal) -> None:
    journal.begin_run(RUN)
    told(journal, 1, SENDING)
    told(journal, 2, SENDING, UNKNOWN)
    told(journal, 3, SENDING, UNKNOWN, CONFIRMED, SETTLED, family=OTHER)
    told(journal, 4, SENDING, UNKNOWN, REJECTED, kind=SCHEDULE)
    told(journal, 5, SENDING, CONFIRMED)
    told(journal, 6, SENDING, REJECTED)
    told(journal, 7, SETTLED)
    told(journal, 8)
    assert ids(journal.unanswered(NOW)) == ["intent-1", "intent-2", "intent-3", "intent-4"]
    assert ids(journal.unanswered(NOW + 2 * MINUTE + timedelta(seconds=1))) == ["intent-2", "intent-3", "intent-4"]
    assert ids(journal.unanswered(NOW + 2 * MINUTE + timedelta(seconds=2))) == ["intent-3", "intent-4"]


def test_sent_are_a_familys_changes_of_seats_whatever_became_of_them(journal: AnyJournal) -> None:
    journal.begin_run(RUN)
    told(journal, 1, SENDING, CONFIRMED, SETTLED)
    told(journal, 2, SENDING, REJECTED)
    told(journal, 3, SENDING, CONFIRMED, kind=SCHEDULE)
    told(journal, 4, SENDING, CONFIRMED, family=OTHER)
    told(journal, 5)
    told(journal, 6, SETTLED)
    told(journal, 7, SENDING, UNKNOWN)
    assert ids(journal.sent(FAMILY, NOW)) == ["intent-1", "intent-2", "intent-7"]
    assert ids(journal.sent(FAMILY, NOW + 2 * MINUTE)) == ["intent-2", "intent-7"]
    assert ids(journal.sent(FAMILY, NOW + 8 * MINUTE)) == []


def test_the_last_confirmed_is_the_one_confirmed_last_even_if_settled_since(journal: AnyJournal) -> None:
    journal.begin_run(RUN)
    told(journal, 1, SENDING, UNKNOWN)
    told(journal, 2, SENDING, CONFIRMED, SETTLED)
    told(journal, 3, SENDING, CONFIRMED, kind=SCHEDULE)
    told(journal, 4, SENDING, UNKNOWN, SETTLED)
    told(journal, 5, SENDING, CONFIRMED, family=OTHER)
    found = journal.last_confirmed(FAMILY)
    assert found is not None
    assert (found[0].id, found[0].state, found[1]) == ("intent-2", SETTLED, NOW + 2 * MINUTE + timedelta(seconds=2))
    journal.mark("intent-1", CONFIRMED, LATER)
    found = journal.last_confirmed(FAMILY)
    assert found is not None
    assert (found[0].id, found[1]) == ("intent-1", LATER)


def test_the_last_four_different_markers_are_kept_the_newest_last(journal: AnyJournal) -> None:
    for number, text in enumerate(["a", "b", "a", "c", "d", "d", "e \x00"]):
        journal.note_marker(FAMILY, text, NOW + number * MINUTE)
    journal.note_marker(OTHER, "z", NOW)
    assert journal.noted_markers(FAMILY) == ("a", "c", "d", "e \N{REPLACEMENT CHARACTER}")
    assert journal.noted_markers(OTHER) == ("z",)
    assert [document for document in journal.export() if document["kind"] == "markers"][1]["texts"] == ["z"]


def test_the_past_is_there_after_opening_again(reopen: OpenJournal) -> None:
    with reopen() as journal:
        journal.begin_run(RUN)
        told(journal, 1, SENDING, UNKNOWN, CONFIRMED)
        journal.note_marker(FAMILY, "a", NOW)
    with reopen() as journal:
        assert ids(journal.unanswered(NOW)) == ids(journal.sent(FAMILY, NOW)) == ["intent-1"]
        assert journal.last_confirmed(FAMILY) is not None
        assert journal.noted_markers(FAMILY) == ("a",)


def test_a_dry_run_knows_the_same_past(journal_path) -> None:
    with open_journal(journal_path, now=NOW) as journal:
        journal.begin_run(RUN)
        told(journal, 1, SENDING, CONFIRMED, SETTLED)
        told(journal, 2, SENDING, UNKNOWN, REJECTED)
        told(journal, 3, SENDING)
        journal.note_marker(FAMILY, "a", NOW)
        late = NOW + 3 * MINUTE
        expected = (
            journal.unanswered(NOW),
            journal.unanswered(late),
            journal.sent(FAMILY, NOW),
            journal.last_confirmed(FAMILY),
            journal.noted_markers(FAMILY),
        )
    with open_rehearsal(journal_path, now=NOW) as dry:
        assert expected == (
            dry.unanswered(NOW),
            dry.unanswered(late),
            dry.sent(FAMILY, NOW),
            dry.last_confirmed(FAMILY),
            dry.noted_markers(FAMILY),
        )
        dry.mark("intent-3", CONFIRMED, LATER)
        assert ids(dry.unanswered(NOW)) == ["intent-2"]
        found = dry.last_confirmed(FAMILY)
        assert found is not None
        assert found[0].id == "intent-3"
    with open_journal(journal_path, now=NOW) as journal:
        assert journal.get_intent("intent-3").state is SENDING


def test_the_questions_are_answered_by_indexes(journal_path) -> None:
    """A journal of years is not read whole: no plan scans the intents or their steps."""
    from sqlalchemy import event, text

    with open_journal(journal_path, now=NOW) as journal:
        journal.begin_run(RUN)
        told(journal, 1, SENDING, UNKNOWN, CONFIRMED)
        asked: list[tuple[str, object]] = []
        event.listen(
            journal._engine,
            "before_cursor_execute",
            lambda c, cur, statement, values, ctx, many: asked.append((statement, values)),
        )
        journal.unanswered(NOW)
        journal.sent(FAMILY, NOW)
        journal.last_confirmed(FAMILY)
        questions = [(statement, values) for statement, values in asked if statement.startswith("SELECT")]
        assert len(questions) == 3
        with journal._engine.connect() as connection:
            for statement, values in questions:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()  # type: ignore[arg-type]
                details = [str(row[-1]) for row in plan]
                assert not [one for one in details if one.startswith("SCAN intent")], details
            assert connection.execute(text("SELECT 1")).scalar() == 1
