"""``linksub journal`` and ``linksub status`` as a person types them: what they say, and that looking changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.cli import main
from connector.domain.model import LogId, ProviderSubscriptionId, SubscriptionId, TenantId
from connector.journal import Holder, hold_run_lock, open_journal
from connector.sync.ports import AuditEntry, Intent, IntentState, RunInfo

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
FAMILY = SubscriptionId("96121360-61c0-5295-91c0-a22bd0921fb9")
NASTY = "[red]\x1b]0;owned\x07 note"

Linksub = Callable[..., tuple[int, str, str]]


def intent(number: int) -> Intent:
    return Intent(
        id=f"{number:x}" * 8 + "0" * 24,
        run_id="run-1",
        family=FAMILY,
        provider="partner_center",
        tenant=TenantId("11111111-1111-4111-8111-111111111111"),
        provider_subscription=ProviderSubscriptionId("21caafc0-d671-5761-9943-f9e263f71de6"),
        before=50,
        target=50 + number,
        log_ids=(LogId("37fc7900-1a49-5d20-8d50-23c274f6ac04"),),
        request_id=f"58bf0350-1697-44b9-9ee9-e05bdf07dc0{number}",
        created_at=NOW + timedelta(minutes=number),
    )


CONFIRMED, UNKNOWN, PLANNED = intent(1), intent(2), intent(3)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with one confirmed, one unknown and one planned intent of a run that died."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    with open_journal(directory, now=NOW) as journal:
        journal.begin_run(RunInfo("run-1", "ops@billing", "run", NOW, "0.1.0"))
        for one in (CONFIRMED, UNKNOWN, PLANNED):
            journal.plan(one)
        journal.mark(CONFIRMED.id, IntentState.SENDING, NOW)
        journal.mark(CONFIRMED.id, IntentState.CONFIRMED, NOW, "")
        journal.mark(UNKNOWN.id, IntentState.SENDING, NOW)
        journal.mark(UNKNOWN.id, IntentState.UNKNOWN, NOW, NASTY)
        journal.defer(FAMILY, NOW + timedelta(hours=2), "429: too many requests")
        journal.append(AuditEntry(NOW, "run-1", "parent.quantity", FAMILY, detail={"before": 50, "after": 52}))
    return directory


@pytest.fixture
def linksub(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Linksub:
    """Runs the command line in this process, without any network and without the secret."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "schema_version: 1\ndataverse: {url: https://contoso.crm4.dynamics.com}\n"
        "sign_in: {tenant_id: contoso.example, client_id: abc, client_secret: env:LINKSUB_NOT_SET_ANYWHERE}\n"
        "state: {directory: state}\n",
        encoding="utf-8",
    )

    def run(*arguments: str, columns: int = 160) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        capsys.readouterr()
        code = main(["--config", str(config), *arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def files(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in directory.rglob("*")
        if path.is_file()
    }


READING = [
    ("journal", "list"),
    ("journal", "list", "--open"),
    ("journal", "show", CONFIRMED.id),
    ("journal", "show", "run-1"),
    ("journal", "export"),
    ("journal", "verify"),
    ("status",),
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
@pytest.mark.parametrize("output", ["text", "json"])
def test_looking_changes_not_a_byte(arguments: tuple[str, ...], output: str, state: Path, linksub: Linksub) -> None:
    before = files(state)
    code, out, err = linksub(*arguments, "--output", output)
    assert (code, err) == (0, ""), err
    assert out
    assert files(state) == before


@pytest.mark.parametrize("arguments", [("journal", "list"), ("journal", "export"), ("journal", "verify"), ("status",)])
def test_where_there_is_no_journal_looking_makes_none(
    arguments: tuple[str, ...], tmp_path: Path, linksub: Linksub
) -> None:
    code, _, err = linksub(*arguments)
    assert (code, err) == (0, "")
    assert not (tmp_path / "state").exists()


def assert_fits(out: str, columns: int) -> None:
    """No line is longer than the window, except for an id or a path that would have to be broken."""
    for line in out.splitlines():
        assert len(line) <= columns or max(map(len, line.split())) >= 36, line


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_the_list_names_every_intent_its_seats_and_who_ran_it_however_narrow(
    columns: int, state: Path, linksub: Linksub
) -> None:
    code, out, _ = linksub("journal", "list", columns=columns)
    assert code == 0
    told = " ".join(out.split())
    for one in (CONFIRMED, UNKNOWN, PLANNED):
        assert one.id[:12] in told
        assert f"{one.before} → {one.target}" in told
    assert "ops@billing" in told
    assert "\x1b" not in out
    assert_fits(out, columns)


def test_the_list_can_be_narrowed_and_a_wrong_state_is_refused(state: Path, linksub: Linksub) -> None:
    def ids(*arguments: str) -> list[str]:
        code, out, err = linksub("journal", "list", "--output", "json", *arguments)
        assert code == 0, err
        return [one["id"] for one in json.loads(out)["intents"]]

    assert ids() == [PLANNED.id, UNKNOWN.id, CONFIRMED.id]
    assert ids("--open") == [PLANNED.id, UNKNOWN.id]
    assert ids("--state", "confirmed") == [CONFIRMED.id]
    assert ids("--limit", "1") == [PLANNED.id]
    assert ids("--family", FAMILY.upper()) == ids()
    assert ids("--family", "another") == []
    code, _, err = linksub("journal", "list", "--state", "lost")
    assert code == 64
    assert "unknown" in err


def test_an_intent_is_shown_with_everything_that_it_can_be_blamed_on(state: Path, linksub: Linksub) -> None:
    code, out, _ = linksub("journal", "show", UNKNOWN.id[:8], "--output", "json")
    assert code == 0
    document = json.loads(out)
    assert document["schema_version"] == 1
    shown = document["intent"]
    assert (shown["operator"], shown["run_id"], shown["request_id"]) == ("ops@billing", "run-1", UNKNOWN.request_id)
    assert (shown["before"], shown["target"], shown["log_ids"]) == (50, 52, list(UNKNOWN.log_ids))
    assert [event["state"] for event in document["history"]] == ["planned", "sending", "unknown"]
    assert [entry["event"] for entry in document["audit"]] == ["intent.planned", "intent.sending", "intent.unknown"]
    code, text, _ = linksub("journal", "show", UNKNOWN.id)
    assert UNKNOWN.request_id in text
    assert "\x1b" not in text
    assert "[red]" in text


def test_a_run_is_shown_with_what_it_sent(state: Path, linksub: Linksub) -> None:
    code, out, _ = linksub("journal", "show", "run-1", "--output", "json")
    document = json.loads(out)
    assert (code, document["run"]["operator"], document["run"]["exit_code"]) == (0, "ops@billing", None)
    assert len(document["intents"]) == 3
    assert "parent.quantity" in [entry["event"] for entry in document["audit"]]


@pytest.mark.parametrize("command", [("show", "abcdef123"), ("settle", "abcdef123", "--note", "x"), ("show", "1")])
def test_an_unknown_id_is_a_clear_error(command: tuple[str, ...], state: Path, linksub: Linksub) -> None:
    before = files(state)
    code, out, err = linksub("journal", *command)
    assert (code, out) == (64, "")
    assert command[1] in err
    assert "journal list" in err
    assert files(state) == before


@pytest.mark.parametrize("one", [UNKNOWN, PLANNED])
def test_settling_an_open_intent_is_journaled_with_operator_and_note(
    one: Intent, state: Path, linksub: Linksub
) -> None:
    code, out, err = linksub("journal", "settle", one.id[:10], "--note", "Partner Center shows 52", "--output", "json")
    assert code == 0, err
    assert json.loads(out)["intent"]["state"] == "settled"
    with open_journal(state, now=NOW, read_only=True) as journal:
        assert journal.get_intent(one.id).note == "Partner Center shows 52"
        [last] = journal.audit_trail()[-1:]
        assert last.entry.event == "intent.settled"
        assert last.entry.detail["note"] == "Partner Center shows 52"
        assert str(last.entry.detail["operator"]).count("@") == 1
        assert journal.verify() == []
    code, _, err = linksub("journal", "settle", one.id, "--note", "again")
    assert code == 64
    assert "settled already" in err


def test_settling_refuses_final_intents_and_empty_notes_and_does_not_touch_them(state: Path, linksub: Linksub) -> None:
    before = files(state)
    code, _, err = linksub("journal", "settle", CONFIRMED.id, "--note", "x")
    assert code == 64
    assert "confirmed already" in err
    assert linksub("journal", "settle", UNKNOWN.id, "--note", "  ")[0] == 64
    assert linksub("journal", "settle", UNKNOWN.id)[0] == 64
    assert files(state) == before


def test_settling_waits_for_no_run_but_names_the_one_that_is_at_work(state: Path, linksub: Linksub) -> None:
    with hold_run_lock(state, Holder("run-7", "host", os.getpid(), "run", NOW)):
        code, _, err = linksub("journal", "settle", UNKNOWN.id, "--note", "x")
        assert code == 75
        assert "run-7" in err
        _, out, _ = linksub("status")
        assert "run-7" in out


def test_the_export_is_one_document_per_line_and_a_file_is_never_overwritten(
    state: Path, linksub: Linksub, tmp_path: Path
) -> None:
    _, out, _ = linksub("journal", "export")
    kinds = [json.loads(line)["kind"] for line in out.splitlines()]
    assert kinds[0] == "journal"
    assert {"run", "intent", "intent_event", "audit", "deferral"} <= set(kinds)
    target = tmp_path / "out.jsonl"
    assert linksub("journal", "export", str(target))[0] == 0
    assert target.read_text(encoding="utf-8") == out
    assert target.stat().st_mode & 0o077 == 0
    assert linksub("journal", "export", str(target))[0] == 64


def test_verify_finds_what_somebody_changed_behind_its_back(state: Path, linksub: Linksub) -> None:
    import sqlite3

    assert linksub("journal", "verify")[0] == 0
    with sqlite3.connect(state / "journal.sqlite3") as raw:
        raw.execute("UPDATE intents SET seats_target = 999 WHERE id = ?", (CONFIRMED.id,))
    raw.close()
    code, out, _ = linksub("journal", "verify")
    assert code == 74
    assert CONFIRMED.id in out
    code, out, _ = linksub("journal", "verify", "--output", "json")
    document: dict[str, Any] = json.loads(out)
    assert (code, document["sound"], len(document["problems"]) > 0) == (74, False, True)


def test_a_damaged_file_is_told_and_left_for_the_next_run_to_set_aside(state: Path, linksub: Linksub) -> None:
    (state / "journal.sqlite3").write_bytes(b"not a database at all" * 100)
    before = files(state)
    for arguments in (("status",), ("journal", "verify")):
        code, out, _ = linksub(*arguments)
        assert code == 74
        assert "damaged" in out
    code, _, err = linksub("journal", "list")
    assert code == 74
    assert "hint:" in err
    assert files(state) == before


@pytest.mark.parametrize("columns", [60, 160])
def test_status_tells_what_is_open_deferred_and_unfinished(columns: int, state: Path, linksub: Linksub) -> None:
    code, out, _ = linksub("status", columns=columns)
    told = " ".join(out.split())
    assert code == 0
    for expected in ("sound", "run-1", "not ended", UNKNOWN.id[:12], PLANNED.id[:12], "429: too many requests"):
        assert expected in told
    assert CONFIRMED.id[:12] not in told
    assert_fits(out, columns)
