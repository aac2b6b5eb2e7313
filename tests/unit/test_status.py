"""How things stand, as :mod:`connector.bookkeeping` gathers it from a state directory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.bookkeeping import status
from connector.cli.repeat import parse_interval, pause_after
from connector.config import load_config
from connector.domain.model import SubscriptionId
from connector.errors import ConfigError, UsageError
from connector.journal import SqlJournal, open_journal
from connector.journal.lock import HOLDER_FILE
from connector.report.journal import span
from connector.settings import Config
from connector.sync.ports import RunInfo

from .conftest import NOW

FAMILY = SubscriptionId("f-1")
HOUR = timedelta(hours=1)


@pytest.fixture
def config(journal_path: Path, tmp_path: Path) -> Config:
    file = tmp_path / "config.yaml"
    file.write_text(
        "schema_version: 1\ndataverse: {url: https://contoso.crm4.dynamics.com}\n"
        "sign_in: {tenant_id: contoso.example, client_id: abc, client_secret: env:NOT_SET}\nstate: {directory: state}\n",
        encoding="utf-8",
    )
    return load_config(file, check_secrets=False)


def ended(journal: SqlJournal, number: int, report: dict[str, Any] | None = None, code: int = 0) -> None:
    at = NOW + number * HOUR
    journal.begin_run(RunInfo(f"run-{number}", "ops@host", "run", at, "0.1.0"))
    journal.end_run(f"run-{number}", at + timedelta(seconds=90), code, report or {"outcomes": []})


def outcome(state: str, family: str = FAMILY) -> dict[str, Any]:
    return {"family": family, "name": f"Parent {family}", "state": state, "reason": "why", "remedy": "do", "rule": "R"}


def test_the_last_runs_are_told_newest_first_with_exit_code_and_duration(config: Config, journal_path: Path) -> None:
    with open_journal(journal_path, now=NOW) as journal:
        for number in range(4):
            ended(journal, number, code=3 if number == 2 else 0)
        journal.begin_run(RunInfo("run-9", "ops@host", "run", NOW + 9 * HOUR, "0.1.0"))
    told = status(config, NOW + 10 * HOUR, runs=3)["runs"]
    assert [(run["id"], run["exit_code"], run["seconds"]) for run in told] == [
        ("run-9", None, None),
        ("run-3", 0, 90.0),
        ("run-2", 3, 90.0),
    ]


def test_the_oldest_waiting_change_and_who_needs_a_person_come_from_the_last_report(
    config: Config, journal_path: Path
) -> None:
    waiting = {"log": "log-1", "since": "2026-03-02T14:00:00Z"}
    outcomes = [outcome("held"), outcome("done", "f-2"), outcome("deferred", "f-3"), outcome("unknown", "f-4")]
    with open_journal(journal_path, now=NOW) as journal:
        ended(journal, 1, {"outcomes": [], "oldest_waiting": None})
        ended(journal, 2, {"outcomes": outcomes, "oldest_waiting": waiting})
        journal.begin_run(RunInfo("run-9", "ops@host", "run", NOW + 9 * HOUR, "0.1.0"))
    told = status(config, NOW + 5 * HOUR)
    assert told["oldest_waiting"] == {**waiting, "age_seconds": 5 * 3600}
    assert [one["family"] for one in told["attention"]] == [FAMILY, "f-4"]
    with open_journal(journal_path, now=NOW) as journal:
        ended(journal, 10)
    assert status(config, NOW)["oldest_waiting"] is None


def test_deferrals_leases_and_caches_are_told_with_their_instants(config: Config, journal_path: Path) -> None:
    with open_journal(journal_path, now=NOW) as journal:
        ended(journal, 1, {"outcomes": [outcome("deferred")]})
        journal.defer(FAMILY, NOW + HOUR, "429")
        journal.defer(SubscriptionId("f-2"), NOW - HOUR, "renewal")
        journal.remember("metadata:x@y", json.dumps({"read_at": NOW.isoformat(), "tables": {}}))
        journal.remember("baseline", "17")
        with journal.lease(FAMILY, "host run-8", NOW, 600):
            told = status(config, NOW + timedelta(minutes=20))
    assert [(one["family"], one["name"], one["over"]) for one in told["deferred"]] == [
        ("f-2", "", True),
        (FAMILY, f"Parent {FAMILY}", False),
    ]
    assert [(one["holder"], one["expired"]) for one in told["leases"]] == [("host run-8", True)]
    assert {one["name"]: one["age_seconds"] for one in told["caches"]} == {"baseline": None, "metadata:x@y": 1200}


def test_a_holder_that_is_gone_is_not_told_as_running(config: Config, journal_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    side = journal_path.parent / HOLDER_FILE
    named = {"run_id": "run-1", "host": socket.gethostname(), "command": "run", "since": NOW.isoformat()}
    side.write_text(json.dumps(named | {"pid": int(gone.stdout)}), encoding="utf-8")
    assert status(config, NOW)["running"] is None
    side.write_text(json.dumps(named | {"pid": os.getpid()}), encoding="utf-8")
    assert "run-1" in status(config, NOW)["running"]
    side.write_text(json.dumps(named | {"pid": int(gone.stdout), "host": "elsewhere"}), encoding="utf-8")
    assert "elsewhere" in status(config, NOW)["running"]


def test_the_kill_switch_and_damaged_files_that_were_set_aside_are_told(config: Config, journal_path: Path) -> None:
    quiet = status(config, NOW)
    assert (quiet["kill_switch"]["on"], quiet["set_aside"]) == (False, [])
    Path(quiet["kill_switch"]["file"]).write_text("invoice run, ask Ada\n", encoding="utf-8")
    journal_path.with_name("journal.sqlite3.corrupt-20260302T140000Z").write_bytes(b"x")
    told = status(config, NOW)
    assert (told["kill_switch"]["on"], told["kill_switch"]["text"]) == (True, "invoice run, ask Ada")
    assert len(told["set_aside"]) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90000, "1 d 1 h"), (None, "unknown")],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: int | None, words: str) -> None:
    assert span(seconds) == words


def test_the_pause_between_passes_is_up_to_a_tenth_longer_and_the_same_every_time() -> None:
    pauses = [pause_after(number, 300.0, "https://contoso.crm4.dynamics.com") for number in range(1, 50)]
    assert all(300.0 <= pause <= 330.0 for pause in pauses)
    assert len(set(pauses)) > 40
    assert pauses[0] == pause_after(1, 300.0, "https://contoso.crm4.dynamics.com")
    assert pauses[0] != pause_after(1, 300.0, "https://fabrikam.crm4.dynamics.com")
    assert parse_interval("5m") == 300.0
    with pytest.raises(UsageError, match="--every soon"):
        parse_interval("soon")


def test_a_database_url_without_a_scheme_is_refused_and_makes_no_file_that_is_named_after_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNAL_URL", "ops:canary-password@db/base")
    file = tmp_path / "config.yaml"
    file.write_text(
        "schema_version: 1\ndataverse: {url: https://contoso.crm4.dynamics.com}\n"
        "sign_in: {tenant_id: contoso.example, client_id: abc, client_secret: env:NOT_SET}\n"
        "state: {directory: state, url: env:JOURNAL_URL}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match="no ://") as caught:
        status(load_config(file, check_secrets=False), NOW, runs=3)
    assert "canary" not in str(caught.value) + str(caught.value.hint)
    assert int(caught.value.exit_code) == 78
    assert [path.name for path in tmp_path.iterdir() if "canary" in str(path)] == []
