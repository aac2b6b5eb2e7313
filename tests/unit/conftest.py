"""What the unit tests of the journal share: one journal per implementation, and a word on what was left out."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connector.journal import JOURNAL_FILE, MemoryJournal, SqlJournal, open_journal

POSTGRES = os.environ.get("LINKSUB_TEST_POSTGRES")
DURABLE = ["sqlite", *(["postgres"] if POSTGRES else [])]
NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)

OpenJournal = Callable[[], SqlJournal]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if POSTGRES:
        terminalreporter.write_line("The journal was tested on PostgreSQL, too (LINKSUB_TEST_POSTGRES).")
    else:
        terminalreporter.write_line(
            "Left out: the journal on PostgreSQL. To test it, set LINKSUB_TEST_POSTGRES to the URL of a database "
            "in which schemas may be made, such as postgresql://user@127.0.0.1/test."
        )


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


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """The URL of an empty schema of its own on the server that the environment names."""
    from sqlalchemy import create_engine, make_url, text

    assert POSTGRES is not None
    base = make_url(POSTGRES).set(drivername="postgresql+psycopg")
    name = f"linksub_{uuid.uuid4().hex}"
    engine = create_engine(base)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    yield base.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    engine.dispose()


@pytest.fixture(params=DURABLE)
def reopen(request: pytest.FixtureRequest) -> OpenJournal:
    """Opens one and the same durable journal, again and again; the test closes what it opened."""
    location = request.getfixturevalue("journal_path" if request.param == "sqlite" else "postgres_url")
    return lambda: open_journal(location, now=NOW)


@pytest.fixture(params=["memory", *DURABLE])
def journal(request: pytest.FixtureRequest) -> Iterator[MemoryJournal | SqlJournal]:
    """An empty journal of every implementation."""
    if request.param == "memory":
        yield MemoryJournal()
        return
    location = request.getfixturevalue("journal_path" if request.param == "sqlite" else "postgres_url")
    with open_journal(location, now=NOW) as opened:
        yield opened
