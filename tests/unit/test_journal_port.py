"""Every implementation of the journal keeps the promises of the port, and all keep the same ones."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.domain.model import LogId, ProviderSubscriptionId, SubscriptionId, TenantId
from connector.errors import ConnectorError, ExitCode, JournalError, LockHeld
from connector.journal import AuditFilter, IntentFilter, MemoryJournal, SqlJournal, engines
from connector.journal.transitions import LEGAL
from connector.sync.ports import AuditEntry, Intent, IntentState, Journal, RunInfo

AnyJournal = MemoryJournal | SqlJournal

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
FAMILY = SubscriptionId("f-1")
OTHER = SubscriptionId("f-2")
RUN = RunInfo(id="run-1", operator="ops@host", command="linksub run", started_at=NOW, version="0.1.0")

PLANNED, SENDING, UNKNOWN = IntentState.PLANNED, IntentState.SENDING, IntentState.UNKNOWN
CONFIRMED, REJECTED, SETTLED = IntentState.CONFIRMED, IntentState.REJECTED, IntentState.SETTLED

WAY_TO = {
    PLANNED: (),
    SENDING: (SENDING,),
    UNKNOWN: (SENDING, UNKNOWN),
    CONFIRMED: (SENDING, CONFIRMED),
    REJECTED: (SENDING, REJECTED),
    SETTLED: (SENDING, UNKNOWN, SETTLED),
}


def an_intent(number: int = 1, family: SubscriptionId = FAMILY, created_at: datetime = NOW) -> Intent:
    return Intent(
        id=f"intent-{number}",
        run_id=RUN.id,
        family=family,
        provider="partner_center",
        tenant=TenantId("tenant-1"),
        provider_subscription=ProviderSubscriptionId("ps-1"),
        before=50,
        target=60,
        log_ids=(LogId("log-1"), LogId("log-2")),
        request_id=f"request-{number}",
        created_at=created_at,
    )


def brought_to(journal: AnyJournal, state: IntentState) -> Intent:
    journal.begin_run(RUN)
    journal.plan(an_intent())
    for step in WAY_TO[state]:
        journal.mark("intent-1", step, NOW)
    return journal.get_intent("intent-1")


def test_every_implementation_is_a_journal_of_the_port(journal: AnyJournal) -> None:
    as_port: Journal = journal
    assert as_port.open_intents() == []


def test_a_planned_intent_is_open_and_comes_back_as_it_was(journal: AnyJournal) -> None:
    journal.begin_run(RUN)
    journal.plan(an_intent())
    assert journal.open_intents() == [an_intent()]
    assert journal.open_intents(FAMILY) == [an_intent()]
    assert journal.open_intents(OTHER) == []


def test_open_intents_come_oldest_first_and_without_the_final_ones(journal: AnyJournal) -> None:
    journal.begin_run(RUN)
    journal.plan(an_intent(1, created_at=LATER))
    journal.plan(an_intent(2))
    journal.plan(an_intent(3))
    journal.mark("intent-3", SENDING, NOW)
    journal.mark("intent-3", CONFIRMED, NOW)
    assert [intent.id for intent in journal.open_intents()] == ["intent-2", "intent-1"]


@pytest.mark.parametrize(("start", "end"), list(product(IntentState, IntentState)))
def test_only_legal_steps_are_taken(start: IntentState, end: IntentState) -> None:
    # The table of steps is shared, so one implementation is enough for all 36; the next tests walk through each.
    journal = MemoryJournal()
    before = brought_to(journal, start)
    if end in LEGAL[start]:
        assert journal.mark("intent-1", end, NOW).state is end
    else:
        with pytest.raises(JournalError, match=f"cannot go from {start.value} to {end.value}"):
            journal.mark("intent-1", end, NOW)
        assert journal.get_intent("intent-1") == before


def test_the_table_of_legal_steps_is_the_agreed_one() -> None:
    assert {start: set(ends) for start, ends in LEGAL.items()} == {
        PLANNED: {SENDING, SETTLED},
        SENDING: {CONFIRMED, REJECTED, UNKNOWN},
        UNKNOWN: {CONFIRMED, REJECTED, SETTLED},
        CONFIRMED: {SETTLED},
        REJECTED: {SETTLED},
        SETTLED: set(),
    }


def test_an_illegal_step_leaves_no_trace(journal: AnyJournal) -> None:
    brought_to(journal, CONFIRMED)
    trail = journal.audit_trail()
    with pytest.raises(JournalError) as caught:
        journal.mark("intent-1", SENDING, NOW)
    assert caught.value.exit_code is ExitCode.CANNOT_JOURNAL
    assert journal.get_intent("intent-1").state is CONFIRMED
    assert journal.audit_trail() == trail
    assert journal.verify() == []


def test_the_sending_counts_as_an_attempt_and_an_empty_note_keeps_the_last_one(journal: AnyJournal) -> None:
    brought_to(journal, PLANNED)
    journal.mark("intent-1", SENDING, NOW, "the only try")
    lost = journal.mark("intent-1", UNKNOWN, LATER)
    assert (lost.attempts, lost.note, lost.state) == (1, "the only try", UNKNOWN)
    assert [(event.state, event.attempts, event.note) for event in journal.history("intent-1")] == [
        (PLANNED, 0, ""),
        (SENDING, 1, "the only try"),
        (UNKNOWN, 1, ""),
    ]


@pytest.mark.parametrize("state", [SENDING, UNKNOWN, CONFIRMED, REJECTED, SETTLED])
def test_no_intent_is_ever_sent_twice(journal: AnyJournal, state: IntentState) -> None:
    before = brought_to(journal, state)
    with pytest.raises(JournalError, match="cannot go from"):
        journal.mark("intent-1", SENDING, LATER)
    assert journal.get_intent("intent-1") == before


def test_an_intent_of_a_run_that_never_began_is_refused(journal: AnyJournal) -> None:
    with pytest.raises(JournalError):
        journal.plan(an_intent())
    assert journal.open_intents() == []


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(replace(an_intent(2), id="intent-1"), id="the same id"),
        pytest.param(replace(an_intent(2), request_id="request-1"), id="another payload under an old request id"),
        pytest.param(replace(an_intent(2), state=SENDING), id="sent before it was planned"),
        pytest.param(replace(an_intent(2), attempts=1), id="tried before it was planned"),
    ],
)
def test_an_intent_that_contradicts_what_is_recorded_is_refused(journal: AnyJournal, second: Intent) -> None:
    brought_to(journal, PLANNED)
    with pytest.raises(JournalError):
        journal.plan(second)
    assert journal.open_intents() == [an_intent()]
    assert journal.verify() == []


def test_an_unknown_intent_is_named(journal: AnyJournal) -> None:
    with pytest.raises(JournalError, match="no intent intent-9"):
        journal.mark("intent-9", SENDING, NOW)
    with pytest.raises(JournalError, match="no intent intent-9"):
        journal.get_intent("intent-9")
    assert journal.history("intent-9") == []


@pytest.mark.parametrize("state", [state for state in IntentState if state is not SETTLED])
def test_a_person_can_settle_whatever_is_not_settled(journal: AnyJournal, state: IntentState) -> None:
    brought_to(journal, state)
    settled = journal.settle("intent-1", LATER, "checked in Partner Center", "ann@desk")
    assert (settled.state, settled.note) == (SETTLED, "checked in Partner Center")
    assert journal.open_intents() == []
    last = journal.audit_trail()[-1].entry
    assert (last.event, last.detail["operator"], last.detail["note"]) == (
        "intent.settled",
        "ann@desk",
        "checked in Partner Center",
    )
    assert journal.verify() == []
    with pytest.raises(JournalError, match="settled already"):
        journal.settle("intent-1", LATER, "again", "ann@desk")


def test_the_life_of_an_intent_is_audited_with_everything_that_attributes_it(journal: AnyJournal) -> None:
    brought_to(journal, PLANNED)
    later_run = replace(RUN, id="run-2")
    journal.begin_run(later_run)
    journal.mark("intent-1", SENDING, LATER)
    started, planned, _, sending = (chained.entry for chained in journal.audit_trail())
    assert started == AuditEntry(
        at=NOW,
        run_id="run-1",
        event="run.started",
        detail={"operator": "ops@host", "command": "linksub run", "version": "0.1.0"},
    )
    assert (planned.run_id, planned.family, planned.intent_id) == ("run-1", FAMILY, "intent-1")
    assert planned.detail["log_ids"] == ["log-1", "log-2"]
    assert (planned.detail["before"], planned.detail["target"], planned.detail["request_id"]) == (50, 60, "request-1")
    # A later run took the step, and is named for it.
    assert (sending.run_id, sending.at, sending.event) == ("run-2", LATER, "intent.sending")


def test_a_run_is_recorded_from_start_to_end(journal: AnyJournal) -> None:
    journal.begin_run(RUN)
    assert [(run.info, run.ended_at, run.exit_code) for run in journal.list_runs()] == [(RUN, None, None)]
    journal.end_run(RUN.id, LATER, 3, {"families": {"failed": 1}})
    (run,) = journal.list_runs()
    assert (run.ended_at, run.exit_code, run.report) == (LATER, 3, {"families": {"failed": 1}})
    assert journal.audit_trail()[-1].entry.detail["exit_code"] == 3


def test_runs_are_listed_newest_first(journal: AnyJournal) -> None:
    for number in range(3):
        journal.begin_run(replace(RUN, id=f"run-{number}", started_at=NOW + timedelta(hours=number)))
    assert [run.info.id for run in journal.list_runs(2)] == ["run-2", "run-1"]
    assert len(journal.list_runs(None)) == 3


def test_a_run_begins_once_and_ends_once(journal: AnyJournal) -> None:
    journal.begin_run(RUN)
    with pytest.raises(JournalError):
        journal.begin_run(RUN)
    with pytest.raises(JournalError, match="never begun"):
        journal.end_run("run-9", LATER, 0, {})
    journal.end_run(RUN.id, LATER, 0, {})
    with pytest.raises(JournalError, match="ended"):
        journal.end_run(RUN.id, LATER, 1, {})
    assert journal.verify() == []


def test_intents_are_found_by_what_is_asked(journal: AnyJournal) -> None:
    journal.begin_run(RUN)
    for number, family in enumerate([FAMILY, OTHER, FAMILY]):
        journal.plan(an_intent(number, family, NOW + timedelta(minutes=number)))
    journal.mark("intent-2", SENDING, NOW)

    def found(**wanted: object) -> list[str]:
        return [intent.id for intent in journal.list_intents(IntentFilter(**wanted))]  # type: ignore[arg-type]

    assert found() == ["intent-2", "intent-1", "intent-0"]
    assert found(family=FAMILY) == ["intent-2", "intent-0"]
    assert found(states=(SENDING,)) == ["intent-2"]
    assert found(run_id="run-9") == []
    assert found(since=NOW + timedelta(minutes=1)) == ["intent-2", "intent-1"]
    assert found(until=NOW + timedelta(minutes=1)) == ["intent-0"]
    assert found(limit=1) == ["intent-2"]


def test_audit_entries_are_found_by_what_is_asked(journal: AnyJournal) -> None:
    brought_to(journal, SENDING)
    journal.append(AuditEntry(at=LATER, run_id="run-1", event="parent.written", family=OTHER, detail={"quantity": 60}))

    def found(**wanted: object) -> list[str]:
        return [chained.entry.event for chained in journal.audit_trail(AuditFilter(**wanted))]  # type: ignore[arg-type]

    assert found() == ["run.started", "intent.planned", "intent.sending", "parent.written"]
    assert found(event="intent.") == ["intent.planned", "intent.sending"]
    assert found(event="intent") == []
    assert found(event="parent.written") == ["parent.written"]
    assert found(family=OTHER) == ["parent.written"]
    assert found(intent_id="intent-1") == ["intent.planned", "intent.sending"]
    assert found(since=LATER) == ["parent.written"]
    assert found(until=LATER, limit=1) == ["intent.sending"]
    assert found(limit=2) == ["intent.sending", "parent.written"]
    assert found(run_id="run-2") == []


def test_a_deferral_stands_until_it_is_cleared_and_counts_its_tries(journal: AnyJournal) -> None:
    assert journal.deferral(FAMILY) is None
    assert journal.oldest_deferral() is None
    journal.defer(FAMILY, LATER, "renewal day")
    journal.defer(FAMILY, LATER + timedelta(hours=1), "renewal day, again")
    journal.defer(OTHER, LATER, "throttled")
    assert journal.deferral(FAMILY) == (LATER + timedelta(hours=1), "renewal day, again")
    assert [(found.family, found.tries) for found in journal.deferrals()] == [(OTHER, 1), (FAMILY, 2)]
    oldest = journal.oldest_deferral()
    assert oldest is not None
    assert oldest.family == OTHER
    journal.clear_deferral(FAMILY)
    journal.clear_deferral(FAMILY)
    assert journal.deferral(FAMILY) is None
    journal.defer(FAMILY, LATER, "once more")
    assert [found.tries for found in journal.deferrals()] == [1, 1]


def test_a_cached_value_is_recalled_and_replaced(journal: AnyJournal) -> None:
    assert journal.recall("metadata") is None
    journal.remember("metadata", "one")
    journal.remember("metadata", "two")
    assert journal.recall("metadata") == "two"
    assert journal.cached() == {"metadata": "two"}


def test_a_lease_keeps_others_out_and_names_its_holder(journal: AnyJournal) -> None:
    with journal.lease(FAMILY, "run-1 on host-a", NOW, 300):
        with pytest.raises(LockHeld) as caught, journal.lease(FAMILY, "run-2 on host-b", NOW, 300):
            pytest.fail("two holders")
        assert caught.value.holder == "run-1 on host-a"
        assert caught.value.exit_code is ExitCode.TRY_LATER
        assert "2026-03-02T14:05:00+00:00" in str(caught.value)
        with journal.lease(OTHER, "run-2 on host-b", NOW, 300):
            assert [lease.holder for lease in journal.leases()] == ["run-1 on host-a", "run-2 on host-b"]
    assert journal.leases() == []
    with journal.lease(FAMILY, "run-2 on host-b", NOW, 300):
        pass


def test_a_lease_is_not_shared_by_two_that_give_the_same_name(journal: AnyJournal) -> None:
    with journal.lease(FAMILY, "run-1", NOW, 300), pytest.raises(LockHeld), journal.lease(FAMILY, "run-1", NOW, 300):
        pytest.fail("two holders")


def test_an_expired_lease_is_taken_over_and_its_former_holder_does_not_release_the_new_one(
    journal: AnyJournal,
) -> None:
    late = NOW + timedelta(seconds=300)
    sleeper = journal.lease(FAMILY, "sleeper", NOW, 300)
    sleeper.__enter__()
    with journal.lease(FAMILY, "successor", late, 300):
        sleeper.__exit__(None, None, None)
        assert [lease.holder for lease in journal.leases()] == ["successor"]
    entry = journal.audit_trail()[-1].entry
    assert (entry.event, entry.family) == ("lease.taken_over", FAMILY)
    assert (entry.detail["former"], entry.detail["holder"]) == ("sleeper", "successor")


def test_a_lease_one_second_before_its_end_still_holds(journal: AnyJournal) -> None:
    with (
        journal.lease(FAMILY, "first", NOW, 300),
        pytest.raises(LockHeld),
        journal.lease(FAMILY, "second", NOW + timedelta(seconds=299), 300),
    ):
        pytest.fail("two holders")


def test_a_lease_is_given_back_when_the_work_fails(journal: AnyJournal) -> None:
    with pytest.raises(ZeroDivisionError), journal.lease(FAMILY, "first", NOW, 300):
        _ = 1 // 0
    assert journal.leases() == []


def test_leases_of_the_dead_are_dropped_by_the_beginning_of_their_name(journal: AnyJournal) -> None:
    with journal.lease(FAMILY, "host-a/state run-1", NOW, 300), journal.lease(OTHER, "host-b/state run-2", NOW, 300):
        assert journal.drop_leases(NOW, "host-a/") == ["host-a/state run-1"]
        assert [lease.holder for lease in journal.leases()] == ["host-b/state run-2"]
        assert journal.audit_trail()[-1].entry.event == "lease.dropped"


def test_leases_of_the_dead_are_dropped_family_by_family_in_the_same_order_on_every_journal(
    journal: AnyJournal,
) -> None:
    earlier, later = sorted([FAMILY, OTHER])
    with journal.lease(later, "host-a/later", NOW, 300), journal.lease(earlier, "host-a/earlier", NOW, 300):
        assert journal.drop_leases(NOW) == ["host-a/earlier", "host-a/later"]
        assert [each.entry.family for each in journal.audit_trail()][-2:] == [earlier, later]


def test_instants_come_back_in_utc_to_the_microsecond(journal: AnyJournal) -> None:
    berlin = timezone(timedelta(hours=1))
    at = datetime(2026, 3, 2, 15, 0, 0, 123456, tzinfo=berlin)
    journal.begin_run(RUN)
    journal.plan(an_intent(created_at=at))
    (intent,) = journal.open_intents()
    assert intent.created_at == at
    assert intent.created_at.tzinfo is UTC
    assert journal.verify() == []


def test_an_instant_without_a_zone_is_refused(journal: AnyJournal) -> None:
    naive = datetime(2026, 3, 2, 14, 0)  # noqa: DTZ001
    brought_to(journal, PLANNED)
    for attempt in (
        lambda: journal.defer(FAMILY, naive, "when?"),
        lambda: journal.mark("intent-1", SENDING, naive),
        lambda: journal.append(AuditEntry(at=naive, run_id="run-1", event="when")),
    ):
        with pytest.raises(JournalError, match="no time zone"):
            attempt()


@pytest.mark.parametrize("text", ["naïve Σ → −", "nul \x00 byte", "half a pair \ud800", "'; DROP TABLE audit; --", ""])
def test_any_text_can_be_kept(journal: AnyJournal, text: str) -> None:
    brought_to(journal, SENDING)
    intent = journal.mark("intent-1", UNKNOWN, NOW, text)
    assert journal.get_intent("intent-1") == intent
    journal.defer(FAMILY, LATER, text)
    journal.remember("key", text)
    journal.append(AuditEntry(at=NOW, run_id="run-1", event="said", detail={"text": text}))
    assert journal.audit_trail()[-1].entry.detail == {"text": text}
    assert journal.verify() == []


def test_details_are_kept_as_plain_json(journal: AnyJournal) -> None:
    detail = {"when": NOW, "state": SENDING, "ids": ("a", "b"), 10: "ten", 9: "nine", "none": None}
    journal.append(AuditEntry(at=NOW, run_id="run-1", event="said", detail=detail))  # type: ignore[arg-type]
    assert journal.audit_trail()[-1].entry.detail == {
        "when": "2026-03-02 14:00:00+00:00",
        "state": "sending",
        "ids": ["a", "b"],
        "10": "ten",
        "9": "nine",
        "none": None,
    }
    assert journal.verify() == []


def test_a_detail_that_cannot_be_told_is_refused(journal: AnyJournal) -> None:
    endless: dict[str, object] = {}
    endless["self"] = endless
    with pytest.raises(JournalError, match="no JSON"):
        journal.append(AuditEntry(at=NOW, run_id="run-1", event="said", detail=endless))
    assert journal.audit_trail() == []


def test_the_export_is_json_and_its_chain_can_be_checked_by_anybody(journal: AnyJournal) -> None:
    import hashlib

    brought_to(journal, UNKNOWN)
    journal.defer(FAMILY, LATER, "renewal day")
    with journal.lease(FAMILY, "run-1", NOW, 300):
        documents = [json.loads(json.dumps(document)) for document in journal.export()]
    kinds = [document["kind"] for document in documents]
    assert kinds == ["journal", "run", "intent", *["intent_event"] * 3, *["audit"] * 4, "deferral", "lease"]
    assert documents[2]["state"] == "unknown"
    previous = "0" * 64
    for document in documents:
        if document["kind"] == "audit":
            claimed = document.pop("hash")
            text = json.dumps(document, sort_keys=True, separators=(",", ":"))
            previous = hashlib.sha256((previous + text).encode()).hexdigest()
            assert previous == claimed


FAMILIES = st.sampled_from([FAMILY, OTHER])
SECONDS = st.integers(0, 600).map(lambda seconds: NOW + timedelta(seconds=seconds))
INTENTS = st.sampled_from(["intent-0", "intent-1", "intent-2"])
STEPS = st.one_of(
    st.tuples(st.just("plan"), st.builds(an_intent, st.integers(0, 2), FAMILIES, SECONDS)),
    st.tuples(st.just("mark"), INTENTS, st.sampled_from(IntentState), SECONDS, st.sampled_from(["", "note"])),
    st.tuples(st.just("settle"), INTENTS, SECONDS, st.just("done"), st.just("ann@desk")),
    st.tuples(st.just("open_intents"), FAMILIES),
    st.tuples(st.just("defer"), FAMILIES, SECONDS, st.text(max_size=5)),
    st.tuples(st.just("deferral"), FAMILIES),
    st.tuples(st.just("clear_deferral"), FAMILIES),
    st.tuples(st.just("lease"), FAMILIES, st.sampled_from(["a", "b"]), SECONDS, st.integers(1, 300)),
    st.tuples(st.just("drop_leases"), SECONDS, st.sampled_from(["", "a"])),
    st.tuples(st.just("end_run"), st.just(RUN.id), SECONDS, st.integers(0, 3), st.just({})),
)


def outcome(journal: AnyJournal, step: tuple[object, ...], held: list[object]) -> object:
    try:
        result = getattr(journal, str(step[0]))(*step[1:])
        if step[0] == "lease":
            result.__enter__()
            held.append(result)
            return "held"
        return result
    except ConnectorError as error:
        return type(error)


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(STEPS, max_size=20))
def test_memory_and_database_agree_on_every_sequence_of_calls(steps: list[tuple[object, ...]]) -> None:
    engine = engines.memory_engine()
    engines.migrate(engine)
    memory, held = MemoryJournal(), list[object]()
    with SqlJournal(engine, "memory") as database:
        for journal in (memory, database):
            journal.begin_run(RUN)
        for step in steps:
            assert outcome(database, step, held) == outcome(memory, step, held), step
        assert list(database.export())[1:] == list(memory.export())[1:]
        assert database.verify() == memory.verify() == []
        for lease in reversed(held):
            lease.__exit__(None, None, None)  # type: ignore[attr-defined]
        assert database.leases() == memory.leases() == []
