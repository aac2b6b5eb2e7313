"""One run at a time on one host and state directory."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connector.errors import ExitCode, JournalError, LockHeld
from connector.journal import Holder, hold_run_lock
from connector.journal.lock import HOLDER_FILE, LOCK_FILE, read_holder

HOLDER = Holder("run-1", "host-a", 4711, "linksub run", datetime(2026, 3, 2, 14, 0, tzinfo=UTC))
SECOND = Holder("run-2", "host-a", 4712, "linksub apply", datetime(2026, 3, 2, 14, 1, tzinfo=UTC))
NAMED = "run run-1 (`linksub run`, process 4711 on host-a, since 2026-03-02T14:00:00+00:00)"


def test_a_second_run_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    with hold_run_lock(tmp_path / "state", HOLDER):
        with pytest.raises(LockHeld) as caught, hold_run_lock(tmp_path / "state", SECOND):
            pytest.fail("two runs")
        # The refused one has not put its own name there.
        assert read_holder(tmp_path / "state") == NAMED
    assert caught.value.holder == NAMED
    assert NAMED in str(caught.value)
    assert caught.value.exit_code is ExitCode.TRY_LATER


def test_the_lock_is_free_again_after_the_run_and_after_a_failure_in_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_run_lock(tmp_path, HOLDER):
        _ = 1 // 0
    assert not (tmp_path / HOLDER_FILE).exists()
    with hold_run_lock(tmp_path, SECOND):
        assert "run-2" in read_holder(tmp_path)


def test_a_name_left_by_a_run_that_died_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    (tmp_path / HOLDER_FILE).write_text(json.dumps({"run_id": "run-0", "host": "host-a", "pid": 1}))
    with hold_run_lock(tmp_path, HOLDER):
        assert read_holder(tmp_path) == NAMED


@pytest.mark.parametrize("left", ["", "{", "[]", '{"run_id": "x"}', '{"pid": "many"}', "\udcff"])
def test_a_name_that_cannot_be_read_does_not_hide_that_the_lock_is_held(tmp_path: Path, left: str) -> None:
    with hold_run_lock(tmp_path, HOLDER):
        (tmp_path / HOLDER_FILE).write_text(left, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(LockHeld, match="has not given its name"), hold_run_lock(tmp_path, SECOND):
            pytest.fail("two runs")


def test_two_state_directories_do_not_know_of_each_other(tmp_path: Path) -> None:
    with hold_run_lock(tmp_path / "a", HOLDER), hold_run_lock(tmp_path / "b", SECOND):
        assert "run-2" in read_holder(tmp_path / "b")


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps access in lists, not in modes")
def test_lock_and_name_are_the_owners_alone(tmp_path: Path) -> None:
    with hold_run_lock(tmp_path / "state", HOLDER):
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert modes == {LOCK_FILE: 0o600, HOLDER_FILE: 0o600}


def test_a_directory_that_cannot_be_made_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalError) as caught, hold_run_lock(tmp_path / "file" / "state", HOLDER):
        pytest.fail("locked nothing")
    assert caught.value.hint
