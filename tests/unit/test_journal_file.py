"""Where a journal is kept on disk: modes, settings, what is refused, and reading without a trace."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connector.domain.model import SubscriptionId
from connector.errors import ConfigError, ExitCode, JournalError
from connector.http.redaction import redact
from connector.journal import JOURNAL_FILE, MemoryJournal, open_journal, open_rehearsal, opening
from connector.journal.placement import network_file_system
from connector.sync.ports import AuditEntry, RunInfo

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
FAMILY = SubscriptionId("f-1")
RUN = RunInfo(id="run-1", operator="ops@host", command="linksub run", started_at=NOW, version="0.1.0")
ROOT = Path(__file__).parents[2]


def tree(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a directory with its mode, its time of change and its bytes."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps access in lists, not in modes")
def test_the_state_directory_and_the_journal_are_the_owners_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with open_journal(tmp_path / "deep" / "state" / JOURNAL_FILE, now=NOW) as journal:
            journal.begin_run(RUN)
            state = tmp_path / "deep" / "state"
            assert state.stat().st_mode & 0o777 == 0o700
            modes = {path.name: path.stat().st_mode & 0o777 for path in state.iterdir()}
    finally:
        os.umask(previous)
    assert modes == {JOURNAL_FILE: 0o600, f"{JOURNAL_FILE}-journal": 0o600}


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps access in lists, not in modes")
def test_a_journal_that_others_could_read_is_closed_to_them(journal_path: Path) -> None:
    journal_path.chmod(0o644)
    open_journal(journal_path, now=NOW).close()
    assert journal_path.stat().st_mode & 0o777 == 0o600


def test_a_journal_is_kept_with_the_settings_that_make_it_durable(journal_path: Path) -> None:
    with open_journal(journal_path, now=NOW, busy_seconds=7) as journal, journal._engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "truncate", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 7000}


def test_a_file_a_directory_and_a_url_name_the_same_journal(journal_path: Path) -> None:
    with open_journal(journal_path, now=NOW) as journal:
        journal.begin_run(RUN)
    for location in (str(journal_path), journal_path.parent, f"sqlite:///{journal_path}"):
        with open_journal(location, now=NOW) as journal:
            assert [run.info.id for run in journal.list_runs()] == ["run-1"]


@pytest.mark.parametrize("url", ["mysql://host/base", "sqlite://", "no such://thing at all"])
def test_a_place_that_cannot_hold_a_journal_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_journal(url, now=NOW)
    assert caught.value.hint


def test_a_server_that_cannot_be_reached_is_told_without_the_password() -> None:
    with pytest.raises((JournalError, ConfigError)) as caught:
        open_journal("postgresql://ops:canary-password@127.0.0.1:1/base", now=NOW)
    error: BaseException | None = caught.value
    assert isinstance(error, ConfigError) or "***" in str(error)
    while error is not None:
        assert "canary-password" not in str(error)
        error = error.__cause__


def test_a_password_among_the_options_of_a_url_is_shown_nowhere() -> None:
    from sqlalchemy import make_url

    url = "postgresql://ops:canary-one@db/base?sslmode=require&sslpassword=canary-two"
    assert opening._shown(make_url(url)) == "postgresql://ops:***@db/base?sslmode=require&sslpassword=***"
    assert "canary-two" not in redact(f"cannot connect with {url}")


def test_a_reader_of_ten_seconds_is_waited_for(journal_path: Path) -> None:
    with open_journal(journal_path, now=NOW) as journal, journal._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="no journal of linksub"):
        open_journal(path, now=NOW)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_made_cannot_journal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalError) as caught:
        open_journal(tmp_path / "file" / "state" / JOURNAL_FILE, now=NOW)
    assert caught.value.exit_code is ExitCode.CANNOT_JOURNAL
    assert caught.value.hint


def test_a_network_share_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "network_file_system", lambda directory: "cifs")
    with pytest.raises(ConfigError, match="cifs"):
        open_journal(tmp_path / "state" / JOURNAL_FILE, now=NOW)
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="mount points are POSIX paths")
@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/srv/state", None),
        ("/mnt/share/state", "nfs4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/shared", None),
        ("/mnt/share/local/state", None),
        ("/mnt/with blank/state", "cifs"),
    ],
)
def test_the_innermost_mount_says_whether_a_directory_is_on_a_share(directory: str, expected: str | None) -> None:
    mounts = (
        "/dev/sda1 / ext4 rw 0 0\nserver:/x /mnt/share nfs4 rw 0 0\n/dev/sdb1 /mnt/share/local ext4 rw 0 0\n"
        "//server/x /mnt/with\\040blank cifs rw 0 0\nbroken\n"
    )
    assert network_file_system(Path(directory), mounts) == expected


def test_a_windows_share_shows_by_its_path() -> None:
    assert network_file_system(Path("\\\\server\\share"), "") == "Windows share"


# --- reading without a trace -------------------------------------------------------------------------------------


def test_reading_leaves_the_directory_byte_for_byte_as_it_was(journal_path: Path) -> None:
    with open_journal(journal_path, now=NOW) as journal:
        journal.begin_run(RUN)
        journal.defer(FAMILY, NOW, "renewal day")
    before = tree(journal_path.parent)
    with open_journal(journal_path, now=NOW, read_only=True) as journal:
        assert journal.deferral(FAMILY) == (NOW, "renewal day")
        assert journal.verify() == []
        assert list(journal.export())
        assert tree(journal_path.parent) == before
        rehearsal = open_rehearsal(journal_path, now=NOW)
        rehearsal.close()
        rehearsal.defer(FAMILY, NOW + timedelta(days=1), "in memory only")
    assert tree(journal_path.parent) == before


def test_reading_where_there_is_nothing_makes_nothing(tmp_path: Path) -> None:
    with open_journal(tmp_path / "state" / JOURNAL_FILE, now=NOW, read_only=True) as journal:
        assert journal.missing
        assert journal.list_runs() == []
        assert journal.verify() == []
    with open_rehearsal(tmp_path / "state" / JOURNAL_FILE, now=NOW) as rehearsal:
        assert rehearsal.open_intents() == []
    assert list(tmp_path.iterdir()) == []


def test_an_old_schema_is_read_in_a_copy(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_FILE
    path.touch()
    before = tree(tmp_path)
    with open_journal(path, now=NOW, read_only=True) as journal:
        assert not journal.missing
        assert journal.open_intents() == []
    assert tree(tmp_path) == before


def test_a_journal_opened_for_reading_records_nothing(journal_path: Path) -> None:
    with open_journal(journal_path, now=NOW, read_only=True) as journal:
        attempts: list[Callable[[], None]] = [
            lambda: journal.begin_run(RUN),
            lambda: journal.append(AuditEntry(at=NOW, run_id="run-1", event="said")),
            lambda: journal.defer(FAMILY, NOW, "later"),
            lambda: journal.lease(FAMILY, "me", NOW, 300).__enter__(),
        ]
        for record in attempts:
            with pytest.raises(JournalError, match="reading only"):
                record()


def test_reading_goes_on_beside_a_run_that_writes(journal_path: Path) -> None:
    with (
        open_journal(journal_path, now=NOW) as writer,
        open_journal(journal_path, now=NOW, read_only=True, busy_seconds=0) as reader,
    ):
        writer.begin_run(RUN)
        assert [run.info.id for run in reader.list_runs()] == ["run-1"]
        writer.end_run("run-1", NOW, 0, {})
        assert [run.exit_code for run in reader.list_runs()] == [0]


def test_a_rehearsal_beside_a_damaged_journal_starts_empty_and_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(b"this is no database at all" * 100)
    before = tree(tmp_path)
    rehearsal = open_rehearsal(path, now=NOW)
    assert isinstance(rehearsal, MemoryJournal)
    assert rehearsal.list_runs() == []
    with pytest.raises(JournalError, match="damaged") as caught:
        open_journal(path, now=NOW, read_only=True)
    assert caught.value.hint
    assert tree(tmp_path) == before


# --- what it costs ------------------------------------------------------------------------------------------------


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_run_lock_does_not_cost_the_import_of_a_database_library() -> None:
    modules = modules_after("from connector.journal import hold_run_lock, MemoryJournal")
    assert "filelock" in modules
    assert "sqlalchemy" not in modules


def test_opening_an_up_to_date_journal_does_not_import_the_migrations(journal_path: Path) -> None:
    modules = modules_after(
        "import datetime; from connector.journal import open_journal\n"
        f"open_journal({str(journal_path)!r}, now=datetime.datetime.now(datetime.UTC)).close()"
    )
    assert "sqlalchemy" in modules
    assert "alembic" not in modules
