"""What a journal recorded is there when it is opened again, nothing of it can be changed unnoticed."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from connector.domain.model import LogId, ProviderSubscriptionId, SubscriptionId, TenantId
from connector.errors import ConfigError, ConnectorError, ExitCode, JournalError, LockHeld
from connector.journal import MemoryJournal, SqlJournal
from connector.journal.schema import HEAD, REVISIONS, VERSION_TABLE, metadata
from connector.journal.seals import seal
from connector.sync.ports import AuditEntry, Intent, IntentState, RunInfo

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
FAMILY = SubscriptionId("f-1")
RUN = RunInfo(id="run-1", operator="ops@host", command="linksub run", started_at=NOW, version="0.1.0")
OpenJournal = Callable[[], SqlJournal]


def an_intent(number: int = 1) -> Intent:
    return Intent(
        id=f"intent-{number}",
        run_id=RUN.id,
        family=FAMILY,
        provider="partner_center",
        tenant=TenantId("tenant-1"),
        provider_subscription=ProviderSubscriptionId("ps-1"),
        before=50,
        target=60,
        log_ids=(LogId("log-1"),),
        request_id=f"request-{number}",
        created_at=NOW,
    )


def fill(journal: SqlJournal) -> None:
    journal.begin_run(RUN)
    for number in (1, 2):
        journal.plan(an_intent(number))
        journal.mark(f"intent-{number}", IntentState.SENDING, LATER)
    journal.mark("intent-2", IntentState.CONFIRMED, LATER)
    journal.defer(FAMILY, LATER, "renewal day")
    journal.remember("baseline", "42")
    journal.append(AuditEntry(at=LATER, run_id=RUN.id, event="parent.written", family=FAMILY))


@contextmanager
def behind_its_back(journal: SqlJournal) -> Iterator[Connection]:
    """A connection of somebody with all rights: no triggers, no foreign keys."""
    with journal._engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql("BEGIN")
            triggers = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all()
            for row in triggers:
                connection.exec_driver_sql(f"DROP TRIGGER {row.name}")
        else:
            connection.exec_driver_sql("SET session_replication_role = replica")
        yield connection
        connection.commit()


def test_everything_recorded_is_there_after_opening_again(reopen: OpenJournal) -> None:
    with reopen() as journal:
        fill(journal)
        before = list(journal.export())
    with reopen() as journal:
        assert list(journal.export()) == before
        assert journal.recall("baseline") == "42"
        assert [(found.id, found.state, found.attempts) for found in journal.open_intents()] == [
            ("intent-1", IntentState.SENDING, 1)
        ]
        assert journal.recovered_from is None
        assert journal.verify() == []


def test_two_that_write_to_one_journal_make_one_chain_without_gaps(reopen: OpenJournal) -> None:
    with reopen() as one, reopen() as other:
        for number in range(5):
            for journal in (one, other):
                journal.append(AuditEntry(at=NOW, run_id=RUN.id, event="said", detail={"number": number}))
        assert [chained.seq for chained in one.audit_trail()] == list(range(1, 11))
        assert other.verify() == []


def at_once(*works: Callable[[], object]) -> list[object]:
    """Start all of them at the same moment, in threads, and give back what each returned or raised."""
    barrier = threading.Barrier(len(works))

    def start(work: Callable[[], object]) -> object:
        barrier.wait(30)
        try:
            return work()
        except ConnectorError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(60) for future in [pool.submit(start, work) for work in works]]


def test_writers_at_the_same_moment_wait_for_each_other(reopen: OpenJournal) -> None:
    with reopen() as one, reopen() as other:

        def say(journal: SqlJournal) -> None:
            for number in range(8):
                journal.append(AuditEntry(at=NOW, run_id=RUN.id, event="said", detail={"number": number}))

        # Two threads share each journal, as the families of a run do.
        assert at_once(*(partial(say, journal) for journal in (one, one, other, other))) == [None] * 4
        assert [chained.seq for chained in one.audit_trail()] == list(range(1, 33))
        assert one.verify() == []


@pytest.mark.parametrize("question", ["find_damage", "verify"])
def test_what_others_write_while_it_is_looked_at_is_no_damage(
    question: str, reopen: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reopen() as writer, reopen() as reader:
        fill(writer)
        read = reader._all
        write = threading.Thread(target=lambda: writer.mark("intent-1", IntentState.CONFIRMED, LATER))

        def interrupted(what: str, query: Any) -> Any:
            rows = read(what, query)
            if what.startswith("the head") and not write.ident:
                write.start()
                # On SQLite the writer waits for the reader, so it is not waited for.
                write.join(timeout=0.5)
            return rows

        monkeypatch.setattr(reader, "_all", interrupted)
        assert not getattr(reader, question)()
        write.join()
        assert not getattr(reader, question)()
        assert writer.verify() == []


def test_of_many_that_want_one_lease_at_the_same_moment_one_gets_it(reopen: OpenJournal) -> None:
    with reopen() as one, reopen() as other:
        for _ in range(3):
            leases = [journal.lease(FAMILY, "somebody", NOW, 300) for journal in (one, other, one, other)]
            results = at_once(*(lease.__enter__ for lease in leases))
            assert sorted(type(result).__name__ for result in results) == ["LockHeld"] * 3 + ["NoneType"]
            leases[results.index(None)].__exit__(None, None, None)


def test_a_lease_holds_between_two_that_opened_one_journal(reopen: OpenJournal) -> None:
    with reopen() as one, reopen() as other:
        with one.lease(FAMILY, "one", NOW, 300), pytest.raises(LockHeld) as caught, other.lease(FAMILY, "x", NOW, 300):
            pytest.fail("two holders")
        assert caught.value.holder == "one"
        with other.lease(FAMILY, "other", NOW, 300):
            pass


@pytest.mark.parametrize("table", ["audit", "intent_events"])
@pytest.mark.parametrize("change", ["UPDATE {} SET at = at", "DELETE FROM {}"])
def test_the_database_itself_refuses_to_change_what_is_append_only(
    reopen: OpenJournal, table: str, change: str
) -> None:
    with reopen() as journal:
        fill(journal)
        with (
            pytest.raises(DBAPIError, match="append-only"),
            journal._engine.begin() as connection,
        ):
            connection.execute(text(change.format(table)))
        assert journal.verify() == []


def _resealed(connection: Connection) -> None:
    from dataclasses import replace

    forged = replace(an_intent(1), target=600, state=IntentState.SENDING, attempts=1)
    connection.execute(
        text("UPDATE intents SET seats_target = 600, seal = :seal WHERE id = 'intent-1'"), {"seal": seal(forged)}
    )


def _sql(statement: str) -> Callable[[Connection], None]:
    def execute(connection: Connection) -> None:
        connection.execute(text(statement))

    return execute


TAMPERINGS = {
    "a detail changed": (
        _sql("UPDATE audit SET detail = replace(detail, '60', '61') WHERE event = 'intent.planned' AND seq = 2"),
        r"entry 2 \(intent.planned\) is not what was recorded",
    ),
    "an instant moved": (_sql("UPDATE audit SET at = (SELECT at FROM audit WHERE seq = 7) WHERE seq = 1"), "entry 1"),
    "an entry removed": (_sql("DELETE FROM audit WHERE seq = 3"), "entries 3 to 3 are missing"),
    "the end cut off": (_sql("DELETE FROM audit WHERE seq = 7"), "ends after entry 6, but 7 entries were recorded"),
    "an intent changed": (_sql("UPDATE intents SET seats_target = 600"), "intent intent-1: the row is not what"),
    "an intent changed and sealed again": (_resealed, "intent intent-1: differs from what the audit trail says"),
    "an intent removed": (_sql("DELETE FROM intents WHERE id = 'intent-2'"), "intent-2: .* its row is missing"),
    "a step removed": (_sql("DELETE FROM intent_events WHERE state = 'sending'"), "history goes from planned to conf"),
    "a beginning removed": (_sql("DELETE FROM intent_events WHERE state = 'planned'"), "does not begin with planned"),
}


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_verification_finds_what_was_tampered_with(reopen: OpenJournal, kind: str) -> None:
    tamper, expected = TAMPERINGS[kind]
    with reopen() as journal:
        fill(journal)
        assert journal.verify() == []
        with behind_its_back(journal) as connection:
            tamper(connection)
        problems = journal.verify()
    assert re.search(expected, "\n".join(problems)), problems


def test_migrations_make_the_tables_that_the_code_works_with(reopen: OpenJournal) -> None:
    with reopen() as journal, journal._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_code_knows_every_migration_there_is() -> None:
    config = Config()
    config.set_main_option("script_location", "connector.journal:migrations")
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [HEAD]
    assert [step.revision for step in script.walk_revisions()][::-1] == list(REVISIONS)


def test_a_newer_schema_is_refused_and_left_alone(reopen: OpenJournal) -> None:
    with reopen() as journal, journal._engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA user_version = 9999")
    with pytest.raises(ConfigError, match="schema 9999") as caught:
        reopen()
    assert caught.value.exit_code is ExitCode.CONFIGURATION
    assert caught.value.hint is not None
    assert "upgrade" in caught.value.hint


def test_a_dry_run_knows_what_is_open_and_changes_only_its_own_memory(reopen: OpenJournal) -> None:
    with reopen() as journal:
        fill(journal)
        journal.mark("intent-1", IntentState.UNKNOWN, LATER, "no answer")
        before = list(journal.export())
        rehearsal = MemoryJournal.knowing(journal)
        assert rehearsal.open_intents() == journal.open_intents()
        assert rehearsal.deferral(FAMILY) == journal.deferral(FAMILY)
        assert rehearsal.recall("baseline") == "42"
        assert rehearsal.verify() == []
        rehearsal.begin_run(RunInfo("run-2", "ops@host", "linksub plan", LATER, "0.1.0"))
        rehearsal.mark("intent-1", IntentState.CONFIRMED, LATER)
        rehearsal.clear_deferral(FAMILY)
        with pytest.raises(JournalError, match="request id was used"):
            rehearsal.plan(Intent(**{**_fields(an_intent(3)), "request_id": "request-1", "run_id": "run-2"}))  # type: ignore[arg-type]
        assert rehearsal.verify() == []
        assert list(journal.export()) == before


def _fields(intent: Intent) -> dict[str, object]:
    return {name: getattr(intent, name) for name in intent.__slots__}
