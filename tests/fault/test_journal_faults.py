"""Killed processes, full disks, damaged files, rivals: what the journal said it kept is kept, nothing is invented."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connector.domain.model import LogId, ProviderSubscriptionId, SubscriptionId, TenantId
from connector.errors import ConnectorError, ExitCode, JournalError, LockHeld
from connector.journal import (
    JOURNAL_FILE,
    Holder,
    JournalDamaged,
    SqlJournal,
    hold_run_lock,
    open_journal,
    open_rehearsal,
)
from connector.journal.lock import read_holder
from connector.sync.ports import AuditEntry, Intent, IntentState, RunInfo

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
FAMILY = SubscriptionId("f-1")
RUN = RunInfo(id="run-1", operator="ops@host", command="linksub run", started_at=NOW, version="0.1.0")
ROOT = Path(__file__).parents[2]


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


CHILD = """
import os, signal, sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from connector.domain.model import *
from connector.journal import *
from connector.sync.ports import *
NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
FAMILY = SubscriptionId("f-1")
RUN = RunInfo(id="run-1", operator="ops@host", command="linksub run", started_at=NOW, version="0.1.0")
INTENT = Intent("intent-1", "run-1", FAMILY, "partner_center", TenantId("tenant-1"), ProviderSubscriptionId("ps-1"),
                50, 60, (LogId("log-1"),), "request-1", NOW)
path = Path(sys.argv[1])
def die(): os.kill(os.getpid(), signal.SIGKILL)
"""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def told(process: subprocess.Popen[str], line: str) -> Iterator[subprocess.Popen[str]]:
    """A child that has said a line and now waits for one; it is killed at the end."""
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == line
            yield process
        finally:
            process.kill()


# --- a process dies -----------------------------------------------------------------------------------------------

KILL_POINTS = {
    "planned": ("", IntentState.PLANNED, 0),
    "sending": ("j.mark('intent-1', IntentState.SENDING, NOW)", IntentState.SENDING, 1),
    "answer lost": (
        "j.mark('intent-1', IntentState.SENDING, NOW); j.mark('intent-1', IntentState.UNKNOWN, NOW, 'lost')",
        IntentState.UNKNOWN,
        1,
    ),
    "confirmed": (
        "j.mark('intent-1', IntentState.SENDING, NOW); j.mark('intent-1', IntentState.CONFIRMED, NOW)",
        IntentState.CONFIRMED,
        1,
    ),
}


@pytest.mark.parametrize("point", KILL_POINTS)
def test_what_was_recorded_before_a_kill_is_there_after_it(journal_path: Path, point: str) -> None:
    code, state, attempts = KILL_POINTS[point]
    with child(
        f"j = open_journal(path, now=NOW); j.begin_run(RUN); j.plan(INTENT)\n{code}\ndie()", journal_path
    ) as dead:
        assert dead.wait(60) == -signal.SIGKILL
    with open_journal(journal_path, now=NOW) as journal:
        intent = journal.get_intent("intent-1")
        assert (intent.state, intent.attempts, intent.target) == (state, attempts, 60)
        assert [found.id for found in journal.open_intents()] == (
            [] if state is IntentState.CONFIRMED else ["intent-1"]
        )
        assert journal.recovered_from is None
        assert journal.verify() == []


# Pages are forced out of the cache, so that the file holds half of the transaction when the process dies.
DIES_WITHIN = """
j = open_journal(path, now=NOW); j.begin_run(RUN); j.plan(INTENT)
with j._write("a lot") as connection:
    connection.exec_driver_sql("PRAGMA cache_size=1")
    connection.exec_driver_sql("UPDATE intents SET state = 'confirmed'")
    for number in range(200):
        connection.exec_driver_sql("INSERT INTO cache VALUES (?, ?)", (str(number), "x" * 1000))
    die()
"""


def test_half_a_transaction_is_no_transaction(journal_path: Path) -> None:
    with child(DIES_WITHIN, journal_path) as dead:
        assert dead.wait(60) == -signal.SIGKILL
    side = journal_path.with_name(f"{JOURNAL_FILE}-journal")
    assert side.stat().st_size > 0, "the process died too early to prove anything"

    before = {path.name: path.read_bytes() for path in journal_path.parent.iterdir()}
    with open_journal(journal_path, now=NOW, read_only=True) as journal:
        assert [intent.state for intent in journal.open_intents()] == [IntentState.PLANNED]
    with open_rehearsal(journal_path, now=NOW) as rehearsal:
        assert [intent.id for intent in rehearsal.open_intents()] == ["intent-1"]
    assert {path.name: path.read_bytes() for path in journal_path.parent.iterdir()} == before

    with open_journal(journal_path, now=NOW) as journal:
        assert [intent.state for intent in journal.open_intents()] == [IntentState.PLANNED]
        assert journal.cached() == {}
        assert journal.recovered_from is None
        assert journal.verify() == []


def test_a_process_that_dies_while_it_makes_the_journal_leaves_one_that_can_be_made(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_FILE
    code = "from connector.journal import engines, migrations\nmigrations.upgrade = lambda connection: (\n"
    code += "    connection.exec_driver_sql('CREATE TABLE runs (id TEXT)'), die())\nopen_journal(path, now=NOW)"
    with child(code, path) as dead:
        assert dead.wait(60) == -signal.SIGKILL
    with open_journal(path, now=NOW) as journal:
        journal.begin_run(RUN)
        assert journal.recovered_from is None


# --- rivals -------------------------------------------------------------------------------------------------------


def test_the_run_lock_keeps_another_process_out_and_dies_with_its_holder(tmp_path: Path) -> None:
    code = """
    with hold_run_lock(path, Holder("run-1", "host-a", os.getpid(), "linksub run", NOW)):
        print("held", flush=True); sys.stdin.readline()
    """
    mine = Holder("run-2", "host-a", os.getpid(), "linksub run", NOW)
    with told(child(code, tmp_path), "held") as process:
        with pytest.raises(LockHeld, match=f"run-1 .*process {process.pid}"), hold_run_lock(tmp_path, mine):
            pytest.fail("two runs")
        process.kill()
        process.wait(60)
        # The dead one's name is still there; its lock is not.
        assert "run-1" in read_holder(tmp_path)
        with hold_run_lock(tmp_path, mine):
            assert "run-2" in read_holder(tmp_path)


def test_a_lease_holds_against_another_process_and_outlives_its_death_only_until_it_expires(journal_path: Path) -> None:
    code = """
    j = open_journal(path, now=NOW)
    with j.lease(FAMILY, "other host", NOW, 300):
        print("held", flush=True); sys.stdin.readline()
    """
    with (
        told(child(code, journal_path), "held") as process,
        open_journal(journal_path, now=NOW) as journal,
    ):
        with pytest.raises(LockHeld) as caught, journal.lease(FAMILY, "me", NOW, 300):
            pytest.fail("two holders")
        assert caught.value.holder == "other host"
        process.kill()
        process.wait(60)
        with pytest.raises(LockHeld), journal.lease(FAMILY, "me", NOW + timedelta(seconds=299), 300):
            pytest.fail("two holders")
        with journal.lease(FAMILY, "me", NOW + timedelta(seconds=300), 300):
            assert [lease.holder for lease in journal.leases()] == ["me"]


def test_processes_that_write_at_once_make_one_whole_chain(journal_path: Path) -> None:
    code = """
    j = open_journal(path, now=NOW)
    print("ready", flush=True); sys.stdin.readline()
    for number in range(40):
        j.append(AuditEntry(at=NOW, run_id=sys.argv[2], event="said", detail={"number": number}))
    """
    with told(child(code, journal_path, "a"), "ready") as one, told(child(code, journal_path, "b"), "ready") as other:
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [one.wait(60), other.wait(60)] == [0, 0]
    with open_journal(journal_path, now=NOW) as journal:
        assert journal.verify() == []
        said = [(chained.entry.run_id, chained.entry.detail["number"]) for chained in journal.audit_trail()]
    assert sorted(said) == [(name, number) for name in "ab" for number in range(40)]


def test_a_journal_that_somebody_else_keeps_locked_cannot_be_written_and_says_why(journal_path: Path) -> None:
    with open_journal(journal_path, now=NOW, busy_seconds=0) as journal:
        rival = sqlite3.connect(journal_path, isolation_level=None)
        rival.execute("BEGIN EXCLUSIVE")
        try:
            with pytest.raises(JournalError, match="locked") as caught:
                journal.begin_run(RUN)
            with pytest.raises(JournalError, match="locked"):
                open_journal(journal_path, now=NOW, busy_seconds=0)
        finally:
            rival.close()
        assert caught.value.exit_code is ExitCode.CANNOT_JOURNAL
        assert caught.value.hint
        assert "Another process" in caught.value.hint
        journal.begin_run(RUN)
    assert not list(journal_path.parent.glob("*.corrupt-*"))


# --- no room ------------------------------------------------------------------------------------------------------


def pages(journal: SqlJournal, limit: int) -> None:
    with journal._engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={limit}")


def test_when_the_disk_is_full_an_intent_is_refused_whole_and_accepted_once_there_is_room(journal_path: Path) -> None:
    with open_journal(journal_path, now=NOW) as journal:
        journal.begin_run(RUN)
        pages(journal, 1)  # SQLite takes the present size: not a page more.
        number = 0
        with pytest.raises(JournalError, match="full") as caught:
            for number in range(1000):
                journal.plan(an_intent(number))
        assert caught.value.exit_code is ExitCode.CANNOT_JOURNAL
        assert caught.value.hint
        assert "disk is full" in caught.value.hint
        kept = {f"intent-{earlier}" for earlier in range(number)}
        assert {intent.id for intent in journal.open_intents()} == kept
        assert journal.verify() == []
        pages(journal, 100_000)
        journal.plan(an_intent(number))
        assert journal.verify() == []
    with open_journal(journal_path, now=NOW) as journal:
        assert {intent.id for intent in journal.open_intents()} == kept | {f"intent-{number}"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits on the size of files")
def test_a_quota_that_is_reached_is_told_as_a_full_disk_is(journal_path: Path) -> None:
    code = """
    import resource
    j = open_journal(path, now=NOW); j.begin_run(RUN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, resource.RLIM_INFINITY))
    try:
        for number in range(1000):
            j.plan(replace(INTENT, id=f"intent-{number}", request_id=f"request-{number}"))
    except Exception as error:
        print(type(error).__name__, error.exit_code.value, bool(error.hint), len(j.open_intents()) == number)
    """
    with child(code, journal_path) as process:
        said, _ = process.communicate(timeout=60)
    assert said.split() == ["JournalError", "74", "True", "True"]
    with open_journal(journal_path, now=NOW) as journal:
        assert journal.verify() == []


# --- damage -------------------------------------------------------------------------------------------------------


def filled(path: Path) -> list[Intent]:
    with open_journal(path, now=NOW) as journal:
        journal.begin_run(RUN)
        for number in range(4):
            journal.plan(an_intent(number))
            journal.mark(f"intent-{number}", IntentState.SENDING, NOW)
        journal.mark("intent-3", IntentState.CONFIRMED, NOW)
        journal.defer(FAMILY, NOW, "renewal day")
        return list(journal.open_intents())


def test_a_damaged_file_is_set_aside_and_a_fresh_one_says_so(journal_path: Path) -> None:
    filled(journal_path)
    damaged = bytearray(journal_path.read_bytes())
    damaged[4096:8192] = os.urandom(4096)
    journal_path.write_bytes(damaged)
    with open_journal(journal_path, now=NOW) as journal:
        moved_to = journal_path.with_name(f"{JOURNAL_FILE}.corrupt-20260302T140000Z")
        assert journal.recovered_from == moved_to
        assert moved_to.read_bytes() == damaged
        assert journal.open_intents() == []
        (entry,) = (chained.entry for chained in journal.audit_trail())
        assert (entry.event, entry.at, entry.detail["moved_to"]) == ("journal.recovered", NOW, str(moved_to))
        journal.begin_run(RUN)
        journal.plan(an_intent())
        assert journal.verify() == []
    with open_journal(journal_path, now=NOW) as journal:
        assert journal.recovered_from is None
        assert [intent.id for intent in journal.open_intents()] == ["intent-1"]
    assert journal_path.stat().st_mode & 0o777 == 0o600 or os.name != "posix"


def test_damage_twice_at_the_same_instant_keeps_both_files(journal_path: Path) -> None:
    for content in (b"first" * 1000, b"second" * 1000):
        journal_path.write_bytes(content)
        open_journal(journal_path, now=NOW).close()
    aside = sorted(path for path in journal_path.parent.glob("*.corrupt-*") if not path.name.endswith("-journal"))
    assert [path.read_bytes()[:6] for path in aside] == [b"firstf", b"second"]


def test_the_rollback_journal_of_a_damaged_file_goes_with_it(journal_path: Path) -> None:
    with child(DIES_WITHIN, journal_path) as dead:
        assert dead.wait(60) == -signal.SIGKILL
    journal_path.write_bytes(b"rubbish." * 4096)
    side = journal_path.with_name(f"{JOURNAL_FILE}-journal")
    # Without its header it cannot be played back, which is what makes the file beyond help.
    left = b"\x00" * 512 + side.read_bytes()[512:]
    side.write_bytes(left)
    with open_journal(journal_path, now=NOW) as journal:
        moved_to = journal.recovered_from
        assert moved_to is not None
        assert moved_to.with_name(f"{moved_to.name}-journal").read_bytes() == left
        journal.begin_run(RUN)
        assert journal.verify() == []


SEED = 20260302


@pytest.mark.parametrize("round_", range(4))
def test_no_flipped_bytes_ever_make_another_intent(journal_path: Path, tmp_path: Path, round_: int) -> None:
    intents = {intent.id: intent for intent in filled(journal_path)}
    sound = journal_path.read_bytes()
    # Where the rows of the intents are, most flips go; the rest is anywhere.
    rows = sound.index(b"request-1")
    chance = random.Random(SEED + round_)
    verdicts = {"unharmed": 0, "set aside": 0, "refused": 0}
    for number in range(40):
        place = chance.randrange(rows - 600, rows + 600) if number % 2 else chance.randrange(len(sound))
        flipped = bytearray(sound)
        flipped[place] ^= 1 << chance.randrange(8)
        directory = tmp_path / f"flip-{number}"
        directory.mkdir()
        path = directory / JOURNAL_FILE
        path.write_bytes(flipped)
        try:
            with open_journal(path, now=NOW) as journal:
                found = {intent.id: intent for intent in journal.open_intents()}
                if journal.recovered_from is not None:
                    verdicts["set aside"] += 1
                    assert found == {}, place
                else:
                    verdicts["unharmed"] += 1
                    # A flip may hide an intent (its state reads as final), never change one.
                    assert found.items() <= intents.items(), place
                journal.append(AuditEntry(at=NOW, run_id=RUN.id, event="said"))
        except ConnectorError as error:
            verdicts["refused"] += 1
            assert error.hint, (place, error)
        shutil.rmtree(directory)
    print(f"seed {SEED + round_}: {verdicts}")  # noqa: T201
    assert verdicts["set aside"] > 3
    assert verdicts["refused"] <= 2, verdicts


@pytest.mark.parametrize("name", [b"intents", b"linksub_journal", b"ix_intents", b"CREATE TABLE", b"audit"])
def test_a_name_that_is_no_text_any_more_is_damage_and_is_set_aside(journal_path: Path, name: bytes) -> None:
    filled(journal_path)
    sound = journal_path.read_bytes()
    places = [at for at in range(len(sound)) if sound.startswith(name, at)][:6]
    assert places
    for at in places:
        for offset in (0, len(name) // 2):
            flipped = bytearray(sound)
            flipped[at + offset] ^= 0x80
            journal_path.write_bytes(flipped)
            with open_journal(journal_path, now=NOW) as journal:
                assert journal.verify() == [] or journal.recovered_from is None


def test_damage_that_comes_while_the_journal_is_open_stops_the_run(journal_path: Path) -> None:
    filled(journal_path)
    with open_journal(journal_path, now=NOW) as journal:
        with sqlite3.connect(journal_path) as other:
            other.execute("UPDATE intents SET seats_target = 600 WHERE id = 'intent-1'")
        other.close()
        with pytest.raises(JournalDamaged, match="not what was recorded"):
            journal.open_intents()
        with pytest.raises(JournalDamaged, match="not what was recorded"):
            journal.mark("intent-1", IntentState.UNKNOWN, NOW)
    with open_journal(journal_path, now=NOW) as journal:
        assert journal.recovered_from is not None


@pytest.fixture(scope="session")
def empty_journal_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal") / JOURNAL_FILE
    open_journal(path, now=NOW).close()
    return path


@pytest.fixture
def journal_path(tmp_path: Path, empty_journal_file: Path) -> Path:
    """A SQLite journal with the present schema and nothing in it, in a directory of its own."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return Path(shutil.copy(empty_journal_file, directory / JOURNAL_FILE))
